import { chmod, writeFile } from 'node:fs/promises';
import { describe, expect, test, vi } from 'vitest';
import { MIB } from '../../src/common/bytes.ts';
import { targetAtLsn } from '../../src/operations/recovery/recovery-target.ts';
import { formatLsn, parseLsn } from '../../src/postgres/wal/lsn.ts';
import type { Manifest } from '../../src/repository/manifest.ts';
import { Cluster } from '../support/cluster.ts';
import { backUpServer, manifestOf, type RestoredServer, restoreServer, ServerFolder } from '../support/physical.ts';
import { fetchFrom } from '../support/recovery-world.ts';
import { createBucket } from '../support/s3.ts';
import { openS3Store } from '../support/s3-store.ts';
import { makeTempDirectory } from '../support/temp.ts';
import { Archived, flushedLsn, load, NO_KEYS, startReceiving, WAIT } from '../support/wal-receiving.ts';
import { readMatrixFolders } from './matrix-servers.ts';

const { servers, clients } = await readMatrixFolders();
const newestClient = [...clients.values()].at(-1)?.binDir;
/** The first versions with incremental backups, with a way to copy a database by its files, and with pg_amcheck. */
const [INCREMENTAL, FILE_COPY, AMCHECK] = [17, 15, 14];
const SEGMENT_MIB = 64;

/** What comes before each backup but the first. */
function steps(major: number): readonly (readonly string[])[] {
  const byFiles = major >= FILE_COPY ? ' STRATEGY file_copy' : '';
  return [
    ['CREATE DATABASE passes', `CREATE DATABASE stays TEMPLATE template0${byFiles}`, load(300)],
    ['UPDATE there SET t = upper(t) WHERE n % 7 = 0', 'CREATE DATABASE other', 'DROP DATABASE passes', load(300)],
    ['VACUUM FULL there', 'ALTER TABLE here SET TABLESPACE apart', 'DROP DATABASE other', load(300)],
  ];
}

/** What is in a server. */
async function contentOf(server: Pick<RestoredServer, 'value'>): Promise<readonly string[]> {
  const questions = [
    `select string_agg(datname, ' ' order by datname) from pg_database`,
    `select count(*) || md5(string_agg(t, '' order by t)) from load`,
    ...['there', 'here'].map((table) => `select md5(string_agg(r::text, '' order by n)) from ${table} r`),
    `select string_agg(relname || ' ' || reltablespace, ' ' order by relname) from pg_class where relname in ('here', 'there')`,
  ];
  return Promise.all(questions.map((question) => server.value(question)));
}

