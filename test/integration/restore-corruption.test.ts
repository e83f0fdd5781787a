import { generateX25519Identity, identityToRecipient } from 'age-encryption';
import { writeFile } from 'node:fs/promises';
import { gunzipSync, gzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { startFaultProxy } from '../support/fault-proxy.ts';
import { createDatabase } from '../support/postgres.ts';
import { databaseNames, dumpOf, futureDatabase, makeBackup, pgark, said } from '../support/restoring.ts';
import { fileStorage, s3Storage } from '../support/storage.ts';
import { makeTempDirectory } from '../support/temp.ts';

const SQL = `CREATE TABLE t AS SELECT i, md5(i::text) AS h FROM generate_series(1, 20000) i`;

function flipped(bytes: Buffer, at: number): Buffer {
  const copy = Buffer.from(bytes);
  copy[at] = (copy[at] ?? 0) ^ 0x10;
  return copy;
}

const damages: readonly [what: string, damage: (object: Buffer) => Buffer | undefined, words: string][] = [
  ['a changed byte at the start', (object) => flipped(object, 3), ''],
  ['a changed byte in the middle', (object) => flipped(object, Math.floor(object.length / 2)), ''],
  ['a changed last byte', (object) => flipped(object, object.length - 1), ''],
  ['a missing end', (object) => object.subarray(0, object.length - 100), 'were recorded: it was truncated or replaced'],
  ['another content of the same size', (object) => Buffer.alloc(object.length, 'x'), ''],
  ['no object at all', () => undefined, 'is missing from'],
];

describe('an object that is not what was written', { timeout: 300_000 }, () => {
  test.each(damages)('%s is found, and the target is not touched', async (_what, damage, words) => {
    await using storage = await fileStorage();
    await using source = await createDatabase({ name: 'src', sql: SQL });
    await using target = await createDatabase({ name: 'old', sql: 'CREATE TABLE old AS SELECT 1 AS a' });
    const restored = futureDatabase('never');
    const backup = await makeBackup({ database: source, storage });
    const bad = damage(await storage.get(backup.key));
    await storage.remove(backup.key);
    if (bad !== undefined) await storage.put(backup.key, bad);
    const before = await dumpOf(target);
    for (const how of ['--verify-first', '--no-verify-first']) {
      for (const where of [
        ['--to-db', restored.name],
        ['--to-db', target.name, '--clean'],
      ]) {
        const result = await pgark({ database: source, storage }, ['restore', 'latest', how, ...where]);
        expect(result.exitCode).toBe(20);
        expect(said(result)).toContain(backup.key);
        expect(said(result)).toContain(words);
      }
    }
    expect(await databaseNames(restored.name)).toEqual([]);
    expect(await databaseNames(restored.name.slice(0, 15))).toEqual([]);
    expect(await dumpOf(target)).toBe(before);
    const verified = await pgark({ storage }, ['verify', backup.id]);
    expect(verified.exitCode).toBe(20);
    expect(said(verified)).toContain(backup.key);
  });

  test('of the same content, but compressed anew, is damaged too', async () => {
    await using storage = await s3Storage();
    await using source = await createDatabase({ name: 'src', sql: SQL });
    const restored = futureDatabase('never');
    const backup = await makeBackup({ database: source, storage });
    await storage.put(backup.key, gzipSync(gunzipSync(await storage.get(backup.key)), { level: 1 }));
    const result = await pgark({ database: source, storage }, ['restore', 'latest', '--to-db', restored.name]);
    expect(result.exitCode).toBe(20);
    expect(said(result)).toContain(`${backup.key} has`);
    expect(said(result)).toContain('it was');
  });

  test.each([
    ['a new database', false],
    ['an existing one', true],
  ])('changed only after it was checked, between the two readings, is not restored into %s', async (_where, exists) => {
    await using storage = await s3Storage();
    await using proxy = await startFaultProxy(storage.env['S3_ENDPOINT'] ?? '');
    await using source = await createDatabase({ name: 'src', sql: SQL });
    await using target = exists
      ? await createDatabase({ name: 'old', sql: 'CREATE TABLE old (a int)' })
      : futureDatabase();
    const backup = await makeBackup({ database: source, storage });
    const bytes = await storage.get(backup.key);
    let readings = 0;
    proxy.setFaults(({ operation, url }) => {
      if (operation !== 'GetObject' || !decodeURIComponent(url.pathname).endsWith(`/${backup.key}`)) return undefined;
      readings += 1;
      // The first block is tried, then everything is checked; the third reading, which loads it, finds another object.
      if (readings !== 3) return undefined;
      return { kind: 'delay', until: storage.put(backup.key, flipped(bytes, bytes.length - 20)) };
    });
    const env = { S3_ENDPOINT: proxy.endpoint };
    const before = exists ? await dumpOf(target) : '';
    const args = ['restore', 'latest', '--to-db', target.name, ...(exists ? ['--clean'] : [])];
    const result = await pgark({ database: source, storage, env }, args);
    expect(readings).toBe(3);
    expect(result.exitCode).toBe(20);
    expect(said(result)).toContain(backup.key);
    expect(result.stderr).toContain('loading');
    if (exists) expect(await dumpOf(target)).toBe(before);
    else expect(await databaseNames(target.name.slice(0, 15))).toEqual([]);
  });
});

describe('a manifest that is not what was written', { timeout: 300_000 }, () => {
  test('is named, whatever is wrong with it', async () => {
    await using storage = await fileStorage();
    await using source = await createDatabase({ name: 'src', sql: SQL });
    const restored = futureDatabase('never');
    const older = await makeBackup({ database: source, storage });
    const backup = await makeBackup({ database: source, storage });
    const good = await storage.get(backup.manifestKey);
    const restoreTo = (name: string) =>
      pgark({ database: source, storage }, ['restore', name, '--to-db', restored.name, '--plan']);

    await storage.put(backup.manifestKey, good.subarray(0, good.length / 2));
    for (const name of ['latest', backup.id]) {
      const result = await restoreTo(name);
      expect(result.exitCode).toBe(20);
      expect(said(result)).toContain(`the manifest ${backup.manifestKey} cannot be read`);
    }
    expect((await restoreTo(older.id)).exitCode).toBe(0);
    const verified = await pgark({ storage }, ['verify', '-o', 'json']);
    expect(verified.exitCode).toBe(20);
    expect(JSON.parse(verified.stdout)).toMatchObject({
      backups: [{ id: older.id, passed: true, depth: 'read' }],
      damaged: [{ key: backup.manifestKey }],
    });

    await storage.put(backup.manifestKey, good.toString().replace('"layout": 1', '"layout": 2'));
    const higher = await restoreTo(backup.id);
    expect(higher.exitCode).toBe(1);
    expect(said(higher)).toContain('has layout 2');

    await storage.put(backup.manifestKey, await storage.get(older.manifestKey));
    const other = await restoreTo(backup.id);
    expect(other.exitCode).toBe(20);
    expect(said(other)).toContain(
      `the manifest ${backup.manifestKey} is that of another backup: ${older.id} of database `,
    );
    const listed = await pgark({ storage }, ['list', '-o', 'json']);
    expect(JSON.parse(listed.stdout)).toMatchObject({
      storages: [
        {
          backups: [{ id: older.id }],
          damaged: [{ key: backup.manifestKey, objects: [{ key: backup.key }] }],
          foreign: [],
        },
      ],
    });
  });
});

describe('an encrypted backup', { timeout: 300_000 }, () => {
  test('wants its key, and no other', async () => {
    await using directory = await makeTempDirectory();
    await using storage = await fileStorage();
    await using source = await createDatabase({ name: 'src', sql: SQL });
    const restored = futureDatabase('never');
    const [identity, other] = [await generateX25519Identity(), await generateX25519Identity()];
    await writeFile(directory.join('right'), identity);
    await writeFile(directory.join('wrong'), other);
    await writeFile(directory.join('phrase'), 'some other passphrase of enough characters');
    const place = { database: source, storage };
    await makeBackup({ ...place, env: { BACKUP_ENCRYPTION_KEY: await identityToRecipient(identity) } });
    const attempt = (...keys: string[]) => pgark(place, ['restore', 'latest', '--to-db', restored.name, ...keys]);
    for (const how of ['--verify-first', '--no-verify-first']) {
      const missing = await attempt(how);
      expect(missing.exitCode).toBe(12);
      expect(said(missing)).toMatch(/\.sql\.gz\.age: the data is encrypted for .*--identity/s);
      expect((await attempt(how, '--identity', directory.join('wrong'))).exitCode).toBe(12);
    }
    expect((await attempt('--passphrase-file', directory.join('phrase'))).exitCode).toBe(12);
    expect((await attempt('--identity', directory.join('absent'))).exitCode).toBe(1);

    await makeBackup({
      ...place,
      env: { BACKUP_ENCRYPTION: 'openssl', BACKUP_ENCRYPTION_KEY: 'the right passphrase of enough characters' },
    });
    const none = await attempt();
    expect(none.exitCode).toBe(12);
    expect(said(none)).toMatch(/\.sql\.gz\.enc: the data is encrypted with a passphrase.*--passphrase-file FILE/s);
    const another = await attempt('--passphrase-file', directory.join('phrase'));
    expect(another.exitCode).toBe(12);
    expect(said(another)).toMatch(/\.sql\.gz\.enc: the passphrase is not the one that it was encrypted with/);
    expect(await databaseNames(restored.name.slice(0, 15))).toEqual([]);
  });
});
