import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { DirectoryRestoreOutcome } from '../../src/operations/restore-directory.ts';
import type { StartRequest } from '../../src/operations/recovery/start-recovered.ts';
import { freePort } from '../../src/postgres/server/free-port.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { ArchivedServer } from '../support/archived-server.ts';
import type { Cluster } from '../support/cluster.ts';
import { errorOf } from '../support/destinations.ts';
import type { ServerFolder } from '../support/physical.ts';
import { restoreTo } from '../support/recovery-world.ts';
import type { TestBucket } from '../support/s3.ts';

let archived: ArchivedServer;
let cluster: Cluster;
let folder: ServerFolder;
let bucket: TestBucket;
let store: ObjectStore;

beforeAll(async () => {
  archived = await ArchivedServer.start({ settings: { max_connections: '20', max_locks_per_transaction: '10' } });
  ({ cluster, folder, bucket, store } = archived);
  await archived.backUp();
  await cluster.configure({ max_connections: '120', max_locks_per_transaction: '64' });
  await cluster.stop();
  await cluster.start();
  const receiving = await archived.receive();
  await cluster.sql('create table behind as select 1 as n');
  await archived.archiveAll(receiving);
});
afterAll(() => archived[Symbol.asyncDispose]());

/** As where there is too much write-ahead log to be read before. */
async function recover(name: string, start: StartRequest = {}): Promise<DirectoryRestoreOutcome> {
  return restoreTo(store, folder.join(name), { kind: 'end' }, bucket.env, {
    verifyFirst: false,
    start: { binDir: cluster.binDir, ...start },
    port: await freePort(),
  });
}

describe('a primary that was given more behind the backup', { timeout: 120_000 }, () => {
  test('is recovered without its log being read before', async () => {
    const { started } = await recover('more');
    const server = folder.adopt(folder.join('more'), started?.port ?? 0);
    expect(await server.value('select n from behind')).toBe('1');
    await folder.stop(folder.join('more'));
  });

  test('ends a recovery that pauses for it with the server’s own words', async () => {
    const error = await errorOf(recover('paused', { settings: { hot_standby: 'on' } }));
    expect(error).toMatchObject({
      code: 'recovery-failed',
      message: expect.stringMatching(
        /recovery has paused.*max_connections = 20 is a lower setting than on the primary/,
      ),
    });
    await expect(folder.run('pg_ctl', ['-D', folder.join('paused'), 'status'])).rejects.toMatchObject({ code: 3 });
  });
});
