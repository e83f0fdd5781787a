import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { pgarkJson } from '../support/backups.ts';
import { Cluster } from '../support/cluster.ts';
import { linesOf, Reader, scriptOf } from '../support/documented.ts';
import { readPage } from '../support/markdown.ts';
import { makeTempDirectory, type TempDirectory } from '../support/temp.ts';

// The commands come out of the pages as they stand there, marked by `run`, or by `each` where every line is one of several ways.

let cluster: Cluster;
let place: TempDirectory;
let stores = 0;

beforeAll(async () => {
  place = await makeTempDirectory();
  cluster = await Cluster.start();
});
afterAll(async () => {
  await cluster[Symbol.asyncDispose]();
  await place[Symbol.asyncDispose]();
});

/** A server with a database shop and nothing else, for each page. */
beforeEach(async () => {
  const names = await cluster.sql<{ name: string }>(
    `SELECT format('%I', datname) AS name FROM pg_database WHERE NOT datistemplate AND datname <> 'postgres'`,
  );
  for (const { name } of names) await cluster.sql(`DROP DATABASE ${name} WITH (FORCE)`);
  await cluster.sql('CREATE DATABASE shop');
  await inShop(`CREATE TABLE orders AS SELECT n AS id, md5(n::text) AS item FROM generate_series(1, 1000) AS n`);
});

const inShop = (sql: string): Promise<string> =>
  cluster.run('psql', ['-h', '127.0.0.1', '-p', String(cluster.port), '-U', 'postgres', '-d', 'shop', '-Atqc', sql]);

async function reader(more: Readonly<Record<string, string>> = {}): Promise<Reader> {
  stores += 1;
  const store = place.join(`store-${stores}`);
  await mkdir(store);
  return Reader.make({
    DATABASE_URL: `postgres://postgres@127.0.0.1:${cluster.port}/shop`,
    BACKUP_STORAGE: `file://${store}`,
    // For psql and its like, which the pages call without saying where the server is.
    PGHOST: '127.0.0.1',
    PGPORT: String(cluster.port),
    PGUSER: 'postgres',
    ...more,
  });
}

