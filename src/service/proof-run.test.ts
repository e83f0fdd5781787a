import { afterEach, beforeEach, expect, test } from 'vitest';
import { FaultyStore, type StoreCall } from '../../test/support/faulty-store.ts';
import { MemoryStore } from '../../test/support/memory-store.ts';
import { HistoryPlace } from '../../test/support/protection.ts';
import { seedBackups } from '../../test/support/seed.ts';
import { TellingPlace } from '../../test/support/telling.ts';
import { addWholeBackup } from '../../test/support/whole-backup.ts';
import { PgarkError } from '../common/errors.ts';
import { silentLogger } from '../common/log.ts';
import { operationContext } from '../operations/context.ts';
import { listRunRecords } from '../runs/list-run-records.ts';
import { TriedSeries } from './drill-series.ts';
import type { ProofJob } from './proof-jobs.ts';
import { runProof } from './proof-run.ts';
import { Stores } from './stores.ts';
import type { Teller } from './tell.ts';
import { VerifiedLines } from './verified-lines.ts';

const at = new Date('2026-11-20T02:00:05Z');

let place: TellingPlace;
beforeEach(async () => {
  place = await TellingPlace.open({ on: '[verify_failed, drill_failed, recovery]' });
});
afterEach(async () => place[Symbol.asyncDispose]());

/** Carries out a proof of the source `shop`, without tries again. */
async function prove(
  kind: ProofJob['kind'],
  {
    tried = new TriedSeries(),
    teller = place.teller(),
    verified,
  }: { readonly tried?: TriedSeries; readonly teller?: Teller; readonly verified?: VerifiedLines } = {},
) {
  const source = place.config.databases.get('shop');
  if (source === undefined) throw new Error('there is no such source');
  const config = { ...place.config, retry: { ...place.config.retry, retriesMax: 0 } };
  const { openStore } = place.world();
  const stores = new Stores({ openStore }, silentLogger);
  const storages = [...config.storages.values()];
  const job = { id: `shop (${kind})`, kind, source, schedule: undefined, storages };
  const { logger } = place.world();
  return runProof(job, { config, stores, context: operationContext({ logger }), teller, tried, verified });
}

test('a verification whose storage is away is told, recorded in another one, and told of when it works again', async () => {
  const near = new HistoryPlace(at);
  await near.repository.initialise({ pgarkVersion: '0.1.0' });
  place.stores.set('nas', near.store);
  place.stores.delete('r2');
  expect(await prove('verify')).toMatchObject({
    code: 'store-unreachable',
    message: 'the backups in r2 could not be verified: r2 is away',
  });
  expect(place.texts).toEqual([expect.stringContaining('the backups in r2 could not be verified: r2 is away')]);
  const records = await listRunRecords(near.store, { since: new Date(0) });
  expect(records).toMatchObject([
    { kind: 'verify', source: 'shop', state: 'failed', error: { code: 'store-unreachable' } },
  ]);
  // The same again is no news.
  await prove('verify');
  expect(place.texts).toHaveLength(1);

  const manifest = await new HistoryPlace(at).backup(new Date('2026-11-19T02:00:00Z'));
  const backups = [{ manifest, depth: 'read', failure: undefined }] as const;
  const report = { endedAt: at, damaged: [], complete: true, backups };
  await place.teller().verification(place.config, { ...report, storage: 'nas' });
  expect(place.texts).toHaveLength(1);
  await place.teller().verification(place.config, { ...report, storage: 'r2' });
  expect(place.texts).toHaveLength(2);
  expect(place.texts[1]).toContain('verification passes again');
});

test('a verification that nothing may be recorded of is known to the process that made it', async () => {
  const near = new HistoryPlace(at);
  await near.repository.initialise({ pgarkVersion: '0.1.0' });
  for (const day of [18, 19]) await addWholeBackup(near.store, 'shop', new Date(`2026-11-${day}T02:00:00Z`));
  const before = ({ method, key }: StoreCall): void => {
    if (method === 'putSmall') throw new PgarkError('store-access-denied', `${key} may not be written`);
  };
  for (const name of ['r2', 'nas']) place.stores.set(name, new FaultyStore(near.store, { before }));
  const verified = new VerifiedLines();
  expect(await prove('verify', { verified })).toBeUndefined();
  const history = await near.history();
  expect(history.verifications.size).toBe(0);
  expect(verified.addTo('r2', history)?.verifications.size).toBe(1);
  expect(verified.addTo('another', history)?.verifications.size).toBe(0);
});

test('a drill tells of the storages that are away, each by its name, and looks into the others', async () => {
  place.stores.delete('r2');
  expect(await prove('drill')).toMatchObject({ code: 'store-unreachable' });
  expect(place.texts).toEqual([expect.stringContaining('r2 is away')]);
  expect(place.opened).toContain('nas');
});

test('a verification or drill of a source that has no backup anywhere says so', async () => {
  for (const kind of ['verify', 'drill'] as const) {
    expect(await prove(kind)).toBeUndefined();
    expect(place.lines.at(-1)).toContain(`${kind}.nothing`);
  }
});

test('each database has its turn where no proof of a drill can be recorded', async () => {
  const memory = new MemoryStore();
  const databases = ['a', 'b', 'c'];
  // Nothing but their manifests is there: each is tried, and fails.
  for (const database of databases) await seedBackups(memory, { source: 'shop', database, times: [at] });
  place.stores.set(
    'nas',
    new FaultyStore(memory, {
      before: ({ method }) => {
        if (method === 'putSmall') throw new PgarkError('store-access-denied', 'it may only be read');
      },
    }),
  );
  const tried = new TriedSeries();
  const teller = place.teller();
  const drilled: unknown[] = [];
  teller.drill = async (_, { database }) => void drilled.push(database);
  for (const _ of databases) await prove('drill', { tried, teller });
  expect(new Set(drilled)).toEqual(new Set(databases));
});
