import { createHash } from 'node:crypto';
import { readdir, readFile, rename } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { systemClock } from '../../src/common/clock.ts';
import { systemRandom } from '../../src/common/random.ts';
import { operationContext } from '../../src/operations/context.ts';
import { targetAtLsn } from '../../src/operations/recovery/recovery-target.ts';
import { restoreOutOfBase } from '../../src/operations/recovery/restore-out-of-base.ts';
import type { DirectoryRestoreRequest } from '../../src/operations/restore-directory.ts';
import { freePort } from '../../src/postgres/server/free-port.ts';
import { FileStore } from '../../src/storage/file/file-store.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { ArchivedServer } from '../support/archived-server.ts';
import type { Cluster } from '../support/cluster.ts';
import { errorOf } from '../support/destinations.ts';
import { drillIn, workFolder } from '../support/drills.ts';
import { restoreServer, RestoredServer, type ServerFolder } from '../support/physical.ts';
import { fetchFrom } from '../support/recovery-world.ts';
import type { TestBucket } from '../support/s3.ts';
import { NO_KEYS } from '../support/wal-receiving.ts';

let archived: ArchivedServer;
let cluster: Cluster;
let folder: ServerFolder;
let bucket: TestBucket;
let store: ObjectStore;
/** Of the backup before which, and of the one during which, there was a tablespace behind. */
let before: string;
let during: string;
/** Where the running server has its tablespaces. */
let behindPath: string;
let duringPath: string;

beforeAll(async () => {
  archived = await ArchivedServer.start();
  ({ cluster, folder, bucket, store } = archived);
  const receiving = await archived.receive();
  [behindPath, duringPath] = ['behind', 'during'].map((name) => folder.join(name)) as [string, string];
  for (const each of [behindPath, duringPath]) await folder.makeFolder(each);
  before = (await archived.backUp()).id;
  await cluster.sql(`create table kept as select 1 as n`);
  await makeTablespace('behind', behindPath);
  const slow = archived.backUp({ rateBytesPerSecondMax: 4 * 2 ** 20 });
  await cluster.until(`exists (select from pg_stat_progress_basebackup where phase = 'streaming database files')`);
  await makeTablespace('during', duringPath);
  during = (await slow).id;
  await archived.archiveAll(receiving);
  await cluster.sql('checkpoint');
});
afterAll(() => archived[Symbol.asyncDispose]());

async function makeTablespace(name: string, at: string): Promise<void> {
  await cluster.sql(`create tablespace ${name} location '${at}'`);
  await cluster.sql(`create table in_${name} (n int) tablespace ${name}`);
  await cluster.sql(`insert into in_${name} select generate_series(1, 1000)`);
}

/** All that lies in a folder, with its content. */
async function fingerprint(root: string): Promise<string> {
  const hash = createHash('sha256');
  for (const entry of (await readdir(root, { withFileTypes: true, recursive: true })).sort((a, b) =>
    path.join(a.parentPath, a.name) < path.join(b.parentPath, b.name) ? -1 : 1,
  )) {
    const file = path.join(entry.parentPath, entry.name);
    hash.update(file);
    if (entry.isFile()) hash.update(await readFile(file));
  }
  return hash.digest('hex');
}

const toTheEnd = (verifyFirst?: boolean): DirectoryRestoreRequest['recovery'] => ({
  target: { kind: 'end' },
  fetch: fetchFrom(bucket.env),
  verifyFirst,
});

async function restore(
  id: string,
  name: string,
  changes: Partial<DirectoryRestoreRequest>,
): ReturnType<typeof restoreServer> {
  return restoreServer(store, folder.join(name), {
    selector: { kind: 'name', name: id },
    start: { binDir: cluster.binDir },
    port: await freePort(),
    ...changes,
  });
}

