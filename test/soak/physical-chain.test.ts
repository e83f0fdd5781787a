import { readdir, rm } from 'node:fs/promises';
import { describe, expect, test } from 'vitest';
import { generateIdentity, identityToRecipient } from 'age-encryption';
import { type Logger, silentLogger } from '../../src/common/log.ts';
import { Secret } from '../../src/common/secret.ts';
import { readParents } from '../../src/formats/physical/backup-chain.ts';
import { PhysicalObjects } from '../../src/formats/physical/physical-objects.ts';
import { RestoredBase } from '../../src/formats/physical/restore-base.ts';
import { placeTablespaces } from '../../src/formats/physical/tablespace-map.ts';
import { operationContext } from '../../src/operations/context.ts';
import { verify } from '../../src/operations/verify.ts';
import { ageSealer } from '../../src/pipeline/encryption/age-sealer.ts';
import { opensslSealer } from '../../src/pipeline/encryption/openssl-sealer.ts';
import { keys as repositoryKeys } from '../../src/repository/keys.ts';
import type { Manifest } from '../../src/repository/manifest.ts';
import { filesBelow, unpackWithTar } from '../support/base-files.ts';
import { Cluster } from '../support/cluster.ts';
import { errorOf, fileDestination } from '../support/destinations.ts';
import { FaultyStore } from '../support/faulty-store.ts';
import {
  backUpServer,
  manifestOf,
  type PhysicalBackupOptions,
  restoreServer,
  ServerFolder,
} from '../support/physical.ts';
import { readMatrixFolders, readServerFolders } from './matrix-servers.ts';

const { clients } = await readMatrixFolders();
const servers = [...(await readServerFolders())].filter(([major]) => major >= 17);
const signal = new AbortController().signal;

/** What comes between one backup and the next. */
const STEPS: readonly string[] = [
  `DELETE FROM shrinks WHERE n > 2000; VACUUM shrinks;
   INSERT INTO grows SELECT n, md5(n::text) FROM generate_series(1, 5000) AS n;
   UPDATE here SET t = upper(t) WHERE n % 500 = 0;
   UPDATE there SET t = upper(t) WHERE n = 7;
   DROP TABLE dropped;
   CREATE TABLE fresh AS SELECT n FROM generate_series(1, 3000) AS n;
   CREATE DATABASE another TEMPLATE template0;
   VACUUM here`,
  `TRUNCATE emptied;
   INSERT INTO shrinks SELECT n, repeat(md5(n::text), 5) FROM generate_series(2001, 9000) AS n;
   UPDATE fresh SET n = n + 1 WHERE n < 10;
   DROP DATABASE goes;
   ALTER TABLE moves SET TABLESPACE apart;
   VACUUM FULL grows;
   CREATE INDEX ON there (t)`,
];

/** Keeps what is warned of. */
function listening(heard: string[]): Logger {
  const hear = (_event: string, message: string): void => void heard.push(message);
  const logger: Logger = { ...silentLogger, warning: hear, info: hear, child: () => logger };
  return logger;
}

