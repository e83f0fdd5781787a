import { readdir, rm, writeFile } from 'node:fs/promises';
import { generateIdentity, identityToRecipient } from 'age-encryption';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Secret } from '../../src/common/secret.ts';
import { baseDownload } from '../../src/formats/physical/download-base.ts';
import { PhysicalObjects } from '../../src/formats/physical/physical-objects.ts';
import { RestoredBase } from '../../src/formats/physical/restore-base.ts';
import { placeTablespaces } from '../../src/formats/physical/tablespace-map.ts';
import { operationContext } from '../../src/operations/context.ts';
import { verify } from '../../src/operations/verify.ts';
import { ageSealer } from '../../src/pipeline/encryption/age-sealer.ts';
import { freePort } from '../../src/postgres/server/free-port.ts';
import { parseLsn } from '../../src/postgres/wal/lsn.ts';
import { Cluster } from '../support/cluster.ts';
import { backupsIn, fileDestination, keysOf, outcomesOf, s3Destination } from '../support/destinations.ts';
import { backUpServer, Load, manifestOf, restoreServer, ServerFolder } from '../support/physical.ts';
import { restoreTo } from '../support/recovery-world.ts';
import { openS3Store } from '../support/s3-store.ts';
import { createBucket } from '../support/s3.ts';

const NO_KEYS = { identities: [], passphrases: [] };
const signal = new AbortController().signal;

let cluster: Cluster;
let folder: ServerFolder;
let space: string;

beforeAll(async () => {
  // Small segments: even a short backup needs several.
  cluster = await Cluster.start({ initdb: ['--data-checksums', '--wal-segsize=1'] });
  folder = await ServerFolder.make(cluster.binDir);
  space = folder.join('a space=1');
  await folder.makeFolder(space);
  await cluster.sql(`CREATE TABLESPACE apart LOCATION '${space}'`);
  await cluster.sql(`
    CREATE TABLE there TABLESPACE apart AS SELECT n, md5(n::text) AS t FROM generate_series(1, 20000) AS n;
    CREATE INDEX ON there (t);
    CREATE TABLE here AS SELECT n, repeat(md5(n::text), 9) AS t FROM generate_series(1, 60000) AS n;
    CREATE INDEX ON here (n);
    CREATE EXTENSION amcheck;
    CREATE TABLE load (n int PRIMARY KEY, t text)`);
});
afterAll(async () => {
  await folder[Symbol.asyncDispose]();
  await cluster[Symbol.asyncDispose]();
});

const sumOf = (table: string): string => `select md5(string_agg(r::text, '' order by r::text)) from ${table} r`;

