import { execFileSync } from 'node:child_process';
import { mkdir, open, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { type Logger, silentLogger } from '../../src/common/log.ts';
import { Secret } from '../../src/common/secret.ts';
import { generateAgeIdentity } from '../../src/pipeline/encryption/age-keys.ts';
import { ageSealer } from '../../src/pipeline/encryption/age-sealer.ts';
import { connectForReplication } from '../../src/postgres/replication/replication-session.ts';
import { libcHere } from '../../src/postgres/client/sort-libraries.ts';
import { keys } from '../../src/repository/keys.ts';
import { serialiseManifest } from '../../src/repository/manifest.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { Cluster } from '../support/cluster.ts';
import { backupsIn, errorOf, fileDestination, keysOf, outcomesOf } from '../support/destinations.ts';
import { FaultyStore } from '../support/faulty-store.ts';
import { MemoryStore } from '../support/memory-store.ts';
import { backUpServer, manifestOf, restoreServer, ServerFolder } from '../support/physical.ts';

/** More than a backup needs: the server notices a little later that connections of the one before have ended. */
const SENDERS = 6;

let cluster: Cluster;
let folder: ServerFolder;

beforeAll(async () => {
  cluster = await Cluster.start({
    initdb: ['--data-checksums', '--wal-segsize=1'],
    settings: { max_wal_senders: String(SENDERS), max_replication_slots: '6' },
  });
  folder = await ServerFolder.make(cluster.binDir);
  await cluster.sql(`
    CREATE TABLE here AS SELECT n, repeat(md5(n::text), 9) AS t FROM generate_series(1, 20000) AS n;
    CREATE ROLE reader LOGIN; CREATE ROLE copier LOGIN REPLICATION; CHECKPOINT`);
});
afterAll(async () => {
  await folder[Symbol.asyncDispose]();
  await cluster[Symbol.asyncDispose]();
});
afterEach(async () => {
  // Whatever fails, the server keeps nothing for us once it has noticed.
  await cluster.until('not exists (select from pg_replication_slots)');
});

const connectionOf = (user: string) => ({ ...cluster.connection, user, password: new Secret('unused') });

describe('a physical backup is refused before any work', () => {
  test('where the role may not replicate, with the statement that helps', async () => {
    await using disk = await fileDestination('disk');
    const error = await errorOf(backUpServer(cluster, [disk], { connection: connectionOf('reader') }));
    expect(error).toMatchObject({ code: 'postgres-privileges', hint: 'ALTER ROLE "reader" REPLICATION' });
    expect(await keysOf(disk.store)).toEqual([]);
  });

  test('where WAL senders are in use, by the numbers', async () => {
    await using disk = await fileDestination('disk');
    const connect = () => connectForReplication(cluster.connection, { applicationName: 'busy' });
    const busy = await Promise.all(Array.from({ length: SENDERS - 1 }, connect));
    const error = await errorOf(backUpServer(cluster, [disk]));
    expect(error).toMatchObject({
      code: 'postgres-settings',
      message: expect.stringContaining(`${SENDERS - 1} of ${SENDERS} WAL senders`),
    });
    await Promise.all(busy.map((session) => session.close()));
    await cluster.until(`not exists (select from pg_stat_activity where application_name = 'busy')`);
  });

  test('where the server would leave out tablespaces that are in place', async ({ skip }) => {
    const major = Number(await cluster.value('show server_version_num')) / 10_000;
    if (major >= 16) skip('it sends them');
    await using disk = await fileDestination('disk');
    await cluster.set('allow_in_place_tablespaces', 'on');
    await cluster.sql(`CREATE TABLESPACE within LOCATION ''`);
    await cluster.sql('CREATE TABLE inside TABLESPACE within AS SELECT 1 AS n');
    const error = await errorOf(backUpServer(cluster, [disk], { connection: connectionOf('copier') }));
    await cluster.sql('DROP TABLE inside');
    await cluster.sql('DROP TABLESPACE within');
    await cluster.set('allow_in_place_tablespaces', undefined);
    expect(error).toMatchObject({ code: 'postgres-settings', message: expect.stringMatching(/: "within"$/) });
    expect(await keysOf(disk.store)).toEqual([]);
  });

  test('and done by a role that may replicate and read nothing', async () => {
    await using disk = await fileDestination('disk');
    const outcome = await backUpServer(cluster, [disk], { connection: connectionOf('copier') });
    expect(manifestOf(outcome).objects.map(({ role }) => role)).toEqual(['base', 'backup_manifest', 'sums']);
    expect(await backUpServer(cluster, [disk], { dryRun: true })).toMatchObject({
      kind: 'checked',
      client: { program: 'pgark' },
    });
  });
});

test('an incremental backup of a server that makes none is a full one, and an error where its base was named', async () => {
  await using disk = await fileDestination('disk');
  const warnings: string[] = [];
  const none = { identities: [], passphrases: [] };
  const outcome = await backUpServer(cluster, [disk], { incremental: { keys: none }, logger: loggerOf(warnings) });
  const full = manifestOf(outcome);
  expect(full).toMatchObject({ id: expect.stringMatching(/-f/), parents: [] });
  expect(warnings.join()).toMatch(
    /a full backup is made in the place of an incremental one: (the server is PostgreSQL|summarize_wal is off)/,
  );
  const error = await errorOf(backUpServer(cluster, [disk], { incremental: { keys: none, from: full.id } }));
  expect(error).toMatchObject({ code: 'usage', message: expect.stringContaining(`can be made from ${full.id}`) });
  expect(await backupsIn(disk.store)).toEqual({ count: 1, leftovers: [] });
});

describe('a physical backup fails, and leaves nothing', () => {
  test('where a page of the server is damaged, which the server says at the very end only', async () => {
    const file = await cluster.value(`select pg_relation_filepath('here')`);
    const page = await open(path.join(cluster.dataDirectory, file), 'r+');
    const before = Buffer.alloc(4);
    await page.read(before, 0, 4, 3 * 8192 + 5000);
    const warnings: string[] = [];
    const logger = loggerOf(warnings);
    // A page that is changed in memory would be written over the damage.
    await cluster.sql('CHECKPOINT');
    try {
      await page.write(Buffer.from('rot!'), 0, 4, 3 * 8192 + 5000);
      await page.sync();
      await using disk = await fileDestination('disk');
      const error = await errorOf(backUpServer(cluster, [disk], { logger }));
      expect(error).toMatchObject({ code: 'postgres-failed', message: expect.stringContaining('XX001') });
      expect(error.hint).toContain('pg_amcheck');
      expect(warnings.join('\n')).toContain(`block 3`);
      expect(await backupsIn(disk.store)).toEqual({ count: 0, leftovers: [] });
      expect(await keysOf(disk.store, 'main/base/')).toEqual([]);
    } finally {
      await page.write(before, 0, 4, 3 * 8192 + 5000);
      await page.close();
    }
  });

  test('where other write-ahead log is archived of the same name, encrypted otherwise, which is told by its key', async () => {
    const store = new MemoryStore();
    const place = { destination: { name: 'memory', store, needsDelete: false } };
    const { recipient } = await generateAgeIdentity();
    const sealer = await ageSealer({ recipients: [recipient] });
    const { walNeeded } = manifestOf(
      await backUpServer(cluster, [place], { seal: { compression: { algorithm: 'zstd', level: 1 }, sealer } }),
    );
    // A base backup begins with the next segment.
    await cluster.sql('CREATE TABLE more ()');
    const next = await cluster.value('select pg_walfile_name(pg_current_wal_lsn() + 1024 * 1024)');
    const [key = '', entry] = [...store.objects].find(([each]) => each.endsWith(`${walNeeded?.from}.zst.age`)) ?? [];
    if (entry === undefined) throw new Error('nothing of it is archived');
    const other = key.replace(walNeeded?.from ?? '', next);
    store.objects.set(other, { ...entry, info: { ...entry.info, key: other } });
    const error = await errorOf(backUpServer(cluster, [place]));
    expect(error).toMatchObject({ code: 'wal-conflict', message: expect.stringContaining(other) });
    expect(await backupsIn(store)).toEqual({ count: 1, leftovers: [] });
  });

  test('in a storage that takes no archive, or no write-ahead log, while another one has all', async () => {
    await using disk = await fileDestination('disk');
    for (const part of ['/base/', '/wal/']) {
      await using other = await fileDestination('other');
      const faulty = new FaultyStore(other.store, {
        before: ({ method, key }) => {
          if (method === 'putStream' && key.includes(part)) throw new Error(`no room for ${key}`);
        },
      });
      const destinations = [disk, { destination: { ...other.destination, store: faulty } }];
      const outcomes = outcomesOf(await backUpServer(cluster, destinations));
      expect(outcomes['disk']?.error).toBeUndefined();
      expect(outcomes['other']?.error?.message).toContain('no room for');
      expect(await backupsIn(other.store)).toEqual({ count: 0, leftovers: [] });
    }
    expect(await backupsIn(disk.store)).toEqual({ count: 2, leftovers: [] });
  });

  test('where somebody ends its connections, or it is interrupted', async () => {
    for (const what of ['base', 'wal'] as const) {
      await using disk = await fileDestination('disk');
      const state = what === 'base' ? 'backup' : 'streaming';
      const faulty = new FaultyStore(disk.store, {
        before: async ({ method, key }) => {
          if (method !== 'putStream' || !key.includes('/base/')) return;
          await cluster.until(`exists (select from pg_stat_replication where state = '${state}')`);
          await cluster.sql(`select pg_terminate_backend(pid) from pg_stat_replication where state = '${state}'`);
        },
      });
      // Slow enough to be still under way then.
      const slow = { rateBytesPerSecondMax: 2 ** 22 };
      const error = await errorOf(
        backUpServer(cluster, [{ destination: { ...disk.destination, store: faulty } }], slow),
      );
      expect(error.code).toMatch(/^postgres-/);
      expect(await backupsIn(disk.store)).toEqual({ count: 0, leftovers: [] });
    }
    await using disk = await fileDestination('disk');
    const stop = new AbortController();
    const faulty = new FaultyStore(disk.store, {
      before: ({ method, key }) => {
        if (method === 'putStream' && key.includes('/base/')) stop.abort();
      },
    });
    const error = await errorOf(
      backUpServer(cluster, [{ destination: { ...disk.destination, store: faulty } }], { signal: stop.signal }),
    );
    expect(error.code).toBe('interrupted');
    expect(await backupsIn(disk.store)).toEqual({ count: 0, leftovers: [] });
  });
});

describe('a restore into a directory', () => {
  test('is refused where the directory holds anything, and leaves it as it is', async () => {
    await using disk = await fileDestination('disk');
    await backUpServer(cluster, [disk]);
    const data = folder.join('taken');
    await mkdir(data);
    await writeFile(path.join(data, 'PG_VERSION'), '15\n');
    expect(await errorOf(restoreServer(disk.store, data))).toMatchObject({ code: 'target-not-empty' });
    expect(await readdir(data)).toEqual(['PG_VERSION']);
  });

  test('plans without writing, and is refused for a tablespace that the backup has not', async () => {
    await using disk = await fileDestination('disk');
    await backUpServer(cluster, [disk]);
    const data = folder.join('planned');
    expect(await restoreServer(disk.store, data, { planOnly: true })).toMatchObject({ done: false });
    const mappings = [{ from: '/nowhere', to: '/tmp/somewhere' }];
    expect(await errorOf(restoreServer(disk.store, data, { mappings }))).toMatchObject({ code: 'usage' });
    await expect(stat(data)).rejects.toThrow('ENOENT');
  });

  test('of a damaged backup fails, and removes all that it wrote', async () => {
    await using disk = await fileDestination('disk');
    const manifest = manifestOf(
      await backUpServer(cluster, [disk], { seal: { compression: { algorithm: 'none', level: 0 } } }),
    );
    const { key } = manifest.objects.find(({ role }) => role === 'base') ?? { key: '' };
    await writeInto(disk.store, key, -100_000);
    const data = folder.join('damaged');
    expect(await errorOf(restoreServer(disk.store, data))).toMatchObject({ code: 'corrupt' });
    await expect(stat(data)).rejects.toThrow('ENOENT');
  });

  test('whose server sorted text by another library says so and what to do, and by the same says nothing', async () => {
    await using disk = await fileDestination('disk');
    const manifest = manifestOf(await backUpServer(cluster, [disk]));
    // Without a locale but C nothing tells the version.
    expect(manifest.server.libc?.split(' ')[0]).toBe(libcHere()?.split(' ')[0]);
    const warningsOf = async (directory: string): Promise<string> => {
      const warnings: string[] = [];
      await restoreServer(disk.store, folder.join(directory), {}, { logger: loggerOf(warnings) });
      return warnings.join('\n');
    };
    expect(await warningsOf('same-order')).toBe('');
    const changed = { ...manifest, server: { ...manifest.server, libc: 'glibc 2.19' } };
    const key = keys.manifest('main', 'postgres', manifest.id);
    await disk.store.putSmall(key, serialiseManifest(changed));
    expect(await warningsOf('other-order')).toMatch(/sorted text by glibc 2\.19.*amcheck.*REINDEX DATABASE/);
  });

  test('that is cut off when all but its last step is done starts no server, and is replaced by one that is told to', async () => {
    await using disk = await fileDestination('disk');
    const manifest = manifestOf(await backUpServer(cluster, [disk]));
    const changed = { ...manifest, server: { ...manifest.server, libc: 'glibc 2.19' } };
    await disk.store.putSmall(keys.manifest('main', 'postgres', manifest.id), serialiseManifest(changed));
    const [data, left] = [folder.join('whole'), folder.join('cut-off')];
    const logger: Logger = {
      ...silentLogger,
      // Said when the settings of the recovery are there. What lies on the disk is what a kill would leave.
      warning: (event) => {
        if (event === 'restore.sorts_otherwise') execFileSync('cp', ['-a', data, left]);
      },
      child: () => logger,
    };
    await restoreServer(disk.store, data, {}, { logger });
    await expect(folder.start(left)).rejects.toThrow('pg_control');
    // The process that is named as the one that fills it lives, as it would not after a kill.
    const mark = path.join(left, '.pgark-restoring');
    await writeFile(mark, (await readFile(mark, 'utf8')).replace(/"startedAt":"\d+"/, '"startedAt":"1"'));
    expect(await errorOf(restoreServer(disk.store, left))).toMatchObject({
      code: 'target-not-empty',
      message: expect.stringContaining('unfinished restore'),
      hint: expect.stringContaining('--replace-unfinished'),
    });
    await restoreServer(disk.store, left, { replacesUnfinished: true });
    const server = await folder.start(left);
    expect(await server.value('select count(*) from here')).toBe('20000');
    await folder.stop(left);
    expect(await readdir(left)).not.toContain('.pgark-restoring');
    // What is finished is nobody's to replace.
    expect(await errorOf(restoreServer(disk.store, left, { replacesUnfinished: true }))).toMatchObject({
      code: 'target-not-empty',
      message: expect.stringContaining('is not empty'),
    });
  });

  test('without its write-ahead log is refused at once, and verify says so', async () => {
    await using disk = await fileDestination('disk');
    const manifest = manifestOf(await backUpServer(cluster, [disk]));
    const [segment = ''] = await keysOf(disk.store, keys.walPrefix('main', manifest.server.systemIdentifier ?? ''));
    await disk.store.delete(segment);
    const error = await errorOf(restoreServer(disk.store, folder.join('no-wal')));
    expect(error).toMatchObject({ code: 'corrupt', message: expect.stringContaining('write-ahead log') });
    expect((await backupsIn(disk.store)).leftovers).toEqual([expect.stringContaining('write-ahead log')]);
  });

  test('with a damaged segment of its write-ahead log fails, and verify says so', async () => {
    await using disk = await fileDestination('disk');
    const manifest = manifestOf(await backUpServer(cluster, [disk]));
    const [segment = ''] = await keysOf(disk.store, keys.walPrefix('main', manifest.server.systemIdentifier ?? ''));
    await writeInto(disk.store, segment, 1_000);
    const data = folder.join('damaged-wal');
    const error = await errorOf(restoreServer(disk.store, data));
    expect(error).toMatchObject({ code: 'corrupt', message: expect.stringContaining(segment) });
    await expect(stat(data)).rejects.toThrow('ENOENT');
    expect((await backupsIn(disk.store)).leftovers).toEqual([expect.stringContaining(segment)]);
  });
});

/** Changes four bytes of an object, from an offset on, or from so many before its end. */
async function writeInto({ location }: ObjectStore, key: string, offset: number): Promise<void> {
  const file = await open(path.join(location.replace('file://', ''), key), 'r+');
  const at = offset < 0 ? (await file.stat()).size + offset : offset;
  await file.write(Buffer.from('rot!'), 0, 4, at);
  await file.close();
}

function loggerOf(warnings: string[]): Logger {
  const logger: Logger = {
    ...silentLogger,
    warning: (_event, message) => void warnings.push(message),
    child: () => logger,
  };
  return logger;
}
