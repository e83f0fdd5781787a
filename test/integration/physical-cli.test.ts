import { chmod, readdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { runCli } from '../../src/cli/program.ts';
import { Secret } from '../../src/common/secret.ts';
import { operationContext } from '../../src/operations/context.ts';
import { download } from '../../src/operations/download.ts';
import { verify } from '../../src/operations/verify.ts';
import { ageSealer } from '../../src/pipeline/encryption/age-sealer.ts';
import { cliWorld, recordingTerminal } from '../support/cli-world.ts';
import { Cluster } from '../support/cluster.ts';
import { errorOf, fileDestination } from '../support/destinations.ts';
import { backUpServer, manifestOf, restoreServer, ServerFolder } from '../support/physical.ts';
import { makeTempDirectory, type TempDirectory } from '../support/temp.ts';

let cluster: Cluster;
let folder: ServerFolder;
let place: TempDirectory;
let space: string;

beforeAll(async () => {
  place = await makeTempDirectory();
  cluster = await Cluster.start({ initdb: ['--data-checksums', '--wal-segsize=1'] });
  folder = await ServerFolder.make(cluster.binDir);
  space = folder.join('space');
  await folder.makeFolder(space);
  await cluster.sql(`CREATE TABLESPACE apart LOCATION '${space}'`);
  await cluster.sql(`
    CREATE TABLE here AS SELECT n, md5(n::text) AS t FROM generate_series(1, 5000) AS n;
    CREATE TABLE there TABLESPACE apart AS SELECT n FROM generate_series(1, 500) AS n;
    CREATE ROLE copier LOGIN REPLICATION;
    CREATE ROLE reader LOGIN`);
  await configure('copier', 'full: { format: physical, max_rate: 1GiB/s, retention: short }');
});
afterAll(async () => {
  await folder[Symbol.asyncDispose]();
  await cluster[Symbol.asyncDispose]();
  await place[Symbol.asyncDispose]();
});

async function configure(user: string, jobs: string): Promise<void> {
  const url = `postgres://${user}@127.0.0.1:${cluster.port}/postgres?sslmode=disable`;
  await writeFile(
    place.join('pgark.yaml'),
    `version: 1
storages: { disk: { type: file, path: disk } }
retention: { short: { keep: { last: 2 } } }
databases:
  main:
    url: ${url}
    jobs:
      ${jobs.replaceAll('\n', '\n      ')}
`,
  );
}

async function pgark(...argv: readonly string[]): Promise<{ exit: number; out: string; err: string }> {
  const terminal = recordingTerminal();
  const exit = await runCli([...argv, '--config', 'pgark.yaml'], cliWorld(terminal, {}, place.path));
  return { exit, out: terminal.stdout(), err: terminal.stderr() };
}

const CHANGES = 'full: { format: physical }\nchanges: { format: physical, incremental: true, full_every: 7 }';

describe('a physical job of a configuration', () => {
  test('is what doctor looks for: the right to replicate, and the settings of the server', async () => {
    const { out, exit } = await pgark('doctor');
    // A role that may replicate need not be able to read a table, and nothing is dumped.
    expect(out).toContain('✓ replication as copier: physical backups can be made\n');
    expect(out).not.toContain('privileges');
    expect(out).not.toContain('pg_dump');
    expect(exit).toBe(0);
    try {
      await configure('copier', CHANGES);
      expect((await pgark('doctor')).out).toMatch(
        /^! incremental backups: (the server is older|summarize_wal is off).* every backup of an incremental job is a full one/m,
      );
      await configure('reader', `${CHANGES}\ndump: { format: directory }`);
      const refused = await pgark('doctor');
      expect(refused.exit).toBe(1);
      expect(refused.out).toMatch(/^✖ replication as reader: role reader may not replicate/m);
      expect(refused.out).toMatch(/^✖ privileges of reader/m);
    } finally {
      await configure('copier', 'full: { format: physical, max_rate: 1GiB/s, retention: short }');
    }
  });

  test('is carried out, and what it made is listed, shown and downloaded as pg_basebackup writes it', async () => {
    const made = await pgark('backup', 'main');
    expect(made).toMatchObject({ exit: 0, out: expect.stringContaining('main/base/') });
    const listed = await pgark('list', '-o', 'json');
    expect(JSON.parse(listed.out)).toMatchObject({ storages: [{ backups: [{ format: 'physical', parents: [] }] }] });
    const shown = await pgark('show', 'latest');
    const [, oid = ''] = /^tablespaces +(\d+) at /m.exec(shown.out) ?? [];

    const tars = folder.join('tars');
    for (const [into, suffix, ...options] of [
      ['compressed', '.zst'],
      [tars, '', '--compression', 'none'],
    ] as const) {
      const { out, exit } = await pgark('download', 'latest', into, ...options);
      expect(exit).toBe(0);
      expect(out).not.toContain('createdb');
      const names = [`${oid}.tar`, 'base.tar', 'pg_wal.tar'].map((name) => `${name}${suffix}`);
      const written = await readdir(path.resolve(place.path, into));
      expect(written.toSorted()).toEqual([...names, 'SHA256SUMS', 'backup_manifest'].toSorted());
    }
    // As the account that the server runs under.
    await chmod(tars, 0o755);
    for (const name of await readdir(tars)) await chmod(path.join(tars, name), 0o644);
    const data = folder.join('data');
    const elsewhere = folder.join('elsewhere');
    await folder.makeFolder(data);
    await folder.makeFolder(elsewhere);
    const steps = [
      `cd '${tars}'`,
      'sha256sum --check --strict --quiet SHA256SUMS',
      `tar -xf base.tar -C '${data}'`,
      `tar -xf pg_wal.tar -C '${data}/pg_wal'`,
      `tar -xf ${oid}.tar -C '${elsewhere}'`,
      `cp backup_manifest '${data}'`,
      `ln -s '${elsewhere}' '${data}/pg_tblspc/${oid}'`,
      `echo '${oid} ${elsewhere}' > '${data}/tablespace_map'`,
    ];
    await folder.run('sh', ['-euc', steps.join('; ')], '/bin');
    expect(await folder.run('pg_verifybackup', ['-i', 'tablespace_map', data])).toContain('successfully verified');
    const server = await folder.start(data);
    expect(await server.value('select count(*) from here')).toBe('5000');
    expect(await server.value('select count(*) from there')).toBe('500');
    await folder.stop(data);
  });
});

test('a physical backup by a passphrase of age has a key of its own, which the passphrase opens', async () => {
  await using disk = await fileDestination('disk');
  const passphrase = new Secret('correct horse battery staple');
  const sealer = await ageSealer({ passphrase, workFactor: 4 });
  const seal = { compression: { algorithm: 'zstd', level: 1 }, sealer } as const;
  const manifest = manifestOf(await backUpServer(cluster, [disk], { seal }));
  expect(manifest.encryption).toEqual({ scheme: 'age', keyFingerprints: ['passphrase'] });
  expect(manifest.objects.map(({ role }) => role)).toEqual(['key', 'tablespace', 'base', 'backup_manifest', 'sums']);
  const keys = { identities: [], passphrases: [passphrase] };
  const wrong = { identities: [], passphrases: [new Secret('another one')] };
  const depthWith = async (given: typeof keys): Promise<unknown> => {
    const request = { store: disk.store, filter: {}, selector: undefined, deep: true, keys: given };
    const { backups } = await verify(request, operationContext());
    return backups.map(({ depth, failure }) => [depth, failure]);
  };
  expect(await depthWith(keys)).toEqual([['read', undefined]]);
  expect(await depthWith(wrong)).toEqual([['stored', expect.objectContaining({ code: 'wrong-key' })]]);
  const data = folder.join('by-passphrase');
  expect(await errorOf(restoreServer(disk.store, data, { keys: wrong }))).toMatchObject({ code: 'wrong-key' });
  await restoreServer(disk.store, data, { keys });
  const server = await folder.start(data);
  expect(await server.value('select count(*) from here')).toBe('5000');
  await folder.stop(data);
  await using directory = await makeTempDirectory();
  const into = directory.join('download');
  await download(
    { store: disk.store, filter: {}, selector: { kind: 'latest' }, keys, folder: into },
    operationContext(),
  );
  // What opens the backup does not lie beside what it has opened.
  expect(await readdir(into)).not.toContain('identity');
  expect(await readdir(into)).toContain('base.tar.zst');
});

test('a server whose log holds too little for a physical backup is told of by its setting', async () => {
  await using minimal = await Cluster.start({ settings: { wal_level: 'minimal', max_wal_senders: '0' } });
  await writeFile(
    place.join('pgark.yaml'),
    `version: 1
storages: { disk: { type: file, path: other } }
databases: { main: { url: "${minimal.url}", jobs: { full: { format: physical } } } }
`,
  );
  const { exit, err } = await pgark('backup');
  expect(exit).toBe(1);
  expect(err).toContain('wal_level is minimal');
  expect(err).toContain('set wal_level = replica in postgresql.conf and restart the server');
  expect((await pgark('doctor')).out).toContain('✖ replication as postgres: wal_level is minimal');
});
