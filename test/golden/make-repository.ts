// node scripts/with-node.mjs test/golden/make-repository.ts DIRECTORY: what this version of pgark writes, of a small server of its
// own, for test/integration/golden-repositories.test.ts. README.md beside this file says when.
import { execFile } from 'node:child_process';
import { cp, mkdir, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { Cluster } from '../support/cluster.ts';
import { CONTENT_SQL, GOLDEN_PASSPHRASE } from './content.ts';

const pgark = path.resolve(import.meta.dirname, '../../bin/pgark');
const [target] = process.argv.slice(2);
if (target === undefined) throw new Error('name the directory to write');
const directory = path.resolve(target);

const SAMPLE_SQL = `
  CREATE TABLE orders (id int PRIMARY KEY, customer text NOT NULL, doc jsonb, total numeric GENERATED ALWAYS AS (id * 1.5) STORED);
  INSERT INTO orders (id, customer, doc)
    SELECT n, 'Zoë "' || n % 7 || '" ' || chr(9) || '\\\\N', jsonb_build_object('n', n, 'tags', ARRAY['a', NULL, 'ü'])
    FROM generate_series(1, 500) n;
  CREATE TABLE events (at date NOT NULL, what text) PARTITION BY RANGE (at);
  CREATE TABLE events_2026 PARTITION OF events FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
  CREATE TABLE events_rest PARTITION OF events DEFAULT;
  INSERT INTO events SELECT date '2025-12-01' + n, md5(n::text) FROM generate_series(0, 99) n;
  CREATE SEQUENCE tickets START 41;
  SELECT nextval('tickets'), nextval('tickets');
  CREATE VIEW large_orders AS SELECT * FROM orders WHERE id > 400;
  SELECT lo_from_bytea(4242, decode(repeat('00ff5c27', 700), 'hex'));
`;

/** Each form that a backup has, and each way in which it is encrypted by a passphrase. */
const BACKUPS: readonly Readonly<Record<string, string>>[] = [
  { BACKUP_FORMAT: 'plain', BACKUP_COMPRESSION: 'gzip' },
  { BACKUP_FORMAT: 'plain', BACKUP_COMPRESSION: 'zstd', BACKUP_ENCRYPTION: 'openssl' },
  { BACKUP_FORMAT: 'plain', BACKUP_COMPRESSION: 'none', BACKUP_ENCRYPTION: 'age' },
  { BACKUP_FORMAT: 'directory', BACKUP_COMPRESSION: 'zstd' },
  { BACKUP_FORMAT: 'directory', BACKUP_COMPRESSION: 'gzip', BACKUP_ENCRYPTION: 'age' },
  { BACKUP_FORMAT: 'physical' },
];

await using cluster = await Cluster.start({ initdb: ['--wal-segsize=1'] });
// What every server has, and nothing here needs: two copies of the empty database.
await cluster.sql(`UPDATE pg_database SET datistemplate = false WHERE datname LIKE 'template_'`);
await cluster.sql(SAMPLE_SQL);
await cluster.sql('DROP DATABASE template0');
await cluster.sql('DROP DATABASE template1');
// Records name the place: not one of whoever runs this.
const storage = '/tmp/pgark-golden';
await rm(storage, { recursive: true, force: true });
for (const settings of BACKUPS) {
  const env = {
    PATH: process.env['PATH'],
    HOME: cluster.directory,
    DATABASE_URL: cluster.url,
    BACKUP_STORAGE: `file://${storage}`,
    BACKUP_NAME: 'golden',
    BACKUP_GLOBALS: 'auto',
    ...(settings['BACKUP_ENCRYPTION'] === undefined ? {} : { BACKUP_ENCRYPTION_KEY: GOLDEN_PASSPHRASE }),
    ...settings,
  };
  const { stdout } = await promisify(execFile)(pgark, ['backup'], { env });
  process.stdout.write(stdout);
}
await rm(directory, { recursive: true, force: true });
await mkdir(directory, { recursive: true });
await cp(storage, path.join(directory, 'storage'), { recursive: true });
await rm(storage, { recursive: true });
const major = Number(await cluster.value('SHOW server_version_num')) / 10_000;
const expected = { serverMajor: Math.floor(major), backups: BACKUPS.length, content: await cluster.value(CONTENT_SQL) };
await writeFile(path.join(directory, 'expected.json'), `${JSON.stringify(expected, undefined, 2)}\n`);
