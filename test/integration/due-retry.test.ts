import { writeFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { PgarkError } from '../../src/common/errors.ts';
import { loadConfig } from '../../src/config/load.ts';
import { runDue } from '../../src/service/due-run.ts';
import { type JobReport, stateOf } from '../../src/service/job-report.ts';
import { Turns } from '../../src/service/turns.ts';
import { urlOf } from '../support/backups.ts';
import { FaultyStore, type StoreCall } from '../support/faulty-store.ts';
import { MemoryStore } from '../support/memory-store.ts';
import { createDatabase } from '../support/postgres.ts';
import { serviceWorld } from '../support/service-world.ts';
import { makeTempDirectory } from '../support/temp.ts';

type Faults = Readonly<Record<string, (call: StoreCall, attempt: number) => void | Promise<void>>>;

/** Carries out a due time of a job with three attempts, over stores in memory that fail as said. */
async function due({
  source,
  faults,
  begin = () => {},
  signal,
}: {
  readonly source: object;
  readonly faults: Faults;
  /** Whatever it throws keeps an attempt as a whole from beginning. */
  readonly begin?: (attempt: number) => void;
  readonly signal?: AbortSignal;
}) {
  await using folder = await makeTempDirectory();
  const names = Object.keys(faults);
  const text = JSON.stringify({
    version: 1,
    storages: Object.fromEntries(names.map((name) => [name, { type: 'file', path: `/nowhere/${name}` }])),
    databases: { main: { ...source, jobs: { nightly: { format: 'plain', to: names } } } },
  });
  await writeFile(folder.join('pgark.yaml'), text);
  const config = await loadConfig({ file: 'pgark.yaml', env: {}, cwd: folder.path });
  const reports: JobReport[] = [];
  const stores = new Map(
    Object.entries(faults).map(([name, fail]) => {
      const before = (call: StoreCall): void | Promise<void> => fail(call, reports.length + 1);
      return [name, new FaultyStore(new MemoryStore(), { before })];
    }),
  );
  const openStore = ({ name }: { readonly name: string }): Promise<FaultyStore> => {
    const store = stores.get(name);
    return store === undefined ? Promise.reject(new Error(`${name} is not configured`)) : Promise.resolve(store);
  };
  const { generation, logger } = await serviceWorld(
    {},
    { config, openStore, ...(signal === undefined ? {} : { signal }) },
  );
  const [job] = generation.jobs;
  if (job === undefined) throw new Error('there is one job');
  const sealerOf = (): Promise<undefined> =>
    Promise.resolve().then(() => {
      begin(reports.length + 1);
      return undefined;
    });
  await runDue(
    job,
    { id: job.id, dueAt: new Date(), nextFireAt: undefined, resumes: false },
    {
      world: {
        ...generation.world({ onRunEnded: (report) => void reports.push(report) }),
        adapters: { sealerOf },
      },
      turns: new Turns(1),
      retry: { retriesMax: 2, delayMs: 10, delayMsMax: 1_000 },
      stopping: new AbortController().signal,
      nextRunNumber: () => reports.length + 1,
    },
  );
  const made = reports.map(({ results }) =>
    results.map(({ database, storage, error }) => `${database} ${storage} ${error?.code ?? 'ok'}`),
  );
  const keysIn = async (name: string): Promise<string[]> => {
    const keys: string[] = [];
    for await (const { key } of (await openStore({ name })).list('')) keys.push(key);
    return keys;
  };
  return { reports, made, states: reports.map(stateOf), events: logger.events(), keysIn };
}

/** Fails what is written of globals in the first attempts. */
function failingGlobals(attempts: number): Faults[string] {
  return ({ method, key }, attempt) => {
    if (attempt <= attempts && method === 'putStream' && key.includes('/globals/')) throw away();
  };
}

function away(): PgarkError {
  return new PgarkError('store-unreachable', 'the store is away');
}

function patterns(...databases: readonly string[]): object {
  return { url: urlOf('postgres'), databases };
}

test('globals alone that failed are stored by the next attempt, which makes no other backup', async () => {
  await using one = await createDatabase({ name: 'one' });
  await using two = await createDatabase({ name: 'two' });
  const source = patterns(one.name, two.name);
  const { reports, made, states, keysIn } = await due({ source, faults: { a: failingGlobals(2), b: () => {} } });
  const [first = [], ...others] = made;
  expect(first.toSorted()).toEqual(
    [
      '(globals) a store-unreachable',
      ...[one, two].flatMap(({ name }) => ['a', 'b'].map((storage) => `${name} ${storage} ok`)),
    ].toSorted(),
  );
  expect(others).toEqual([['(globals) a store-unreachable'], []]);
  expect(reports.map(({ globalsIn }) => globalsIn)).toEqual([['b'], [], ['a']]);
  expect(states.at(-1)).toBe('succeeded');
  const keys = await keysIn('a');
  expect(keys.filter((key) => key.startsWith('.pgark/globals/'))).toHaveLength(1);
  expect(keys.filter((key) => key.startsWith('.pgark/backups/'))).toHaveLength(2);
});

test('globals that never could be stored leave the run failed', async () => {
  await using database = await createDatabase({ name: 'one' });
  const { made, states, events } = await due({
    source: { url: urlOf(database.name) },
    faults: { a: failingGlobals(Infinity) },
  });
  expect(made.slice(1)).toEqual([['(globals) a store-unreachable'], ['(globals) a store-unreachable']]);
  expect(states).toEqual(['partial', 'partial', 'partial']);
  expect(events).not.toContain('job.succeeded');
});

test('a database that is dropped before it is tried again stays one that failed', async () => {
  await using kept = await createDatabase({ name: 'kept' });
  await using dropped = await createDatabase({ name: 'dropped before its retry' });
  const { made, states } = await due({
    source: { ...patterns(kept.name, 'dropped before its retry *'), globals: 'none' },
    faults: {
      a: async ({ method, key }) => {
        if (method !== 'putStream' || !key.includes(dropped.name.split(' ').at(-1) ?? '?')) return;
        await dropped.drop();
        throw away();
      },
    },
  });
  expect(made[0]?.toSorted()).toEqual([`${dropped.name} a store-unreachable`, `${kept.name} a ok`]);
  expect(new Set(made.slice(1).flat())).toEqual(new Set([`${dropped.name} a store-unreachable`]));
  expect(states.at(-1)).toBe('partial');
});

test('each database is tried again where it failed, and nowhere else', async () => {
  await using one = await createDatabase({ name: 'one' });
  await using two = await createDatabase({ name: 'two' });
  const failing =
    (name: string): Faults[string] =>
    ({ method, key }, attempt) => {
      if (attempt === 1 && method === 'putStream' && key.includes(name.split(' ')[1] ?? '?')) throw away();
    };
  const { made, states } = await due({
    source: { ...patterns(one.name, two.name), globals: 'none' },
    faults: { a: failing(one.name), b: failing(two.name) },
  });
  expect(made[1]?.toSorted()).toEqual([`${one.name} a ok`, `${two.name} b ok`].toSorted());
  expect(made).toHaveLength(2);
  expect(states.at(-1)).toBe('succeeded');
});

test('an attempt that fails as a whole makes nobody forget which databases have their backup', async () => {
  await using one = await createDatabase({ name: 'one' });
  await using two = await createDatabase({ name: 'two' });
  const { reports, made, states, keysIn } = await due({
    source: { ...patterns(one.name, two.name), globals: 'none' },
    faults: {
      a: ({ method, key }, attempt) => {
        if (attempt === 1 && method === 'putStream' && key.includes(two.name.split(' ')[1] ?? '?')) throw away();
      },
    },
    begin: (attempt) => {
      if (attempt === 2) throw new PgarkError('postgres-unreachable', 'the server is away');
    },
  });
  expect(made[0]?.toSorted()).toEqual([`${one.name} a ok`, `${two.name} a store-unreachable`].toSorted());
  expect(made.slice(1)).toEqual([[`${two.name} a postgres-unreachable`], [`${two.name} a ok`]]);
  expect(reports[2]?.standing).toMatchObject([{ database: one.name, error: undefined }]);
  expect(states.at(-1)).toBe('succeeded');
  expect((await keysIn('a')).filter((key) => key.startsWith('.pgark/backups/'))).toHaveLength(2);
});

test('a storage that failed for good stays failed while another one is tried again', async () => {
  await using database = await createDatabase({ name: 'one' });
  const denied = new PgarkError('store-access-denied', 'no');
  const { reports, made, states, events } = await due({
    source: { url: urlOf(database.name), globals: 'none' },
    faults: {
      a: ({ method, key }) => {
        if (method === 'putStream' && !key.startsWith('.pgark/')) throw denied;
      },
      b: ({ method }, attempt) => {
        if (attempt === 1 && method === 'putStream') throw away();
      },
    },
  });
  expect(made).toEqual([
    [`${database.name} a store-access-denied`, `${database.name} b store-unreachable`],
    [`${database.name} b ok`],
  ]);
  expect(reports[1]?.standing).toMatchObject([{ storage: 'a', error: { code: 'store-access-denied' } }]);
  expect(states).toEqual(['failed', 'partial']);
  expect(events).not.toContain('job.succeeded');
});

test('globals that failed for good are tried again beside another database, and their success counts', async () => {
  await using one = await createDatabase({ name: 'one' });
  await using two = await createDatabase({ name: 'two' });
  const { reports, states } = await due({
    source: patterns(one.name, two.name),
    faults: {
      a: ({ method, key }, attempt) => {
        if (attempt > 1 || method !== 'putStream') return;
        if (key.includes('/globals/')) throw new PgarkError('store-access-denied', 'no');
        if (key.includes(two.name.split(' ')[1] ?? '?')) throw away();
      },
    },
  });
  expect(states).toEqual(['partial', 'succeeded']);
  expect(reports[1]).toMatchObject({ standing: [{ database: one.name, error: undefined }], globalsIn: ['a'] });
});

test('a run that is cut off between two of its databases is one that was interrupted', async () => {
  await using one = await createDatabase({ name: 'one' });
  await using two = await createDatabase({ name: 'two' });
  const stop = new AbortController();
  const { made, states } = await due({
    source: { ...patterns(one.name, two.name), globals: 'none' },
    faults: {
      a: ({ method, key }) => {
        if (method === 'putSmall' && key.startsWith('.pgark/backups/')) stop.abort(new Error('it is to end'));
      },
    },
    signal: stop.signal,
  });
  expect(made).toEqual([[`${one.name} a ok`, 'undefined a interrupted']]);
  expect(states).toEqual(['partial']);
});
