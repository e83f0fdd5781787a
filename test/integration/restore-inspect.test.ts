import { writeFile } from 'node:fs/promises';
import { generateX25519Identity, identityToRecipient } from 'age-encryption';
import { describe, expect, test } from 'vitest';
import { createDatabase } from '../support/postgres.ts';
import { makeBackup, pgark, said } from '../support/restoring.ts';
import { fileStorage } from '../support/storage.ts';
import { makeTempDirectory } from '../support/temp.ts';

describe('what lies in the storage', { timeout: 300_000 }, () => {
  test('verify reads the newest whole and looks at the others; --deep reads all; each failure is named', async () => {
    await using storage = await fileStorage();
    await using database = await createDatabase({
      name: 'shop',
      sql: 'CREATE TABLE t AS SELECT generate_series(1, 5000)',
    });
    const older = await makeBackup({ database, storage });
    const newest = await makeBackup({ database, storage });
    const verify = async (...args: string[]) => {
      const result = await pgark({ storage }, ['verify', '-o', 'json', ...args]);
      const { backups } = JSON.parse(result.stdout) as { backups: { id: string; depth: string; passed: boolean }[] };
      return { result, outcome: backups.map(({ id, depth, passed }) => [id, depth, passed]) };
    };
    const whole = await verify();
    expect(whole.result.exitCode).toBe(0);
    expect(whole.outcome).toEqual([
      [older.id, 'present', true],
      [newest.id, 'read', true],
    ]);
    const bytes = await storage.get(older.key);
    const flipped = Buffer.from(bytes);
    flipped[100] = (flipped[100] ?? 0) ^ 1;
    await storage.put(older.key, flipped);
    expect((await verify()).result.exitCode).toBe(0);
    const deep = await verify('--deep');
    expect(deep.result.exitCode).toBe(20);
    expect(deep.outcome).toEqual([
      [older.id, 'read', false],
      [newest.id, 'read', true],
    ]);
    expect(said(deep.result)).toContain(older.key);
    await storage.put(older.key, bytes.subarray(1));
    const short = await verify();
    expect(short.result.exitCode).toBe(20);
    expect(said(short.result)).toContain(`${older.key} has ${bytes.length - 1} bytes`);
    await storage.remove(older.key);
    const gone = await verify(older.id);
    expect(gone.result.exitCode).toBe(20);
    expect(said(gone.result)).toContain(`${older.key}, a part of backup ${older.id}, is missing`);
    // What was proven is kept beside the backup.
    const proofs = (await storage.keys()).filter((key) => key.startsWith('.pgark/proofs/'));
    expect(proofs.some((key) => key.includes(newest.id))).toBe(true);
  });

  test('verify without the key compares what is stored, and says of no backup that it is damaged for want of a key', async () => {
    await using directory = await makeTempDirectory();
    await using storage = await fileStorage();
    await using database = await createDatabase({ name: 'shop', sql: 'CREATE TABLE t AS SELECT 1 AS a' });
    const [identity, other] = [await generateX25519Identity(), await generateX25519Identity()];
    await writeFile(directory.join('right'), identity);
    await writeFile(directory.join('wrong'), other);
    // As the host that makes the backups has it: the recipient alone.
    const env = { BACKUP_ENCRYPTION_KEY: await identityToRecipient(identity) };
    const place = { database, storage, env };
    const backup = await makeBackup(place);
    const verify = async (...args: string[]) => {
      const result = await pgark(place, ['verify', '-o', 'json', ...args]);
      const { backups } = JSON.parse(result.stdout) as { backups: { depth: string; passed: boolean }[] };
      return [result.exitCode, ...backups.map(({ depth, passed }) => [depth, passed])];
    };
    const proofs = async () => {
      const keys = (await storage.keys()).filter((key) => key.startsWith('.pgark/proofs/'));
      const texts = await Promise.all(keys.map((key) => storage.get(key)));
      return texts.map((text) => (JSON.parse(text.toString()) as { passed: boolean }).passed);
    };
    expect(await verify()).toEqual([0, ['stored', true]]);
    expect((await pgark(place, ['verify'])).stdout).toMatch(/stored bytes; no key +ok/);
    expect(await verify('--identity', directory.join('wrong'))).toEqual([12, ['stored', false]]);
    expect(await proofs()).toEqual([]);
    expect(await verify('--identity', directory.join('right'))).toEqual([0, ['read', true]]);
    expect(await proofs()).toEqual([true]);
    await makeBackup(place);
    expect(await verify('--deep', '--identity', directory.join('wrong'))).toEqual([
      12,
      ['stored', false],
      ['stored', false],
    ]);
    const bytes = await storage.get(backup.key);
    bytes[bytes.length - 5] = (bytes.at(-5) ?? 0) ^ 1;
    await storage.put(backup.key, bytes);
    expect((await verify(backup.id))[0]).toBe(20);
    expect((await verify(backup.id, '--identity', directory.join('wrong')))[0]).toBe(20);
    expect(await proofs()).toEqual([true, false, false]);
  });

  test('show says as data what the manifest holds, also with a damaged neighbour', async () => {
    await using storage = await fileStorage();
    await using database = await createDatabase({ name: 'shop', sql: 'CREATE TABLE t AS SELECT 1 AS a' });
    const backup = await makeBackup({ database, storage });
    await storage.put(backup.manifestKey.replace(/[^/]+\.json$/, '20200101T000000Z-paaaaaa.json'), '{');
    const shown = await pgark({ storage }, ['show', backup.id, '-o', 'json']);
    expect(shown).toMatchObject({ exitCode: 0 });
    expect(JSON.parse(shown.stdout)).toMatchObject({
      schema_version: 1,
      backup: {
        id: backup.id,
        database: database.name,
        objects: [{ key: backup.key, stored_bytes: (await storage.get(backup.key)).length }],
      },
    });
    const table = await pgark({ storage }, ['list']);
    expect(table.stdout).toContain(backup.id);
    expect(table.stdout + table.stderr).toContain('20200101T000000Z-paaaaaa.json');
  });
});