describe('a server that is brought back', { timeout: 1_200_000 }, () => {
  test.each([...servers])('PostgreSQL %i is sound to its own programs, from each backup', async (major, binDir) => {
    const programs = clients.get(major)?.binDir ?? newestClient ?? binDir;
    await using witness = await makeTempDirectory();
    await chmod(witness.path, 0o777);
    await using bucket = await createBucket();
    const store = openS3Store(bucket.name, { prefix: 'postgres-backups' });
    await using cluster = await Cluster.start({
      binDir,
      initdb: ['--data-checksums', `--wal-segsize=${SEGMENT_MIB}`],
      settings: {
        jit: 'off',
        archive_mode: 'on',
        archive_command: `cp %p ${witness.path}/%f`,
        ...(major >= INCREMENTAL && { summarize_wal: 'on' }),
      },
    });
    await using folder = await ServerFolder.make(binDir);
    const space = folder.join('space');
    await folder.makeFolder(space);
    await cluster.sql(`CREATE TABLESPACE apart LOCATION '${space}'`);
    await cluster.sql(`
      CREATE TABLE there TABLESPACE apart AS SELECT n, md5(n::text) AS t FROM generate_series(1, 20000) AS n;
      CREATE TABLE here AS SELECT n, md5(n::text) AS t FROM generate_series(1, 9000) AS n;
      CREATE INDEX ON there (t);
      CREATE INDEX ON here (n)`);
    await cluster.sql(load(100));
    await using receiving = startReceiving(cluster, [store], { source: 'main', slot: 'main' });
    await receiving.streams();

    const made: Manifest[] = [];
    const states: { readonly lsn: string; readonly content: readonly string[] }[] = [];
    const place = { destination: { name: 's3', store, needsDelete: false } };
    const how = major >= INCREMENTAL ? { incremental: { keys: NO_KEYS } } : {};
    for (const step of [[], ...steps(major)]) {
      for (const statement of step) await cluster.sql(statement);
      made.push(manifestOf(await backUpServer(cluster, [place], how)));
      await cluster.sql(`INSERT INTO load VALUES ('behind ${made.length}')`);
      const lsn = await cluster.value('select pg_current_wal_insert_lsn()');
      states.push({ lsn, content: await contentOf(cluster) });
      await cluster.sql(load(10));
      await cluster.sql('select pg_switch_wal()');
    }
    expect(made.map(({ parents }) => parents.length)).toEqual(major >= INCREMENTAL ? [0, 1, 2, 3] : [0, 0, 0, 0]);
    expect(states[1]?.content[0]).toContain('passes');
    expect(states[2]?.content[0]).not.toContain('passes');
    await receiving.archives(await flushedLsn(cluster));
    await receiving.stop();

    const systemIdentifier = await cluster.value('select system_identifier from pg_control_system()');
    const archived = new Archived(store, { source: 'main', systemIdentifier }, SEGMENT_MIB * MIB);
    await vi.waitUntil(async () => (await archived.expectAsWitness(witness.path)) >= made.length, WAIT);
    await expectReadable(archived, folder, { from: made[0]?.startLsn ?? '', to: states[3]?.lsn ?? '', programs });

    for (const [index, { id }] of made.entries()) {
      const state = states[Math.min(index + 1, states.length - 1)];
      const data = folder.join(id);
      const recovery = { target: targetAtLsn(state?.lsn ?? ''), fetch: fetchFrom(bucket.env) };
      // Inside of the directory, where nobody looks for it, or outside.
      const mappings = index % 2 === 0 ? [] : [{ from: space, to: folder.join(`${id}-space`) }];
      await restoreServer(store, data, { selector: { kind: 'name', name: id }, mappings, recovery });
      const ignored = ['-i', 'tablespace_map', ...(index % 2 === 0 ? ['-i', 'tablespaces'] : [])];
      expect(await folder.run('pg_verifybackup', [...ignored, data], programs)).toContain('successfully verified');
      const server = await folder.start(data);
      expect([id, await contentOf(server)]).toEqual([id, state?.content]);
      await expectSound(server, major, folder, programs);
      await folder.run('pg_ctl', ['-D', data, '-w', '-m', 'fast', 'stop']);
      expect(await folder.run('pg_checksums', ['--check', '-D', data])).toMatch(/Bad checksums: +0/);
      await folder.remove(data);
    }
    await store.close();
  });
});

/** Fails unless pg_waldump reads what is archived from one position to another, record by record. */
async function expectReadable(
  archived: Archived,
  folder: ServerFolder,
  { from, to, programs }: { readonly from: string; readonly to: string; readonly programs: string },
): Promise<void> {
  const directory = folder.join('segments');
  await folder.makeFolder(directory);
  const { segments } = await archived.names();
  for (const name of segments) {
    await writeFile(`${directory}/${name}`, await archived.segment(name), { mode: 0o644 });
  }
  const args = ['--path', directory, '--start', from, '--end', formatLsn(parseLsn(to)), '--stats'];
  const [, records] = /^Total +(\d+)/m.exec(await folder.run('pg_waldump', args, programs)) ?? [];
  expect(Number(records)).toBeGreaterThan(1_000);
}

async function expectSound(
  server: RestoredServer,
  major: number,
  folder: ServerFolder,
  programs: string,
): Promise<void> {
  if (major >= AMCHECK) {
    const login = ['-h', '127.0.0.1', '-p', String(server.port), '-U', 'postgres'];
    await folder.run('pg_amcheck', [...login, '--all', '--install-missing', '--heapallindexed'], programs);
    return;
  }
  await server.sql('create extension amcheck');
  const [checked] = await server.sql<{ count: number }>(`
    select count(bt_index_check(c.oid, true))::int as count from pg_index i join pg_class c on c.oid = i.indexrelid
    join pg_am a on a.oid = c.relam where a.amname = 'btree' and c.relpersistence <> 't' and i.indisvalid`);
  expect(checked?.count).toBeGreaterThan(100);
}
