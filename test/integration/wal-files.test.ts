import { execFile } from 'node:child_process';
import { chmod, copyFile, mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { KIB, MIB } from '../../src/common/bytes.ts';
import { systemClock } from '../../src/common/clock.ts';
import { systemRandom } from '../../src/common/random.ts';
import { operationContext } from '../../src/operations/context.ts';
import { fetchWal } from '../../src/operations/wal/fetch.ts';
import { pushWal } from '../../src/operations/wal/push.ts';
import { walStatus } from '../../src/operations/wal/status.ts';
import { formatLsn, parseLsn } from '../../src/postgres/wal/lsn.ts';
import { FileStore } from '../../src/storage/file/file-store.ts';
import { walKey } from '../../src/repository/wal-keys.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { Cluster } from '../support/cluster.ts';
import { createBucket, type TestBucket } from '../support/s3.ts';
import { openS3Store } from '../support/s3-store.ts';
import { makeTempDirectory, type TempDirectory } from '../support/temp.ts';
import { flushedLsn, load, NO_KEYS, startReceiving, walFolder } from '../support/wal-receiving.ts';

const PGARK = path.resolve('bin/pgark');

let cluster: Cluster;
let bucket: TestBucket;
let directory: TempDirectory;
let store: ObjectStore;
let folder: { readonly source: string; readonly systemIdentifier: string };
beforeAll(async () => {
  cluster = await Cluster.start({ initdb: ['--wal-segsize=1'], settings: { wal_keep_size: '100MB' } });
  bucket = await createBucket();
  directory = await makeTempDirectory();
  await chmod(directory.path, 0o755);
  store = openS3Store(bucket.name);
  folder = await walFolder(cluster);
});
afterAll(async () => {
  await cluster[Symbol.asyncDispose]();
  await bucket.remove();
  await directory[Symbol.asyncDispose]();
});

async function push(
  name: string,
  from = path.join(cluster.dataDirectory, 'pg_wal'),
  to = store,
): Promise<string | undefined> {
  const { stores } = await pushWal(
    {
      source: 'shop',
      stores: [{ name: 's3', store: to }],
      keys: NO_KEYS,
      file: path.join(from, name),
      dataDirectory: cluster.dataDirectory,
    },
    operationContext(),
  );
  return stores[0]?.outcome;
}

async function fetch(name: string, from = store): Promise<Buffer | undefined> {
  const target = directory.join('fetched');
  const request = { ...folder, stores: [{ name: 's3', store: from }], keys: NO_KEYS, name, target };
  return (await fetchWal(request, operationContext())) === 'found' ? readFile(target) : undefined;
}

describe('files of WAL', () => {
  test('are archived once, refused if they differ, and come back as they were', async () => {
    await cluster.sql(load(4_500));
    await cluster.sql('select pg_switch_wal()');
    const current = await cluster.value('select pg_walfile_name(pg_current_wal_lsn())');
    const wal = path.join(cluster.dataDirectory, 'pg_wal');
    const names = (await readdir(wal)).filter((name) => /^[0-9A-F]{24}$/.test(name) && name < current).sort();
    expect(names.length).toBeGreaterThan(2);
    const [first = '', second = '', third = ''] = names;
    expect(await push(first)).toBe('stored');
    expect(await push(first)).toBe('present');
    expect((await fetch(first))?.equals(await readFile(path.join(wal, first)))).toBe(true);
    // Another server's segment of the same name, a part of one, and one of another name.
    const bytes = await readFile(path.join(wal, first));
    await mkdir(directory.join('other'));
    const other = directory.join('other');
    const changed = Buffer.from(bytes);
    changed.fill(1, 5_000, 5_100);
    await writeFile(path.join(other, first), changed);
    await expect(push(first, other)).rejects.toMatchObject({ code: 'wal-conflict' });
    await writeFile(path.join(other, second), bytes.subarray(0, MIB / 2));
    await expect(push(second, other)).rejects.toMatchObject({ code: 'corrupt' });
    await writeFile(path.join(other, third), bytes);
    await expect(push(third, other)).rejects.toMatchObject({ code: 'corrupt' });
    await expect(push('PG_VERSION', cluster.dataDirectory)).rejects.toMatchObject({ code: 'usage' });
    // Labels of backups and histories, which say nothing of whose they are.
    const label = `${first}.00000028.backup`;
    await writeFile(path.join(wal, label), 'START WAL LOCATION');
    expect(await push(label)).toBe('stored');
    expect((await fetch(label))?.toString()).toBe('START WAL LOCATION');
    await writeFile(path.join(wal, '00000002.history'), '1\t0/5000060\tno recovery target specified\n');
    expect(await push('00000002.history')).toBe('stored');
    expect((await fetch('00000002.history'))?.toString()).toContain('0/5000060');
  });

  test('of a segment that is not finished are archived as far as it goes, until the whole is there', async () => {
    const to = openS3Store(bucket.name, { prefix: 'unfinished' });
    // Of an older segment before, and of none.
    for (const makes of ['checkpoint', 'select 1']) {
      await cluster.sql('select pg_switch_wal()');
      await cluster.sql(makes);
      await cluster.sql(load(1));
      const name = await cluster.value('select pg_walfile_name(pg_current_wal_lsn())');
      const file = path.join(cluster.dataDirectory, 'pg_wal', name);
      const [early, late, other] = ['early', 'late', 'strange'].map((each) => directory.join(`${each} ${makes}`));
      if (early === undefined || late === undefined || other === undefined) return;
      for (const folderOf of [early, late]) {
        await cluster.sql(load(100));
        const end = await flushedLsn(cluster);
        await mkdir(folderOf);
        await copyFile(file, path.join(folderOf, name));
        expect([await push(name, folderOf, to), await push(name, folderOf, to)]).toEqual(['stored', 'present']);
        const archived = await fetch(name, to);
        const content = await readFile(path.join(folderOf, name));
        const bytes = Number(end % BigInt(MIB));
        expect(archived?.subarray(0, bytes).equals(content.subarray(0, bytes))).toBe(true);
        expect(archived?.subarray(bytes + 8 * KIB).every((byte) => byte === 0)).toBe(true);
      }
      expect(await push(name, early, to)).toBe('present');
      // What no checksum covers, as of another server.
      const strange = await readFile(path.join(late, name));
      strange.writeUInt32LE(1, 2 * 8 * KIB + 20);
      await mkdir(other);
      await writeFile(path.join(other, name), strange);
      await expect(push(name, other, to)).rejects.toMatchObject({ code: 'wal-conflict' });
      await cluster.sql('select pg_switch_wal()');
      await cluster.sql(load(1));
      expect(await push(name, undefined, to)).toBe('stored');
      expect((await fetch(name, to))?.equals(await readFile(file))).toBe(true);
      expect([await push(name, late, to), await push(name, undefined, to)]).toEqual(['present', 'present']);
      await expect(push(name, other, to)).rejects.toMatchObject({ code: 'wal-conflict' });
    }
  });

  test('are absent only where that is proven', async () => {
    const wal = path.join(cluster.dataDirectory, 'pg_wal');
    const names = (await readdir(wal)).filter((name) => /^[0-9A-F]{24}$/.test(name)).sort();
    const [first = '', second = '', third = ''] = names;
    // The history that is archived says that this timeline went on behind it.
    await expect(fetch(second)).rejects.toMatchObject({ code: 'wal-gap' });
    await store.delete(walKey(folder, { kind: 'history', name: '00000002.history' }, ''));
    expect(await fetch(second)).toBeUndefined();
    expect(await fetch('00000009.history')).toBeUndefined();
    await push('00000002.history');
    await push(third);
    // What follows is there: this is a hole, not the end.
    await expect(fetch(second)).rejects.toMatchObject({ code: 'wal-gap' });
    // A later timeline began behind it, by its history.
    await push(third);
    const begun = walKey(folder, { kind: 'segment', name: '000000020000000000000006' }, '.zst');
    await store.putSmall(begun, Buffer.from('not read'));
    expect(await fetch(`00000002${second.slice(8)}`)).toBeUndefined();
    await expect(fetch('000000020000000000000050')).resolves.toBeUndefined();
    await store.putSmall(
      walKey(folder, { kind: 'segment', name: '000000020000000000000070' }, '.zst'),
      Buffer.from('x'),
    );
    await expect(fetch('000000020000000000000060')).rejects.toMatchObject({ code: 'wal-gap' });
    // Another place, another server.
    await expect(fetch(first, openS3Store(bucket.name, { prefix: 'wrong' }))).rejects.toMatchObject({
      code: 'wal-unknown',
    });
    await store.delete(begun);
    await store.delete(walKey(folder, { kind: 'segment', name: '000000020000000000000070' }, '.zst'));
  });

  test('give a server back all that was committed, also what was in no whole segment yet', async () => {
    const place = new FileStore({ root: directory.join('store'), clock: systemClock, random: systemRandom });
    await mkdir(directory.join('store'));
    const receiving = startReceiving(cluster, [place]);
    await receiving.streams();
    await using copy = await cluster.copy({
      restore_command: `BACKUP_NAME=shop BACKUP_STORAGE=file://${directory.join('store')} DATABASE_URL=postgres://x@localhost/x ${PGARK} wal fetch %f %p`,
    });
    await cluster.sql('create table numbered (i int, at timestamptz default clock_timestamp())');
    for (let i = 0; i < 5; i += 1) {
      await cluster.sql(`insert into numbered select ${i}`);
      await cluster.sql(load(150));
    }
    const end = await flushedLsn(cluster);
    await receiving.archives(end);
    await receiving.stop();
    const [status] = await walStatus({ store: place, source: 'shop' }, operationContext());
    expect([status?.gaps, status?.followed?.timeline]).toEqual([[], 1]);
    expect(parseLsn(status?.stretches.at(-1)?.to ?? '0/0')).toBeGreaterThanOrEqual(end);
    // pg_waldump reads what is fetched, up to the very end.
    const last = await cluster.value(`select pg_walfile_name('${formatLsn(end)}')`);
    const fetched = await fetch(last, place);
    expect(fetched?.length).toBe(MIB);
    const dumped = directory.join(last);
    await writeFile(dumped, fetched ?? '', { mode: 0o644 });
    const { stdout } = await promisify(execFile)(`${cluster.binDir}/pg_waldump`, [dumped]).catch(
      (error: { readonly stdout: string }) => error,
    );
    expect(stdout).toContain('COMMIT');
    await promisify(execFile)('chmod', ['-R', 'a+rX', directory.join('store')]);
    await writeFile(path.join(copy.dataDirectory, 'recovery.signal'), '', { mode: 0o644 });
    await copy.start();
    await copy.until('not pg_is_in_recovery()');
    expect(await copy.sql('select i from numbered order by i')).toEqual([0, 1, 2, 3, 4].map((i) => ({ i })));
    expect(await copy.value('select count(*) from load')).toBe(await cluster.value('select count(*) from load'));
    expect((await stat(copy.dataDirectory)).isDirectory()).toBe(true);
  });
});