describe('a chain of incremental backups', { timeout: 170_000 }, () => {
  test.each(servers)('PostgreSQL %i: is merged into what pg_combinebackup makes of it', async (major, binDir) => {
    const settings = { summarize_wal: 'on', max_wal_size: '256MB', autovacuum: 'off' };
    await using cluster = await Cluster.start({ binDir, initdb: ['--data-checksums', '--wal-segsize=1'], settings });
    await using folder = await ServerFolder.make(binDir);
    await using disk = await fileDestination('disk');
    const programs = clients.get(major)?.binDir ?? '';
    const space = folder.join('space');
    await folder.makeFolder(space);
    await cluster.sql(`CREATE TABLESPACE apart LOCATION '${space}'`);
    await cluster.sql('CREATE DATABASE goes');
    await cluster.sql(`
      CREATE TABLE there TABLESPACE apart AS SELECT n, md5(n::text) AS t FROM generate_series(1, 20000) AS n;
      CREATE TABLE here AS SELECT n, repeat(md5(n::text), 9) AS t FROM generate_series(1, 30000) AS n;
      CREATE INDEX ON here (n);
      CREATE TABLE shrinks AS SELECT n, repeat(md5(n::text), 5) AS t FROM generate_series(1, 9000) AS n;
      CREATE TABLE grows (n int, t text);
      CREATE TABLE dropped AS SELECT 1;
      CREATE TABLE emptied AS SELECT n FROM generate_series(1, 9000) AS n;
      CREATE TABLE moves AS SELECT n FROM generate_series(1, 9000) AS n;
      CREATE UNLOGGED TABLE unlogged AS SELECT n FROM generate_series(1, 1000) AS n`);
    const identity = await generateIdentity();
    const sealer = await ageSealer({ recipients: [await identityToRecipient(identity)] });
    const keys = { identities: [new Secret(identity)], passphrases: [] };
    const how = { seal: { compression: { algorithm: 'zstd', level: 1 }, sealer }, incremental: { keys } } as const;

    const full = manifestOf(await backUpServer(cluster, [disk], how));
    expect(full).toMatchObject({ id: expect.stringMatching(/-f/), parents: [] });
    const parents: string[] = [full.id];
    let newest = full;
    for (const step of STEPS) {
      for (const statement of step.split(';')) await cluster.sql(statement);
      newest = manifestOf(await backUpServer(cluster, [disk], how));
      expect(newest).toMatchObject({ id: expect.stringMatching(/-i/), parents });
      parents.unshift(newest.id);
    }
    const access = { store: disk.store, keys, signal };
    const objects = new PhysicalObjects(newest, access);
    const older = await readParents(newest, access);
    expect(older.map(({ manifest }) => manifest.id)).toEqual(parents.slice(1));

    const folders: string[] = [];
    for (const each of [...older.toReversed(), objects]) {
      const directory = folder.join(each.manifest.id);
      await unpackWithTar(each, folder, directory);
      folders.push(directory);
    }
    const [oid = ''] = (newest.tablespaces ?? []).map((each) => each.oid);
    const mapped = ['-T', `${folders.at(-1)}-${oid}=${folder.join('combined-space')}`];
    await folder.run('pg_combinebackup', [...mapped, '-o', folder.join('combined'), ...folders], programs);

    const data = folder.join('merged');
    const places = placeTablespaces(newest.tablespaces ?? [], [{ from: space, to: folder.join('merged-space') }], data);
    const target = { directory: data, tablespaces: places };
    const base = await RestoredBase.unpack(objects, target, { signal, onStoredBytes: () => {} }, older);
    await base.finish(signal);
    expect(await folder.run('pg_verifybackup', ['--no-parse-wal', data], programs)).toContain('successfully verified');
    const { backup_manifest: _, ...merged } = await filesBelow(data);
    const { backup_manifest: __, ...combined } = await filesBelow(folder.join('combined'));
    expect(Object.keys(merged).length).toBeGreaterThan(900);
    expect(merged).toEqual({ ...combined, tablespace_map: merged['tablespace_map'] });
    await base.discard();

    const { backups } = await verify(
      { store: disk.store, filter: {}, selector: undefined, deep: true, keys },
      operationContext(),
    );
    expect(backups.map(({ depth, failure }) => [depth, failure])).toEqual(backups.map(() => ['read', undefined]));
    const restored = folder.join('data');
    await restoreServer(disk.store, restored, { keys });
    const server = await folder.start(restored);
    const sum = (table: string): string => `select md5(string_agg(r::text, '' order by r::text)) from ${table} r`;
    for (const table of ['here', 'there', 'shrinks', 'grows', 'fresh', 'emptied', 'moves']) {
      expect([table, await server.value(sum(table))]).toEqual([table, await cluster.value(sum(table))]);
    }
    const databases = `select string_agg(datname, ',' order by datname) from pg_database`;
    expect(await server.value(databases)).toBe(await cluster.value(databases));
    await folder.run(
      'pg_amcheck',
      ['-h', '127.0.0.1', '-p', String(server.port), '-U', 'postgres', '--all', '--install-missing'],
      programs,
    );
    expect(await readdir(restored)).toContain('backup_label.old');
    await folder.stop(restored);
  });

  test.each(servers)(
    'PostgreSQL %i: gives way to a full backup where it cannot go on, and says why',
    async (_, binDir) => {
      const settings = { summarize_wal: 'on', autovacuum: 'off' };
      await using cluster = await Cluster.start({ binDir, initdb: ['--wal-segsize=1'], settings });
      await using disk = await fileDestination('disk');
      await using other = await fileDestination('other');
      const passphrase = new Secret('correct horse battery staple, and then some');
      const keys = { identities: [], passphrases: [passphrase] };
      const sealer = await opensslSealer({ passphrase });
      const how = {
        incremental: { keys, fullEvery: 3 },
        seal: { compression: { algorithm: 'zstd', level: 1 }, sealer },
      } as const;
      const make = async (
        changes: PhysicalBackupOptions = {},
        places: Parameters<typeof backUpServer>[1] = [disk],
      ): Promise<{ readonly manifest: Manifest; readonly why: string | undefined }> => {
        const heard: string[] = [];
        const outcome = await backUpServer(cluster, places, { ...how, ...changes, logger: listening(heard) });
        const why = heard.find((each) => each.startsWith('a full backup is made'));
        return { manifest: manifestOf(outcome), why };
      };
      const whys: unknown[] = [];
      const full = await make();
      expect(full.why).toMatch(/there is no physical backup in .* yet/);
      const first = await make();
      const second = await make();
      expect([first, second].map(({ manifest }) => manifest.parents.length)).toEqual([1, 2]);
      whys.push((await make()).why);
      // One that is named may be any, and makes the chain as long as it must be.
      const named = await make({ incremental: { keys, fullEvery: 3, from: second.manifest.id } });
      expect(named.manifest.parents).toEqual([second.manifest.id, first.manifest.id, full.manifest.id]);
      whys.push((await make({ incremental: { keys: { identities: [], passphrases: [] } } })).why);
      whys.push((await make({}, [disk, other])).why);
      expect((await make({}, [disk, other])).manifest.parents).toHaveLength(1);

      // Somebody deletes what it is relative to while it is made.
      const { id: nearest } = (await make()).manifest;
      const faulty = new FaultyStore(disk.store, {
        before: async ({ method, key }) => {
          if (method !== 'putStream' || !key.includes('/base/')) return;
          await disk.store.delete(repositoryKeys.manifest('main', 'postgres', nearest));
        },
      });
      const error = await errorOf(
        backUpServer(cluster, [{ destination: { ...disk.destination, store: faulty } }], {
          ...how,
          incremental: { keys },
        }),
      );
      expect(error).toMatchObject({ code: 'backup-not-found', message: expect.stringContaining(nearest) });

      await make({ incremental: undefined });
      await cluster.sql('ALTER SYSTEM SET summarize_wal = off');
      await cluster.sql('SELECT pg_reload_conf()');
      await cluster.until(`current_setting('summarize_wal') = 'off'`);
      whys.push((await make()).why);
      // Its summaries begin when it is on again, and the log before is gone.
      for (let round = 0; round < 3; round += 1) {
        await cluster.sql('CREATE TABLE IF NOT EXISTS t (n int); INSERT INTO t SELECT generate_series(1, 9000)');
        await cluster.sql('SELECT pg_switch_wal()');
        await cluster.sql('CHECKPOINT');
      }
      await cluster.sql('ALTER SYSTEM SET summarize_wal = on');
      await cluster.sql('SELECT pg_reload_conf()');
      await cluster.sql('SELECT pg_switch_wal()');
      await cluster.sql('CHECKPOINT');
      await cluster.until(
        'exists (select from pg_available_wal_summaries() where end_lsn > pg_current_wal_lsn() - 3000000)',
      );
      whys.push((await make()).why);
      expect(whys).toEqual([
        expect.stringContaining('has 3 backups, and is as long as it may be'),
        expect.stringMatching(/the list of files of .* cannot be read/),
        expect.stringMatching(/no chain is whole in .* and /),
        expect.stringContaining('summarize_wal is off'),
        expect.stringContaining('has no summaries of its write-ahead log since'),
      ]);
    },
  );

  test.each(servers.slice(-1))(
    'PostgreSQL %i: holds a relation across the border of its segments',
    // A minute and a half on two cores that others use as well; what is written, 1 GiB at a time, waits for the disk.
    { timeout: 900_000 },
    async (_, binDir) => {
      // Wide rows, one to a page: 1 GiB is quickly there, and small when compressed.
      const settings = {
        summarize_wal: 'on',
        max_wal_size: '4GB',
        autovacuum: 'off',
        full_page_writes: 'off',
        wal_level: 'replica',
      };
      await using cluster = await Cluster.start({ binDir, settings });
      await using folder = await ServerFolder.make(binDir);
      await using disk = await fileDestination('disk');
      const keys = { identities: [], passphrases: [] };
      const border = 131_072;
      await cluster.sql('CREATE TABLE wide (n int, t text)');
      await cluster.sql('ALTER TABLE wide ALTER t SET STORAGE PLAIN');
      await cluster.sql(`INSERT INTO wide SELECT n, repeat('x', 8000) FROM generate_series(1, ${border + 300}) AS n`);
      const sum = 'select count(*) || md5(string_agg(n || left(t, 2), null order by n)) from wide';
      const states: { readonly id: string; readonly sum: string }[] = [];
      const make = async (): Promise<void> => {
        const manifest = manifestOf(await backUpServer(cluster, [disk], { incremental: { keys } }));
        states.push({ id: manifest.id, sum: await cluster.value(sum) });
      };
      await make();
      await cluster.sql(`UPDATE wide SET t = repeat('y', 8000) WHERE n BETWEEN ${border - 5} AND ${border + 5}`);
      await make();
      await cluster.sql(`DELETE FROM wide WHERE n > ${border - 9}`);
      await cluster.sql('VACUUM wide');
      await make();
      await cluster.sql(`INSERT INTO wide SELECT n, repeat('z', 8000) FROM generate_series(1, 20) AS n`);
      await make();
      expect(states.map(({ id }) => id.slice(17, 18))).toEqual(['f', 'i', 'i', 'i']);
      for (const { id, sum: expected } of [states[1], states[3]].flatMap((state) => state ?? [])) {
        const data = folder.join(id);
        await restoreServer(disk.store, data, { selector: { kind: 'name', name: id } });
        const server = await folder.start(data);
        expect(await server.value(sum)).toBe(expected);
        await folder.stop(data);
        await rm(data, { recursive: true });
      }
    },
  );
});
