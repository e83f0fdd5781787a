import { writeFile } from 'node:fs/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { silentLogger } from '../../src/common/log.ts';
import { PgarkError } from '../../src/common/errors.ts';
import { loadConfig } from '../../src/config/load.ts';
import { operationContext } from '../../src/operations/context.ts';
import { Repository } from '../../src/repository/repository.ts';
import { removeBackup } from '../../src/repository/remove-backup.ts';
import { TriedSeries } from '../../src/service/drill-series.ts';
import { planProofs } from '../../src/service/proof-jobs.ts';
import { runProof } from '../../src/service/proof-run.ts';
import type { DrillReport } from '../../src/service/reports.ts';
import { Stores } from '../../src/service/stores.ts';
import { Teller } from '../../src/service/tell.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { filePlace } from '../support/archive-restoring.ts';
import { proofsIn, workFolder } from '../support/drills.ts';
import { FaultyStore } from '../support/faulty-store.ts';
import { createDatabase, type TestDatabase } from '../support/postgres.ts';
import { makeStockArchive } from '../support/stock-archive.ts';
import { makeTempDirectory } from '../support/temp.ts';

let source: TestDatabase;
let work: Awaited<ReturnType<typeof workFolder>>;

beforeAll(async () => {
  work = await workFolder();
  source = await createDatabase({ name: 'src', sql: 'CREATE TABLE t AS SELECT 1 AS a' });
});
afterAll(async () => {
  await source[Symbol.asyncDispose]();
  await work[Symbol.asyncDispose]();
});

/** Carries out the drill that a configuration has of the source `shop`, whose storages are these. */
async function drillShop(stores: Readonly<Record<string, ObjectStore | undefined>>) {
  await using folder = await makeTempDirectory();
  const settings = {
    version: 1,
    storages: Object.fromEntries(Object.keys(stores).map((name) => [name, { type: 'file', path: `/nowhere/${name}` }])),
    defaults: { retry: { attempts: 1 } },
    databases: { shop: { url: source.url, jobs: {}, drill: { schedule: '@daily', work_dir: work.path } } },
  };
  await writeFile(folder.join('pgark.yaml'), JSON.stringify(settings));
  const config = await loadConfig({ file: 'pgark.yaml', env: {}, cwd: folder.path });
  const openStore = ({ name }: { readonly name: string }): Promise<ObjectStore> => {
    const store = stores[name];
    return store === undefined
      ? Promise.reject(new PgarkError('store-unreachable', `${name} is away`))
      : Promise.resolve(store);
  };
  const context = operationContext();
  const teller = new Teller({ ...context, openStore });
  const told: DrillReport[] = [];
  teller.drill = async (_, report) => void told.push(report);
  const [job] = planProofs(config);
  if (job === undefined) throw new Error('no drill is configured');
  const stored = new Stores({ openStore }, silentLogger);
  const error = await runProof(job, { config, stores: stored, context, teller, tried: new TriedSeries() });
  return { error, told };
}

test('a storage that is away is told of, and the backups in another one are tried all the same', async () => {
  await using near = await filePlace();
  const { id } = await makeStockArchive(source, near.store);
  const { error, told } = await drillShop({ far: undefined, near: near.store });
  expect(error).toMatchObject({ code: 'store-unreachable', message: 'far is away' });
  expect(told).toMatchObject([
    { storage: 'far', backupId: undefined, error: { code: 'store-unreachable' } },
    { storage: 'near', backupId: id, error: undefined },
  ]);
  expect(await proofsIn(near.store)).toMatchObject([{ backupId: id, passed: true }]);
  await work.expectEmpty();
});

test('a backup that retention deletes while it is tried is no failure: the next one is tried', async () => {
  await using near = await filePlace();
  const older = await makeStockArchive(source, near.store);
  const newest = await makeStockArchive(source, near.store);
  const repository = new Repository(near.store, operationContext());
  const store = new FaultyStore(near.store, {
    before: async ({ method, key }) => {
      if (method === 'get' && key.includes(newest.id) && !key.startsWith('.pgark/')) {
        await removeBackup(repository, newest);
      }
    },
  });
  const { error, told } = await drillShop({ near: store });
  expect(error).toBeUndefined();
  expect(told).toMatchObject([{ storage: 'near', backupId: older.id, error: undefined }]);
  expect(await proofsIn(near.store)).toMatchObject([{ backupId: older.id, passed: true }]);
  await work.expectEmpty();
});

test('where retention deletes the only one, nothing is left to try, and nobody is alarmed', async () => {
  await using near = await filePlace();
  const only = await makeStockArchive(source, near.store);
  const repository = new Repository(near.store, operationContext());
  const store = new FaultyStore(near.store, {
    before: async ({ method, key }) => {
      if (method === 'get' && key.includes(only.id) && !key.startsWith('.pgark/')) await removeBackup(repository, only);
    },
  });
  expect(await drillShop({ near: store })).toEqual({ error: undefined, told: [] });
  await work.expectEmpty();
});