describe('a recovery over a tablespace that the running server has made since', { timeout: 240_000 }, () => {
  test('is refused before anything is restored, with the position and the path', async () => {
    const error = await errorOf(restore(before, 'read', { recovery: toTheEnd() }));
    expect(error).toMatchObject({ code: 'tablespace-path', message: expect.stringContaining(`at ${behindPath},`) });
    expect(await readdir(folder.path)).not.toContain('read');
    const [, lsn = ''] = /^at (\S+) /.exec(error.message) ?? [];
    const { started } = await restore(before, 'up-to', {
      recovery: { target: targetAtLsn(lsn), fetch: fetchFrom(bucket.env), verifyFirst: false },
    });
    const server = folder.adopt(folder.join('up-to'), started?.port ?? 0);
    expect(await server.value('select n from kept')).toBe('1');
    expect(await server.value(`select count(*) from pg_tablespace where spcname = 'behind'`)).toBe('0');
    await folder.stop(folder.join('up-to'));
  });

  test('stops before it where the log was not read, and leaves the files of the running server', async () => {
    const files = await fingerprint(behindPath);
    const error = await errorOf(restore(before, 'unread', { recovery: toTheEnd(false) }));
    expect(error).toMatchObject({
      code: 'recovery-failed',
      message: expect.stringContaining(`makes a tablespace at ${behindPath},`),
      hint: expect.stringContaining('--allow-tablespace-paths'),
    });
    expect(await fingerprint(behindPath)).toBe(files);
    // Nor when it is started once more, by whomever.
    await expect(folder.start(folder.join('unread'))).rejects.toThrow();
    expect(await fingerprint(behindPath)).toBe(files);
  });

  test.each<[string, () => DirectoryRestoreRequest['recovery']]>([
    ['to its own end', () => undefined],
    ['to the end, the log read before', () => toTheEnd()],
    ['to the end, the log not read before', () => toTheEnd(false)],
  ])('is refused where it was made during the backup: %s', async (name, recovery) => {
    const files = await fingerprint(duringPath);
    const error = await errorOf(restore(during, name, { recovery: recovery() }));
    expect(error).toMatchObject({ code: 'tablespace-path', message: expect.stringContaining(`at ${duringPath},`) });
    expect(await readdir(folder.path)).not.toContain(name);
    expect(await fingerprint(duringPath)).toBe(files);
  });

  test('fails a drill, and a restore of one database', async () => {
    await using work = await workFolder();
    const files = await fingerprint(duringPath);
    const failure = await errorOf(drillIn(store, work, { fetch: fetchFrom(bucket.env) }));
    expect(failure).toMatchObject({ code: 'drill-failed', message: expect.stringContaining(`at ${duringPath},`) });
    await work.expectEmpty();
    const target = {
      kind: 'database',
      connection: { ...cluster.connection, database: 'rescued' },
      clean: false,
    } as const;
    const refused = await errorOf(
      restoreOutOfBase(
        {
          base: { store, filter: {}, selector: { kind: 'name', name: before }, keys: NO_KEYS, recovery: toTheEnd() },
          database: 'postgres',
          users: ['postgres'],
          workFolder: work.path,
          openWork: async (root) => new FileStore({ root, clock: systemClock, random: systemRandom }),
          binDir: cluster.binDir,
          load: { target, verifyFirst: undefined, analyse: false, planOnly: false },
        },
        operationContext(),
      ),
    );
    expect(refused).toMatchObject({ code: 'tablespace-path' });
    await work.expectEmpty();
    expect(await fingerprint(duringPath)).toBe(files);
  });

  test('is carried out by who says so', async () => {
    // As on a machine where nothing else uses them.
    await cluster.stop();
    for (const each of [behindPath, duringPath]) {
      await rename(each, `${each}-of-old`);
      await folder.makeFolder(each);
    }
    const allowed = { recovery: toTheEnd(false), allowsTablespacePaths: true };
    const { started } = await restore(before, 'allowed', allowed);
    const server = new RestoredServer(started?.port ?? 0);
    folder.adopt(folder.join('allowed'), server.port);
    expect(await server.value('select count(*) from in_behind')).toBe('1000');
    expect(await readdir(behindPath)).toEqual([expect.stringMatching(/^PG_/)]);
    await folder.stop(folder.join('allowed'));
    for (const each of [behindPath, duringPath]) {
      await rename(each, `${each}-of-restored`);
      await rename(`${each}-of-old`, each);
    }
    await cluster.start();
    expect(await cluster.value('select count(*) from in_behind')).toBe('1000');
  });
});
