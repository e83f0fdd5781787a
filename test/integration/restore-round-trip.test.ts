import { generateHybridIdentity, generateX25519Identity, identityToRecipient } from 'age-encryption';
import { writeFile } from 'node:fs/promises';
import { describe, expect, test } from 'vitest';
import { compareFingerprints, fingerprintDatabase } from '../../src/demo/fingerprint.ts';
import { createSampleDatabase } from '../../src/demo/sample-database.ts';
import { runProgram } from '../support/cli.ts';
import { createDatabase, type TestDatabaseOptions } from '../support/postgres.ts';
import { connected, dumpOf, futureDatabase, makeBackup, pgark } from '../support/restoring.ts';
import { RICH_SQL } from '../support/rich-database.ts';
import { fileStorage, s3Storage, type TestStorage } from '../support/storage.ts';
import { makeTempDirectory } from '../support/temp.ts';

const PASSPHRASE = 'correct horse battery staple, and more';
const storages: Readonly<Record<string, () => Promise<TestStorage>>> = { file: fileStorage, s3: s3Storage };

type Encryption = 'none' | 'age keys' | 'age passphrase' | 'openssl';

async function keysFor(encryption: Encryption, directory: string) {
  const file = `${directory}/key`;
  switch (encryption) {
    case 'none':
      return { backup: {}, restore: [] as string[] };
    case 'age keys': {
      const identity = await generateX25519Identity();
      await writeFile(file, `# a comment\n${identity}\n`, { mode: 0o600 });
      const recipient = await identityToRecipient(identity);
      return {
        backup: { BACKUP_ENCRYPTION: 'age', BACKUP_ENCRYPTION_KEY: recipient },
        restore: ['--identity', file],
      };
    }
    case 'age passphrase':
    case 'openssl':
      await writeFile(file, `${PASSPHRASE}\n`, { mode: 0o600 });
      return {
        backup: { BACKUP_ENCRYPTION: encryption === 'openssl' ? 'openssl' : 'age', BACKUP_ENCRYPTION_KEY: PASSPHRASE },
        restore: ['--passphrase-file', file],
      };
    default:
      return encryption satisfies never;
  }
}

describe('a rich database comes back the same, by pgark and by stock tools', { timeout: 300_000 }, () => {
  test.each<[storage: string, compression: string, encryption: Encryption]>([
    ['file', 'gzip', 'none'],
    ['s3', 'gzip', 'openssl'],
    ['s3', 'zstd', 'age keys'],
    ['file', 'zstd', 'openssl'],
    ['file', 'none', 'age passphrase'],
    ['s3', 'none', 'none'],
    ['file', 'none', 'age keys'],
  ])('%s, compression %s, encryption %s', async (kind, compression, encryption) => {
    await using directory = await makeTempDirectory();
    await using storage = await (storages[kind] ?? fileStorage)();
    await using source = await createDatabase({ sql: RICH_SQL });
    await using restored = futureDatabase();
    const keys = await keysFor(encryption, directory.path);
    const backup = await makeBackup({
      database: source,
      storage,
      env: { BACKUP_COMPRESSION: compression, ...keys.backup },
    });

    const result = await pgark({ database: source, storage }, [
      'restore',
      'latest',
      '--to-db',
      restored.name,
      ...keys.restore,
    ]);
    expect(result).toMatchObject({ exitCode: 0 });
    expect(result.stdout).toContain(`restored ${backup.id}`);
    expect(await dumpOf(restored)).toBe(await dumpOf(source));

    const shown = await pgark({ storage }, ['show', backup.id]);
    expect(shown.exitCode).toBe(0);
    const command = /by hand +(.+)$/m.exec(shown.stdout)?.[1] ?? '';
    if (encryption === 'age passphrase') {
      // age reads a passphrase from a terminal only.
      expect(command).toMatch(/^age -d '[^|]+\.age' \| psql /);
      return;
    }
    await using byHand = await createDatabase({ name: 'by hand', createOptions: 'TEMPLATE template0' });
    await writeFile(directory.join(backup.key), await storage.get(backup.key));
    const script = command.replace('NEW_DATABASE', `'${byHand.name}'`).replace('KEY_FILE', directory.join('key'));
    const stock = await runProgram('bash', ['-o', 'pipefail', '-c', script], {
      env: source.env,
      cwd: directory.path,
    });
    expect({ command, exitCode: stock.exitCode, stderr: stock.stderr }).toMatchObject({ exitCode: 0 });
    expect(await dumpOf(byHand)).toBe(await dumpOf(source));
  });

  test('a key for after quantum computers opens what it was made for', async () => {
    await using directory = await makeTempDirectory();
    await using storage = await fileStorage();
    await using source = await createDatabase({ sql: 'CREATE TABLE t AS SELECT 1 AS a' });
    await using restored = futureDatabase();
    const identity = await generateHybridIdentity();
    await writeFile(directory.join('key'), identity);
    await makeBackup({
      database: source,
      storage,
      env: { BACKUP_ENCRYPTION: 'age', BACKUP_ENCRYPTION_KEY: await identityToRecipient(identity) },
    });
    const args = ['restore', 'latest', '--to-db', restored.name, '--identity', directory.join('key')];
    expect(await pgark({ database: source, storage }, args)).toMatchObject({ exitCode: 0 });
    expect(await dumpOf(restored)).toBe(await dumpOf(source));
  });
});

