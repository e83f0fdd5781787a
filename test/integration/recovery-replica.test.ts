import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { DirectoryRestoreRequest } from '../../src/operations/restore-directory.ts';
import { freePort } from '../../src/postgres/server/free-port.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { ArchivedServer } from '../support/archived-server.ts';
import type { Cluster } from '../support/cluster.ts';
import { restoreServer, type RestoredServer, type ServerFolder } from '../support/physical.ts';
import { fetchFrom } from '../support/recovery-world.ts';
import type { TestBucket } from '../support/s3.ts';

let archived: ArchivedServer;
let cluster: Cluster;
let folder: ServerFolder;
let bucket: TestBucket;
let store: ObjectStore;

beforeAll(async () => {
  archived = await ArchivedServer.start();
  ({ cluster, folder, bucket, store } = archived);
  const receiving = await archived.receive();
  await cluster.sql('create table counted (n int)');
  await archived.backUp();
  await cluster.sql('insert into counted select 1');
  await archived.archiveAll(receiving);
});
afterAll(() => archived[Symbol.asyncDispose]());

/** As anybody makes a standby. */
async function replicaOf(server: RestoredServer, name: string): Promise<RestoredServer> {
  const [data, port] = [folder.join(name), await freePort()];
  const login = `host=127.0.0.1 port=${server.port} user=postgres application_name=replica`;
  await folder.run('pg_basebackup', ['-D', data, '-d', login, '-R', '-X', 'stream', '-c', 'fast']);
  const log = folder.join(`${name}.log`);
  const replica = folder.adopt(data, port);
  await folder
    .run('pg_ctl', ['-D', data, '-w', '-t', '60', '-l', log, '-o', `-c port=${port}`, 'start'])
    .catch(async (error: unknown) => {
      throw new Error(await readFile(log, 'utf8'), { cause: error });
    });
  return replica;
}

describe('a restored server', { timeout: 240_000 }, () => {
  const archivedEnd = (): DirectoryRestoreRequest['recovery'] => ({
    target: { kind: 'end' },
    fetch: fetchFrom(bucket.env),
  });

  test.each<[string, () => DirectoryRestoreRequest['recovery'], boolean]>([
    ['started', archivedEnd, true],
    ['by-hand', archivedEnd, false],
    ['own-end', () => undefined, false],
  ])('has a replica as any other: %s', async (name, recovery, isStarted) => {
    const data = folder.join(name);
    const start = isStarted ? { binDir: cluster.binDir } : undefined;
    const { started } = await restoreServer(store, data, { recovery: recovery(), start, port: await freePort() });
    const server = started === undefined ? await folder.start(data) : folder.adopt(data, started.port ?? 0);
    const settings = await readFile(path.join(data, 'postgresql.auto.conf'), 'utf8');
    expect(settings).toMatch(/^archive_mode = 'off'\n/m);
    expect(settings).not.toMatch(/^recovery_target|^hot_standby|^restore_command = '.+'/m);
    expect(await readdir(data)).not.toContain('postgresql.auto.conf.tmp');

    const replica = await replicaOf(server, `replica-${name}`);
    await server.sql('insert into counted select 2');
    await server.sql(`do $$ begin while not exists (select from pg_stat_replication
      where state = 'streaming' and replay_lsn >= pg_current_wal_flush_lsn()) loop
        perform pg_sleep(0.01), pg_stat_clear_snapshot(); end loop; end $$`);
    expect(await replica.value('select pg_is_in_recovery()')).toBe('true');
    expect(await replica.value('select max(n) from counted')).toBe('2');
    for (const each of [folder.join(`replica-${name}`), data]) await folder.stop(each);
  });
});
