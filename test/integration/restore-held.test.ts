import { writeFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { operationContext } from '../../src/operations/context.ts';
import { prune, type PruneOutcome } from '../../src/operations/prune.ts';
import { keys } from '../../src/repository/keys.ts';
import type { Manifest } from '../../src/repository/manifest.ts';
import { Repository } from '../../src/repository/repository.ts';
import type { RunResult } from '../support/cli.ts';
import { Cluster } from '../support/cluster.ts';
import { workFolder } from '../support/drills.ts';
import { startFaultProxy } from '../support/fault-proxy.ts';
import { FaultyStore } from '../support/faulty-store.ts';
import { MemoryStore } from '../support/memory-store.ts';
import { backUpServer, manifestOf, restoreServer, ServerFolder } from '../support/physical.ts';
import { createDatabase } from '../support/postgres.ts';
import { databaseNames, dumpOf, futureDatabase, makeBackup, pgark, said } from '../support/restoring.ts';
import { s3Storage } from '../support/storage.ts';
import { makeTempDirectory } from '../support/temp.ts';

const SQL = `CREATE TABLE t AS SELECT i, md5(i::text) AS h FROM generate_series(1, 2000) i`;

/** Three backups of a database in S3, of which a prune leaves the last, and the storage as it is seen through a proxy. */
async function openScene() {
  const stack = new AsyncDisposableStack();
  const storage = stack.use(await s3Storage());
  const proxy = stack.use(await startFaultProxy(storage.env['S3_ENDPOINT'] ?? ''));
  const folder = stack.use(await makeTempDirectory());
  const work = stack.use(await workFolder());
  const database = stack.use(await createDatabase({ name: 'src', sql: SQL }));
  const env = { BACKUP_RETENTION_DAYS: 'forever' };
  const [read, unread, last] = [
    await makeBackup({ database, storage, env }),
    await makeBackup({ database, storage, env }),
    await makeBackup({ database, storage, env }),
  ];
  await writeFile(
    folder.join('pgark.yaml'),
    `version: 1
storages:
  store:
    { type: s3, bucket: "${storage.env['S3_BUCKET']}", prefix: prefix, endpoint: "${storage.env['S3_ENDPOINT']}",
      region: "${storage.env['S3_REGION']}", access_key_id: "\${KEY_ID}", secret_access_key: "\${KEY_SECRET}" }
retention: { newest: { keep: { last: 1 }, min_backups: 1 } }
databases:
  ${JSON.stringify(database.name)}:
    url: ${JSON.stringify(database.url)}
    jobs: { dump: { format: plain, retention: newest } }
`,
  );
  const pruneAll = async (...more: readonly string[]): Promise<RunResult> => {
    const { S3_ACCESS_KEY_ID: KEY_ID = '', S3_SECRET_ACCESS_KEY: KEY_SECRET = '' } = storage.env;
    const args = ['prune', '--force', '--config', folder.join('pgark.yaml'), ...more];
    return pgark({ storage: { ...storage, env: { KEY_ID, KEY_SECRET } } }, args);
  };
  /** Carries out `meanwhile` when the data of the first backup is read for the `nth` time. */
  const whileRead = async (
    args: readonly string[],
    nth: number,
    meanwhile: () => Promise<unknown>,
  ): Promise<{ readonly result: RunResult; readonly readings: number }> => {
    let readings = 0;
    proxy.setFaults(({ operation, url }) => {
      if (operation !== 'GetObject' || !decodeURIComponent(url.pathname).endsWith(`/${read.key}`)) return undefined;
      readings += 1;
      return readings === nth ? { kind: 'delay', until: meanwhile().then(() => {}) } : undefined;
    });
    const result = await pgark({ database, storage, env: { ...env, S3_ENDPOINT: proxy.endpoint } }, args);
    return { result, readings };
  };
  const backups = async (): Promise<readonly string[]> =>
    (await storage.keys()).filter((key) => key.startsWith('.pgark/backups/')).toSorted();
  const left = async (): Promise<readonly string[]> =>
    (await storage.keys()).filter((key) => /^\.pgark\/(reading|deleted)\//.test(key));
  return {
    storage,
    proxy,
    folder,
    work,
    database,
    read,
    unread,
    last,
    pruneAll,
    whileRead,
    backups,
    left,
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}

test.each(['restore', 'download', 'drill'] as const)(
  'a backup that %s reads stays through a prune, and goes with the next one',
  { timeout: 120_000 },
  async (verb) => {
    await using scene = await openScene();
    const { read, last, database } = scene;
    await using target = futureDatabase();
    const folder = scene.folder.join('files');
    const [args, nth] = {
      // The first block is tried, then all is checked, then it is loaded.
      restore: [['restore', read.id, '--to-db', target.name], 3],
      download: [['download', read.id, folder], 1],
      drill: [['drill', read.id, '--work-dir', scene.work.path], 2],
    }[verb] as [string[], number];
    let pruned: RunResult | undefined;
    let planned: RunResult | undefined;
    let plannedJson: RunResult | undefined;
    const { result, readings } = await scene.whileRead(args, nth, async () => {
      planned = await scene.pruneAll('--dry-run');
      plannedJson = await scene.pruneAll('--dry-run', '--output', 'json');
      pruned = await scene.pruneAll();
    });
    const words = (stays: string): RegExp =>
      new RegExp(
        `^of these, 1 backup that retention lets go ${stays} ${read.id} is read, by .* for \`pgark ${verb}\` since 20\\S+: ${read.id}$`,
        'm',
      );
    expect(planned?.stdout).toMatch(words('would stay as long as'));
    expect(planned?.stdout).toMatch(/^would delete 1 backup, .*; 2 kept$/m);
    expect(JSON.parse(plannedJson?.stdout ?? '')).toMatchObject({
      storages: [
        {
          remove: expect.arrayContaining([expect.objectContaining({ id: read.id })]),
          removed: [],
          in_use: [{ id: read.id, read: read.id, reader: expect.stringContaining(`pgark ${verb}`) }],
        },
      ],
    });
    expect(pruned?.stdout).toMatch(words('stay until the next prune:'));
    expect(readings).toBeGreaterThanOrEqual(nth);
    expect(result).toMatchObject({ exitCode: 0 });
    expect(pruned).toMatchObject({ exitCode: 0 });
    expect(pruned?.stderr).toMatch(
      new RegExp(
        `WARNING .*backup ${read.id} of .* stays until the next prune: it is read by .* for \`pgark ${verb}\` since 20`,
      ),
    );
    expect(await scene.backups()).toEqual([read.manifestKey, last.manifestKey].toSorted());
    if (verb === 'restore') expect(await dumpOf(target)).toBe(await dumpOf(database));
    expect(await scene.left()).toEqual([]);
    // What a drill has proven is kept for that.
    if (verb === 'drill') return;
    expect(await scene.pruneAll()).toMatchObject({ exitCode: 0, stderr: expect.not.stringContaining('WARNING') });
    expect(await scene.backups()).toEqual([last.manifestKey]);
  },
);

test('where the storage takes no hold, a restore goes on with one warning, and says so when retention came first', {
  timeout: 120_000,
}, async () => {
  await using scene = await openScene();
  const { read, proxy } = scene;
  await using target = futureDatabase();
  const args = ['restore', read.id, '--to-db', target.name];
  const readOnly = async (meanwhile: () => Promise<unknown>): Promise<RunResult> => {
    let readings = 0;
    proxy.setFaults(({ operation, url }) => {
      if (['PutObject', 'DeleteObject'].includes(operation))
        return { kind: 'answer', status: 403, code: 'AccessDenied' };
      if (operation !== 'GetObject' || !decodeURIComponent(url.pathname).endsWith(`/${read.key}`)) return undefined;
      readings += 1;
      return readings === 2 ? { kind: 'delay', until: meanwhile().then(() => {}) } : undefined;
    });
    const env = { S3_ENDPOINT: proxy.endpoint };
    return pgark({ database: scene.database, storage: scene.storage, env }, args);
  };
  const lost = await readOnly(() => scene.pruneAll());
  expect(lost.exitCode).toBe(10);
  expect(said(lost)).toContain(`retention deleted backup ${read.id} meanwhile`);
  expect(said(lost).match(/WARNING/g)).toHaveLength(1);
  expect(said(lost)).toMatch(
    /WARNING .*is read without being held, so that a prune may remove it meanwhile: .*s3:PutObject/,
  );
  expect(await databaseNames(target.name.slice(0, 15))).toEqual([]);
});

test('a base backup that is restored stays with the WAL behind it, and both go with the next prune', {
  timeout: 240_000,
}, async () => {
  await using cluster = await Cluster.start({ initdb: ['--wal-segsize=1'] });
  await using folder = await ServerFolder.make(cluster.binDir);
  const store = new FaultyStore(new MemoryStore());
  const place = { destination: { name: 'memory', store, needsDelete: false } };
  const base = async (): Promise<Manifest> => manifestOf(await backUpServer(cluster, [place], { source: 'shop' }));
  const read = await base();
  await cluster.sql('CREATE TABLE t AS SELECT generate_series(1, 1000) AS n');
  const newer = await base();
  const pruneTo = (last: number): Promise<PruneOutcome> => {
    const policy = { keep: { last }, minBackups: 1 };
    const rest = { timezone: 'UTC', leaseTermMs: 60_000, dryRun: false, force: true };
    return prune(
      { store, filter: {}, policyOf: () => policy, walPolicyOf: () => ({ keepMs: undefined }), ...rest },
      operationContext(),
    );
  };
  let meanwhile: PruneOutcome | undefined;
  store.faults = {
    before: async ({ method, key }) => {
      if (meanwhile !== undefined || method !== 'get' || !key.startsWith(`shop/base/${read.id}/base.tar`)) return;
      if ((await store.list(keys.readingPrefix)[Symbol.asyncIterator]().next()).done === true) return;
      store.faults = {};
      meanwhile = await pruneTo(1);
    },
  };
  const directory = folder.join('restored');
  const { done } = await restoreServer(store, directory, { selector: { kind: 'name', name: read.id } });
  expect(done).toBe(true);
  const busy = expect.stringContaining('is being restored');
  expect(meanwhile).toMatchObject({ removed: [], wal: [{ segments: 0, keepsAll: busy }] });
  const behind = await pruneTo(1);
  expect(behind.removed.map(({ id }) => id)).toEqual([read.id]);
  expect(behind.wal).toMatchObject([{ segments: expect.toSatisfy((count: number) => count > 0) }]);
  expect((await new Repository(store, operationContext()).backups()).manifests.map(({ id }) => id)).toEqual([newer.id]);
});