describe('other databases', { timeout: 300_000 }, () => {
  test('the demonstration’s sample database comes back in place, with fresh statistics', async () => {
    await using storage = await fileStorage();
    await using database = await createDatabase();
    await connected(database, (client) => createSampleDatabase(client, { scale: 0.01 }));
    const before = await dumpOf(database);
    const fingerprint = await connected(database, fingerprintDatabase);
    await makeBackup({ database, storage });
    await database.query('DROP SCHEMA sales CASCADE; TRUNCATE crm.customer CASCADE; SELECT lo_unlink(700003)');
    const args = ['restore', 'latest', '--in-place', '--yes', database.name, '--drop-old'];
    expect(await pgark({ database, storage }, args)).toMatchObject({ exitCode: 0 });
    expect(await dumpOf(database)).toBe(before);
    expect(compareFingerprints(fingerprint, await connected(database, fingerprintDatabase))).toEqual([]);
    const [statistics] = await database.query<{ analysed: string; rows: number }>(
      `SELECT count(*) FILTER (WHERE last_analyze IS NOT NULL) AS analysed, (SELECT reltuples FROM pg_class WHERE oid = 'crm.customer'::regclass) AS rows FROM pg_stat_user_tables`,
    );
    expect(Number(statistics?.analysed)).toBeGreaterThan(5);
    expect(statistics?.rows).toBe(1200);
  });

  test('--no-analyze leaves the statistics to somebody else', async () => {
    await using storage = await fileStorage();
    await using database = await createDatabase({ sql: 'CREATE TABLE t AS SELECT generate_series(1, 10) AS a' });
    await using restored = futureDatabase();
    await makeBackup({ database, storage });
    const args = ['restore', 'latest', '--to-db', restored.name, '--no-analyze'];
    expect(await pgark({ database, storage }, args)).toMatchObject({ exitCode: 0 });
    expect(await restored.query('SELECT 1 FROM pg_stat_user_tables WHERE last_analyze IS NOT NULL')).toEqual([]);
  });

  test.each<[name: string, options: TestDatabaseOptions]>([
    [
      'LATIN1',
      {
        createOptions: `TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'`,
        sql: `CREATE TABLE "Größe" (t text); INSERT INTO "Größe" SELECT chr(i) FROM generate_series(1, 255) i`,
      },
    ],
    [
      'SQL_ASCII with bytes that are no text',
      {
        createOptions: `TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'`,
        sql: `CREATE TABLE t (t text); INSERT INTO t SELECT E'\\xff\\xfe\\x80 ' || chr(i) FROM generate_series(1, 127) i`,
      },
    ],
    [
      'UTF8 with ICU',
      {
        createOptions: `TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C' LOCALE_PROVIDER icu ICU_LOCALE 'de-u-co-phonebk'`,
        sql: `CREATE TABLE t (t text PRIMARY KEY); INSERT INTO t VALUES ('ä'), ('ae'), ('日本語🐘')`,
      },
    ],
  ])('of encoding %s keep it, in a new database and in place', async (_name, options) => {
    await using storage = await s3Storage();
    await using source = await createDatabase({ name: 'enc', ...options });
    await using restored = futureDatabase();
    await makeBackup({ database: source, storage });
    const before = await dumpOf(source);
    const facts = `SELECT pg_encoding_to_char(encoding) AS encoding, datcollate, datctype, datlocprovider, daticulocale FROM pg_database WHERE datname = current_database()`;
    const [made] = await source.query(facts);
    expect(await pgark({ database: source, storage }, ['restore', 'latest', '--to-db', restored.name])).toMatchObject({
      exitCode: 0,
    });
    expect(await dumpOf(restored)).toBe(before);
    expect(await restored.query(facts)).toEqual([made]);
    const inPlace = ['restore', 'latest', '--in-place', '--yes', source.name, '--drop-old'];
    expect(await pgark({ database: source, storage }, inPlace)).toMatchObject({ exitCode: 0 });
    expect(await dumpOf(source)).toBe(before);
    expect(await source.query(facts)).toEqual([made]);
  });
});