describe('a physical backup', () => {
  test('is restored into a server that has every row that was committed before it began, and is sound', async () => {
    const identity = await generateIdentity();
    const sealer = await ageSealer({ recipients: [await identityToRecipient(identity)] });
    const keys = { ...NO_KEYS, identities: [new Secret(identity)] };
    await using s3 = await s3Destination('s3');
    await using disk = await fileDestination('disk');
    await cluster.sql('TRUNCATE load');
    const load = await Load.start(cluster);
    await load.reached(200);
    const before = Number(await cluster.value('select max(n) from load'));
    const seal = { compression: { algorithm: 'zstd', level: 1 }, sealer } as const;
    const outcome = await backUpServer(cluster, [s3, disk], { seal });
    await load.stop();
    const written = Number(await cluster.value('select max(n) from load'));
    const manifest = manifestOf(outcome);
    expect(Object.values(outcomesOf(outcome)).map(({ error }) => error)).toEqual([undefined, undefined]);
    const systemIdentifier = await cluster.value('select system_identifier from pg_control_system()');
    expect(manifest).toMatchObject({
      format: 'physical',
      timeline: 1,
      server: { systemIdentifier },
      tablespaces: [{ oid: expect.stringMatching(/^\d+$/), location: space }],
      walNeeded: { segmentBytes: 2 ** 20 },
    });
    const folders = new Set(manifest.objects.map(({ key }) => key.replace(/[^/]*$/, '')));
    expect([...folders]).toEqual([`main/base/${manifest.id}/`]);
    expect(manifest.objects.map(({ key }) => key.replace(/.*\//, '').replace(/^\d+/, 'OID'))).toEqual([
      'OID.tar.zst.age',
      'base.tar.zst.age',
      'backup_manifest.age',
      'SHA256SUMS',
    ]);
    // What the backup_manifest lists file by file needs no other digest.
    expect(manifest.objects.map(({ plainSha256 }) => plainSha256 !== undefined)).toEqual([false, false, true, true]);

    for (const { store } of [s3, disk]) {
      const { backups } = await verify(
        { store, filter: {}, selector: undefined, deep: true, keys },
        operationContext(),
      );
      expect(backups).toMatchObject([{ depth: 'read', failure: undefined }]);
      // WAL in the bucket is nobody's foreign object, and nothing else was left.
      expect(await backupsIn(store)).toEqual({ count: 1, leftovers: [] });
      const data = folder.join(`data-${store.kind}`);
      const elsewhere = folder.join(`elsewhere-${store.kind}`);
      const mappings = [{ from: space, to: elsewhere }];
      const target = { directory: data, tablespaces: placeTablespaces(manifest.tablespaces ?? [], mappings, data) };

      // As it was on the server: what PostgreSQL's own program says is what ours said.
      const objects = new PhysicalObjects(manifest, { store, keys, signal });
      const base = await RestoredBase.unpack(objects, target, { signal, onStoredBytes: () => {} });
      await base.finish(signal);
      expect(await folder.run('pg_verifybackup', ['--no-parse-wal', data])).toContain('backup successfully verified');
      await base.discard();

      const restored = await restoreServer(store, data, { keys, mappings });
      expect(restored).toMatchObject({ done: true, directory: data, isOfRoot: false });
      // All that the recovery needs: PostgreSQL's own reading of the WAL says so too.
      const verified = folder.run('pg_verifybackup', ['-i', 'tablespace_map', data]);
      expect(await verified).toContain('backup successfully verified');
      const server = await folder.start(data);
      for (const table of ['here', 'there']) {
        expect(await server.value(sumOf(table))).toBe(await cluster.value(sumOf(table)));
      }
      const rows = await server.sql<{ count: string; max: number }>('select count(*), max(n) from load');
      const reached = rows[0]?.max ?? 0;
      // All up to some moment during the backup: none missing, none extra.
      expect(rows[0]?.count).toBe(String(reached));
      expect(reached).toBeGreaterThanOrEqual(before);
      expect(reached).toBeLessThanOrEqual(written);
      expect(await server.value('select timeline_id from pg_control_checkpoint()')).toBe('2');
      expect(await server.value(`select pg_tablespace_location(oid) from pg_tablespace where spcname = 'apart'`)).toBe(
        elsewhere,
      );
      expect(
        await server.value(
          `select string_agg(setting, ',' order by name) from pg_settings where name in ('archive_mode', 'synchronous_standby_names')`,
        ),
      ).toBe('off,');
      await server.sql('insert into there values (0)');
      await folder.run('pg_amcheck', [
        '-h',
        '127.0.0.1',
        '-p',
        String(server.port),
        '-U',
        'postgres',
        '--all',
        '--heapallindexed',
      ]);
      await folder.stop(data);
    }
  });

  test('that is taken again finds its WAL archived, and another one beside it', async () => {
    await using disk = await fileDestination('disk');
    const first = manifestOf(await backUpServer(cluster, [disk]));
    const second = manifestOf(
      await backUpServer(cluster, [disk], { checkpoint: 'spread', rateBytesPerSecondMax: 2 ** 30 }),
    );
    expect(second.id).not.toBe(first.id);
    expect(await backupsIn(disk.store)).toEqual({ count: 2, leftovers: [] });
    const segments = await keysOf(disk.store, 'main/wal/');
    expect(segments.length).toBeGreaterThanOrEqual(2);
  });
});

describe('a physical backup of a server that followed another one', () => {
  // Without tablespaces, which one machine cannot have twice in the same place.
  let primary: Cluster;
  let standby: Cluster;

  beforeAll(async () => {
    primary = await Cluster.start({ initdb: ['--wal-segsize=1'] });
    await primary.sql('CREATE TABLE here AS SELECT n FROM generate_series(1, 1000) AS n');
    standby = await primary.standby();
  });
  afterAll(async () => {
    await standby[Symbol.asyncDispose]();
    await primary[Symbol.asyncDispose]();
  });

  test('needs, while it is a standby, no segment to be closed, and is restored', async () => {
    await using disk = await fileDestination('disk');
    await primary.sql('CHECKPOINT');
    const outcome = await backUpServer(standby, [disk]);
    expect(manifestOf(outcome).server.inRecovery).toBe(true);
    const data = folder.join('of-standby');
    await restoreServer(disk.store, data);
    expect(await readdir(data)).not.toContain('standby.signal');
    const server = await folder.start(data);
    expect(await server.value(sumOf('here'))).toBe(await primary.value(sumOf('here')));
    await folder.stop(data);
    // What is archived of its last segment later on is none of the backup.
    await primary.sql('CREATE TABLE behind ()');
    await primary.sql('SELECT pg_switch_wal()');
    const end = await primary.value('SELECT pg_current_wal_lsn()');
    await standby.until(`SELECT pg_last_wal_replay_lsn() >= '${end}'`);
    await backUpServer(standby, [disk]);
    const again = folder.join('of-standby-again');
    await restoreServer(disk.store, again, { selector: { kind: 'name', name: manifestOf(outcome).id } });
    expect(await (await folder.start(again)).value(`SELECT to_regclass('behind') IS NULL`)).toBe('true');
    await folder.stop(again);
    // Nor is it for who restores what was downloaded by stock means, without a target.
    const stock = folder.join('of-standby-stock');
    await folder.makeFolder(stock);
    const access = { store: disk.store, keys: NO_KEYS, signal };
    const { files } = await baseDownload(manifestOf(outcome), access, { compression: 'none' });
    for (const file of files) {
      const { name } = file;
      if (!name.endsWith('.tar')) continue;
      await writeFile(
        folder.join(name),
        file.open(() => {}),
        { mode: 0o644 },
      );
      await folder.run(
        'tar',
        ['-xf', folder.join(name), '-C', name === 'pg_wal.tar' ? `${stock}/pg_wal` : stock],
        '/bin',
      );
    }
    await folder.run('rm', ['-f', `${stock}/standby.signal`], '/bin');
    expect(await (await folder.start(stock)).value(`SELECT to_regclass('behind') IS NULL`)).toBe('true');
    await folder.stop(stock);
  });

  test('is recovered to the end of what came with it, which no receiver has archived', async () => {
    await using bucket = await createBucket();
    const store = openS3Store(bucket.name, { prefix: 'postgres-backups' });
    await primary.sql('SELECT pg_switch_wal()');
    await primary.sql('CHECKPOINT');
    const reached = async (): Promise<string> => `'${await primary.value('SELECT pg_current_wal_flush_lsn()')}'`;
    await standby.until(`pg_last_wal_replay_lsn() >= ${await reached()}`);
    // A busy standby has received more than it has replayed, which is as far as the backup needs.
    await standby.sql('SELECT pg_wal_replay_pause()');
    await standby.until(`pg_get_wal_replay_pause_state() = 'paused'`);
    await primary.sql('CREATE TABLE received AS SELECT 9 AS n');
    const end = await reached();
    await standby.until(`pg_last_wal_receive_lsn() >= ${end}`);
    const manifest = manifestOf(
      await backUpServer(standby, [{ destination: { name: 's3', store, needsDelete: false } }]),
    );
    await standby.sql('SELECT pg_wal_replay_resume()');
    expect(parseLsn(manifest.stopLsn ?? '0/0')).toBeLessThan(parseLsn(end.slice(1, -1)));
    const data = folder.join('of-busy-standby');
    const { recovery, started } = await restoreTo(store, data, { kind: 'end' }, bucket.env, {
      start: { binDir: primary.binDir },
      port: await freePort(),
    });
    expect(recovery?.stop.lsn).toBeGreaterThanOrEqual(parseLsn(manifest.stopLsn ?? '0/0'));
    const server = folder.adopt(data, started?.port ?? 0);
    expect(await server.value('select n from received')).toBe('9');
    await folder.stop(data);
    await store.close();
  });

  test('is restored with its timeline’s history once it is a primary', async () => {
    await standby.promote();
    await standby.sql('CREATE TABLE only_there AS SELECT 7 AS n');
    await using disk = await fileDestination('disk');
    const manifest = manifestOf(await backUpServer(standby, [disk]));
    expect(manifest.timeline).toBe(2);
    expect(await keysOf(disk.store, 'main/wal/')).toContain(
      `main/wal/${manifest.server.systemIdentifier}/00000002.history`,
    );
    const data = folder.join('later');
    await restoreServer(disk.store, data);
    const server = await folder.start(data);
    expect(await server.value('select n from only_there')).toBe('7');
    expect(await server.value('select timeline_id from pg_control_checkpoint()')).toBe('3');
    await folder.stop(data);
  });

  test('comes with the histories of all timelines before its own that the server has', async () => {
    await standby.beginTimeline();
    await using disk = await fileDestination('disk');
    const { timeline, server } = manifestOf(await backUpServer(standby, [disk]));
    expect(timeline).toBe(3);
    const histories = async (): Promise<readonly string[]> =>
      (await keysOf(disk.store, 'main/wal/')).filter((key) => key.endsWith('.history'));
    const [second, third] = [2, 3].map((each) => `main/wal/${server.systemIdentifier}/0000000${each}.history`);
    expect(await histories()).toEqual([second, third]);
    await rm(`${standby.dataDirectory}/pg_wal/00000002.history`);
    await disk.store.delete(second ?? '');
    await backUpServer(standby, [disk]);
    expect(await histories()).toEqual([third]);
  });
});
