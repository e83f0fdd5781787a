import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { systemClock } from '../../src/common/clock.ts';
import { PgarkError } from '../../src/common/errors.ts';
import { type Logger, silentLogger } from '../../src/common/log.ts';
import { backUp, errorOf, fileDestination } from '../support/destinations.ts';
import { DamagingStore } from '../support/damaging-store.ts';
import { drillIn, proofsIn, workFolder } from '../support/drills.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { createDatabase, type TestDatabase } from '../support/postgres.ts';

let source: TestDatabase;
let work: Awaited<ReturnType<typeof workFolder>>;

beforeAll(async () => {
  work = await workFolder();
  source = await createDatabase({
    name: 'src',
    sql: `CREATE TABLE t AS SELECT n, md5(n::text) AS text FROM generate_series(1, 5000) n`,
  });
});
afterAll(async () => {
  await source[Symbol.asyncDispose]();
  await work[Symbol.asyncDispose]();
});

const isData = (key: string): boolean => !key.startsWith('.pgark/') && !key.endsWith('manifest.json');

describe.each([
  ['SQL', { format: 'plain' }],
  ['an archive', { format: 'directory', jobs: 2 }],
] as const)('a drill of a dump in %s', (_, format) => {
  test('passes where a byte is damaged on the way once, and says so', async () => {
    await using place = await fileDestination('place');
    await backUp(source, [place], format);
    let reads = 0;
    const store = new DamagingStore(place.store, (key) => isData(key) && ++reads === 1);
    const warnings: string[] = [];
    const logger: Logger = { ...silentLogger, warning: (event) => warnings.push(event), child: () => logger };
    await drillIn(store, work, { assertions: [{ sql: 'select count(*) = 5000 from t' }] }, { logger });
    expect(warnings).toEqual(['drill.doubted', 'drill.repeated']);
    expect(await proofsIn(place.store)).toMatchObject([{ passed: true }]);
    await work.expectEmpty();
  });

  test('fails where what is stored is damaged, and names the object', async () => {
    await using place = await fileDestination('place');
    await backUp(source, [place], format);
    const damaged = new Set<string>();
    const store = new DamagingStore(place.store, (key) => {
      if (isData(key) && damaged.size === 0) damaged.add(key);
      return damaged.has(key);
    });
    const error = await errorOf(drillIn(store, work));
    expect(error).toMatchObject({ code: 'corrupt', exitCode: 20 });
    expect(error.message).toContain([...damaged][0]);
    expect(await proofsIn(place.store)).toMatchObject([{ passed: false, error: { code: 'corrupt' } }]);
    await work.expectEmpty();
  });
});

test('what a drill found first counts where its time is over before it could look once more', async () => {
  await using place = await fileDestination('place');
  await backUp(source, [place], { format: 'plain' });
  const clock = new ManualClock(systemClock.now());
  let reads = 0;
  const store = new DamagingStore(place.store, (key) => isData(key) && ++reads === 1, {
    before: async ({ method, key }) => {
      if (method === 'get' && isData(key) && reads > 0) await clock.advance(60_000);
    },
  });
  const error = await errorOf(drillIn(store, work, { limitMs: 60_000 }, { clock }));
  expect(error).toMatchObject({ code: 'corrupt', exitCode: 20 });
  expect(await proofsIn(place.store)).toMatchObject([{ passed: false, error: { code: 'corrupt' } }]);
  await work.expectEmpty();
});

test('what a drill found first is told where the storage is away before it could look once more', async () => {
  await using place = await fileDestination('place');
  await backUp(source, [place], { format: 'plain' });
  let reads = 0;
  const store = new DamagingStore(place.store, (key) => isData(key) && ++reads === 1, {
    before: ({ method, key }) => {
      if (method === 'get' && isData(key) && reads > 0) throw new PgarkError('store-unreachable', 'it is away');
    },
  });
  const warnings: string[] = [];
  const warning = (event: string, message: string): void => void warnings.push(`${event}: ${message}`);
  const logger: Logger = { ...silentLogger, warning, child: () => logger };
  const error = await errorOf(drillIn(store, work, {}, { logger }));
  const found = /SHA-256|damaged|checksum|corrupt/i;
  expect(error).toMatchObject({ code: 'store-unreachable', message: expect.stringMatching(found) });
  expect(error.message).toMatch(/^it is away; /);
  expect(warnings).toEqual([expect.stringMatching(/^drill\.doubted: .* seems damaged/)]);
  expect(warnings[0]).toMatch(found);
  expect(await proofsIn(place.store)).toEqual([]);
  await work.expectEmpty();
});
