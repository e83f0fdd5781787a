import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { expectExit, pgarkJson, succeed } from '../support/backups.ts';
import { runPgark } from '../support/cli.ts';
import { Cluster } from '../support/cluster.ts';
import { backUpServer, manifestOf, ServerFolder } from '../support/physical.ts';
import { openS3Store } from '../support/s3-store.ts';
import { type TwoStorages, twoStorages } from '../support/two-storages.ts';
import { flushedLsn, startReceiving } from '../support/wal-receiving.ts';

const stack = new AsyncDisposableStack();
let cluster: Cluster;
let folder: ServerFolder;
let places: TwoStorages;
/** The base backup in `near`, behind which all WAL is archived, and the newer one in `far`, behind which none is. */
let inNear: string;
let inFar: string;
/** A moment behind both. */
let moment: string;

beforeAll(async () => {
  cluster = stack.use(await Cluster.start({ initdb: ['--wal-segsize=1'] }));
  folder = stack.use(await ServerFolder.make(cluster.binDir));
  const job = { format: 'physical', schedule: '@daily', to: ['near', 'far'], retention: 'one' };
  const url = `postgres://postgres@127.0.0.1:${cluster.port}/postgres`;
  places = stack.use(
    await twoStorages(
      { main: { url, jobs: { base: job }, wal: { to: ['near'], slot: 'main' } } },
      { retention: { one: { keep: { last: 1 }, min_backups: 1 } } },
    ),
  );
  const stores = [places.near, places.far].map(({ bucket }) => openS3Store(bucket.name));
  for (const store of stores) stack.defer(() => store.close());
  const [near, far] = stores.map((store, index) => ({
    destination: { name: ['near', 'far'][index] ?? '', store, needsDelete: false },
  }));
  if (near === undefined || far === undefined) throw new Error('there are two');
  await using receiving = startReceiving(cluster, [near.destination.store], { source: 'main', slot: 'main' });
  await receiving.streams();
  await cluster.sql('create table numbered as select 1 as n');
  inNear = manifestOf(await backUpServer(cluster, [near])).id;
  await cluster.sql('insert into numbered values (2)');
  inFar = manifestOf(await backUpServer(cluster, [far])).id;
  await cluster.sql('insert into numbered values (3)');
  moment = await cluster.value(`select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`);
  await cluster.sql('insert into numbered values (4)');
  await receiving.archives(await flushedLsn(cluster));
  await receiving.stop();
}, 300_000);
afterAll(() => stack.disposeAsync());

/** From where a recovery would begin; nothing is restored. */
async function planned(args: readonly string[], away?: 'near' | 'far') {
  const command = ['restore', ...args, '--to-dir', folder.join('planned'), '--plan', '-o', 'json'];
  const { exitCode, stdout, stderr } = await runPgark(command, { env: await places.env(away) });
  const { storage, backup, error } = JSON.parse(stdout) as {
    storage?: string;
    backup?: { id: string };
    error?: { code: string; message: string };
  };
  return { exitCode, storage, id: backup?.id, error, stderr };
}

describe('a recovery out of several storages', { timeout: 300_000 }, () => {
  test('to the end begins where the log leads furthest, not where the newest base backup is', async () => {
    const found = await planned([]);
    expect(found).toMatchObject({ exitCode: 0, storage: 'near', id: inNear });
    expect(found.stderr).toMatch(
      new RegExp(
        `taking from near, which has the newest: ${inNear} of \\S+ and what is archived up to \\S+ of timeline 1; ${inFar} of .* in far`,
      ),
    );
    expect(await planned(['--immediate'])).toMatchObject({ storage: 'far', id: inFar });
    expect(await planned([inFar])).toMatchObject({ storage: 'far', id: inFar });
    const missed = await planned([], 'near');
    expect(missed).toMatchObject({ exitCode: 0, storage: 'far', id: inFar });
    expect(missed.stderr).toMatch(
      /WARNING storage near is passed over: .*; it may hold something newer than what far has/,
    );
  });

  test('to a moment takes the storage whose log leads there, with base backup and log from there', async () => {
    const found = await planned(['--at', moment]);
    expect(found).toMatchObject({ exitCode: 0, storage: 'near', id: inNear });
    const missed = await planned(['--at', moment], 'near');
    expect(missed.exitCode).not.toBe(0);
    expect(missed.error?.message).toMatch(/^no storage has what was asked for: in near: .*127\.0\.0\.1:1.*; in far: /);
    const data = folder.join('restored');
    await folder.makeFolder(data);
    // The restored server fetches by its own account.
    const settings = folder.join('settings');
    await folder.makeFolder(settings);
    const { PGARK_CONFIG: file = '' } = await places.env();
    await writeFile(path.join(settings, 'pgark.yaml'), await readFile(file), { mode: 0o644 });
    const env = { PGARK_CONFIG: path.join(settings, 'pgark.yaml') };
    await succeed(['restore', '--at', moment, '--to-dir', data], env);
    const server = await folder.start(data);
    expect(await server.sql('select n from numbered order by n')).toEqual([{ n: 1 }, { n: 2 }, { n: 3 }]);
    await folder.stop(data);
  });

  test('from a pinned base backup goes on when a prune has let others go', async () => {
    const env = await places.env();
    await using receiving = startReceiving(cluster, [openNear()], { source: 'main', slot: 'main' });
    await receiving.streams();
    const [near] = [{ destination: { name: 'near', store: openNear(), needsDelete: false } }];
    const second = manifestOf(await backUpServer(cluster, [near])).id;
    await cluster.sql('insert into numbered select generate_series(5, 5000)');
    manifestOf(await backUpServer(cluster, [near]));
    await receiving.archives(await flushedLsn(cluster));
    await receiving.stop();
    await succeed(['pin', inNear, '--reason', 'before'], env);
    const pruned = await pgarkJson<{ storages: readonly { storage: string; removed: string[] }[] }>(
      ['prune', '--force'],
      env,
    );
    expect(pruned.storages[0]).toMatchObject({ storage: 'near', removed: [second] });
    const data = folder.join('pinned');
    await folder.makeFolder(data);
    await succeed(['restore', inNear, '--immediate', '--to-dir', data], env);
    const server = await folder.start(data);
    expect(await server.sql('select n from numbered')).toEqual([{ n: 1 }]);
    await folder.stop(data);
    await succeed(['unpin', inNear], env);
    expectExit(await runPgark(['prune', '--force'], { env }), 0);
    expectExit(await runPgark(['show', inNear], { env }), 10);
  });
});

function openNear() {
  const store = openS3Store(places.near.bucket.name);
  stack.defer(() => store.close());
  return store;
}