describe('the commands of', () => {
  test('README.md: the quick start, and encryption', async () => {
    const page = await readPage('README.md');
    await using who = await reader();
    const first = await who.succeed(scriptOf(page, 'run', 'Quick start'));
    expect(first.stdout).toMatch(/✓ repository: no backup yet/);
    expect(first.stdout).toMatch(/the old database is kept as shop_before_/);
    const second = await who.succeed(scriptOf(page, 'run', 'Encryption'));
    expect(second.stdout).toMatch(/shop_\S+\.sql\.gz\.age/);
    const counts: string[] = [];
    for (const name of ['shop', 'shop_copy', 'shop_copy_2']) {
      counts.push((await who.succeed(`psql -d ${name} -Atc 'select count(*) from orders'`)).stdout);
    }
    expect(counts).toEqual(['1000\n', '1000\n', '1000\n']);
  });

  test('docs/operations/keys.md', async () => {
    await using who = await reader();
    const { stdout } = await who.succeed(scriptOf(await readPage('docs/operations/keys.md'), 'run'));
    expect(stdout.match(/every byte +ok/g)).toHaveLength(4);
    expect((await readdir(who.join())).toSorted()).toEqual([
      'identities.txt',
      'new.key',
      'pgark.key',
      'recovery-kit.txt',
      'spare.key',
    ]);
  });

  test('docs/operations/retention.md and troubleshooting.md', async () => {
    await using who = await reader();
    await who.succeed('pgark backup');
    for (const name of ['retention', 'troubleshooting']) {
      await who.succeed(scriptOf(await readPage(`docs/operations/${name}.md`), 'run'));
    }
  });

  test('docs/operations/runbook.md', async () => {
    const page = await readPage('docs/operations/runbook.md');
    await using who = await reader({ BACKUP_FORMAT: 'directory', BACKUP_GLOBALS: 'auto' });
    await who.succeed('pgark backup');
    const [before = ''] = linesOf(
      await inShop(`SELECT to_char(clock_timestamp() + interval '1 s', 'YYYY-MM-DD"T"HH24:MI:SSOF":00"')`),
    );
    who.env = { ...who.env, BEFORE: before };
    await inShop('SELECT pg_sleep(1.1)');
    await who.succeed(scriptOf(page, 'run', 'First of all'));
    await inShop('DROP TABLE orders');
    await who.succeed(scriptOf(page, 'run', 'A table was dropped, or rows are gone'));
    expect(await inShop('SELECT count(*) FROM orders')).toBe('1000\n');
    await inShop('DELETE FROM orders WHERE id > 10');
    await who.succeed(scriptOf(page, 'run', 'The whole database has to go back'));
    expect(await inShop('SELECT count(*) FROM orders')).toBe('1000\n');
    await using other = await Cluster.start();
    who.env = { ...who.env, NEW_SERVER: `postgres://postgres@127.0.0.1:${other.port}` };
    expect((await who.succeed(scriptOf(page, 'run', 'The server is gone'))).stdout).toMatch(/^ +1000$/m);
    await who.succeed(scriptOf(page, 'run', 'The machine that ran pgark is gone'));
    await who.succeed(scriptOf(page, 'run', 'The storage is gone'));
    const { stdout } = await who.succeed(scriptOf(page, 'run', 'A backup is damaged'));
    expect(stdout).toMatch(/every byte +ok/);
  });

  test('docs/operations/drills.md', async () => {
    const page = await readPage('docs/operations/drills.md');
    await using who = await reader({ BACKUP_FORMAT: 'directory' });
    await who.succeed('pgark backup');
    const { stdout } = await who.succeed('pgark list -o json');
    const id = /\d{8}T\d{6}Z-d\w{6}/.exec(stdout)?.[0] ?? '';
    const lines = linesOf(scriptOf(page, 'each'));
    expect(lines).toHaveLength(4);
    for (const line of lines) {
      const drill = line.replace(/\d{8}T\d{6}Z-\w{7}/, id).replace('> 100000', '= 1000');
      expect((await who.succeed(drill)).stdout).toMatch(/ restores$/m);
    }
  });

  test('docs/operations/copies.md', async () => {
    const page = await readPage('docs/operations/copies.md');
    await using who = await reader();
    const url = who.env['DATABASE_URL'];
    const storages = { near: { type: 'file', path: 'near' }, offsite: { type: 'file', path: 'offsite' } };
    const databases = { shop: { url, jobs: { nightly: { to: ['near'], format: 'directory' } } } };
    await writeFile(who.join('two.yaml'), JSON.stringify({ version: 1, storages, databases }), { mode: 0o600 });
    const { DATABASE_URL: _url, BACKUP_STORAGE: _storage, ...rest } = who.env;
    who.env = { ...rest, PGARK_CONFIG: 'two.yaml' };
    await who.succeed('pgark backup');
    const id = /\d{8}T\d{6}Z-d\w{6}/.exec((await who.succeed('pgark list -o json')).stdout)?.[0] ?? '';
    const lines = linesOf(scriptOf(page, 'each'));
    expect(lines).toHaveLength(3);
    for (const line of lines) {
      const { stdout } = await who.succeed(line.replace(/\d{8}T\d{6}Z-\w{7}/, id));
      expect(stdout).toMatch(new RegExp(`^(copied|already there, and the same:) ${id} of shop (to|in) offsite`));
    }
  });

  test('docs/restore-by-hand.md, with files of a storage and stock tools alone', async () => {
    const page = await readPage('docs/restore-by-hand.md');
    await using who = await reader({ BACKUP_GLOBALS: 'auto' });
    await who.succeed('pgark key generate --to-file pgark.key');
    const recipient = (await who.succeed('age-keygen -y pgark.key')).stdout.trim();
    const configured: Readonly<Record<string, string>> = { ...who.env, BACKUP_ENCRYPTION_KEY: recipient };
    who.env = configured;
    await who.succeed('pgark backup && pgark backup --format directory');
    interface Listed {
      readonly storages: readonly {
        readonly backups: readonly {
          readonly id: string;
          readonly format: string;
          readonly objects: readonly { readonly key: string }[];
        }[];
      }[];
    }
    const { storages } = await pgarkJson<Listed>(['list'], { BACKUP_STORAGE: configured['BACKUP_STORAGE'] ?? '' });
    const backups = storages[0]?.backups ?? [];
    const plain = backups.find(({ format }) => format === 'plain');
    const archive = backups.find(({ format }) => format === 'directory');
    const store = (configured['BACKUP_STORAGE'] ?? '').replace('file://', '');
    const FILE = plain?.objects[0]?.key ?? '';
    const globals = (await readdir(`${store}/shop/globals`)).toSorted();
    const GLOBALS = globals.find((name) => name.includes('.gz.')) ?? '';
    await who.succeed(`cp '${store}/${FILE}' '${store}/shop/globals/${GLOBALS}' .
      cp '${store}/.pgark/backups/shop/shop/${plain?.id}.json' manifest.json
      cp -r '${store}/shop/archive/${archive?.id}' shop && cp pgark.key shop`);
    const { BACKUP_STORAGE: _storage, DATABASE_URL: _url, ...left } = configured;
    who.env = { ...left, FILE, GLOBALS };
    await cluster.sql('DROP DATABASE shop WITH (FORCE)');
    const { stdout } = await who.succeed(scriptOf(page, 'run'));
    const [stored, ofPlain] = [/"storedSha256": ?"(\w+)"/, /"plainSha256": ?"(\w+)"/].map(
      (sum) => sum.exec(stdout)?.[1] ?? 'no',
    );
    expect(stdout).toContain(`${stored}  ${FILE}`);
    expect(stdout).toContain(`${ofPlain}  -`);
    for (const name of ['shop', 'new_shop']) {
      expect((await who.succeed(`psql -d ${name} -Atc 'select count(*) from orders'`)).stdout).toBe('1000\n');
    }
  });
});
