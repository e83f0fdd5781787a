import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { DirectoryRestoreRequest } from '../../src/operations/restore-directory.ts';
import { freePort } from '../../src/postgres/server/free-port.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { Cluster } from '../support/cluster.ts';
import { backUpServer, restoreServer, type RestoredServer, ServerFolder } from '../support/physical.ts';
import { fetchFrom } from '../support/recovery-world.ts';
import { openS3Store } from '../support/s3-store.ts';
import { createBucket, type TestBucket } from '../support/s3.ts';
import { flushedLsn, type Receiving, startReceiving } from '../support/wal-receiving.ts';

/** Where a command line that names only the bucket looks. */
const PREFIX = 'postgres-backups';

let cluster: Cluster;
let folder: ServerFolder;
let bucket: TestBucket;
let store: ObjectStore;
let receiving: Receiving;

beforeAll(async () => {
  cluster = await Cluster.start({ initdb: ['--wal-segsize=1'] });
  folder = await ServerFolder.make(cluster.binDir);
  bucket = await createBucket();
  store = openS3Store(bucket.name, { prefix: PREFIX });
  receiving = startReceiving(cluster, [store], { source: 'main', slot: 'main' });
  await receiving.streams();
  await cluster.sql('create table counted (n int)');
  await backUpServer(cluster, [{ destination: { name: 's3', store, needsDelete: false } }]);
  await cluster.sql('insert into counted select 1');
  await receiving.archives(await flushedLsn(cluster));
  await receiving.stop();
});
afterAll(async () => {
  await receiving[Symbol.asyncDispose]();
  await folder[Symbol.asyncDispose]();
  await store.close();
  await bucket[Symbol.asyncDispose]();
  await cluster[Symbol.asyncDispose]();
});

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
  const archived = (): DirectoryRestoreRequest['recovery'] => ({
    target: { kind: 'end' },
    fetch: fetchFrom(bucket.env),
  });

  test.each<[string, () => DirectoryRestoreRequest['recovery'], boolean]>([
    ['started', archived, true],
    ['by-hand', archived, false],
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
