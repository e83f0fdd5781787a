import { describe, expect, test } from 'vitest';
import { runCli } from '../../src/cli/program.ts';
import { cliWorld, recordingTerminal } from '../support/cli-world.ts';
import { createDatabase } from '../support/postgres.ts';
import { dumpOf, futureDatabase, type MadeBackup, makeBackup, pgark, said } from '../support/restoring.ts';
import { fileStorage, s3Storage, type TestStorage } from '../support/storage.ts';

const SMALL = 'CREATE TABLE t AS SELECT 1 AS a';

/** Puts a copy of a backup into the storage as one that was taken at another time. */
async function copyAsOf(storage: TestStorage, backup: MadeBackup, startedAt: string): Promise<string> {
  const compact = `${startedAt.slice(0, 19).replaceAll(/[-:]/g, '')}Z`;
  const id = `${compact}${backup.id.slice(compact.length)}`;
  const key = `copy_${id}.sql.gz`;
  const manifest = (await storage.get(backup.manifestKey)).toString();
  await storage.put(key, await storage.get(backup.key));
  const copied = JSON.parse(manifest) as Record<string, unknown> & { objects: Record<string, unknown>[] };
  const changed = { ...copied, id, startedAt, objects: [{ ...copied.objects[0], key }] };
  await storage.put(backup.manifestKey.replace(backup.id, id), JSON.stringify(changed));
  return id;
}

describe('which backup', { timeout: 300_000 }, () => {
  test.each([
    ['file', fileStorage],
    ['s3', s3Storage],
  ])('latest, id, file name, key, URL and time find theirs (%s)', async (_kind, makeStorage) => {
    await using storage = await makeStorage();
    await using database = await createDatabase({ sql: SMALL });
    const place = { database, storage };
    const newest = await makeBackup({
      ...place,
      env: { BACKUP_FILENAME: 'folder/{database}_{YYYY-MM-DDTHH:MM:SSZ}.sql.gz' },
    });
    const first = await copyAsOf(storage, newest, '2026-01-01T02:00:00.700Z');
    const second = await copyAsOf(storage, newest, '2026-01-02T02:00:00.000Z');
    const planned = async (...args: string[]) => {
      const result = await pgark(place, ['restore', ...args, '--to-db', 'x', '--plan', '-o', 'json']);
      const outcome = result.exitCode === 0 ? (JSON.parse(result.stdout) as { backup: { id: string } }) : undefined;
      return { result, id: outcome?.backup.id };
    };
    for (const name of ['latest', newest.id, `${storage.location}/${newest.key}`]) {
      expect([name, (await planned(name)).id]).toEqual([name, newest.id]);
    }
    expect((await planned('--at', '2026-01-02 04:00:00+03:00')).id).toBe(first);
    expect((await planned(database.name, '--at', '2026-01-03')).id).toBe(second);
    expect((await planned(database.name, first)).id).toBe(first);
    const early = await planned('--at', '2026-01-01');
    expect(early.result.exitCode).toBe(10);
    expect(said(early.result)).toContain(`the oldest is ${first}`);
    const typo = `${newest.id.slice(0, -1)}_`;
    const wrong = await planned(typo);
    expect(wrong.result.exitCode).toBe(10);
    expect(said(wrong.result)).toContain(`Backup not found: ${typo}`);
    expect(said(wrong.result)).toContain(newest.id);
  });

  test('with several databases in one storage, each is found by its name', async () => {
    await using storage = await fileStorage();
    await using shop = await createDatabase({ name: 'shop', sql: SMALL });
    await using shopEu = await createDatabase({ name: 'shop eu', sql: 'CREATE TABLE eu AS SELECT 2 AS a' });
    await using restored = futureDatabase();
    const inShop = await makeBackup({ database: shop, storage });
    const inEu = await makeBackup({ database: shopEu, storage });
    // The newest of the configured database, not the newest of all.
    const latest = await pgark({ database: shop, storage }, ['restore', 'latest', '--to-db', 'x', '--plan']);
    expect(latest.stdout).toContain(inShop.id);
    // A name says enough, whatever database is configured; and so does one that only the storage knows.
    const named = await pgark({ database: shop, storage }, ['restore', inEu.key, '--to-db', 'x', '--plan']);
    expect(named.stdout).toContain(inEu.id);
    const show = (...args: string[]) => pgark({ storage }, ['show', 'latest', ...args]);
    expect((await show('--database', shop.name)).stdout).toContain(inShop.id);
    const ambiguous = await show();
    expect(ambiguous.exitCode).toBe(2);
    expect(said(ambiguous)).toContain('--database');
    const other = await pgark({ database: shop, storage }, [
      'restore',
      shopEu.name,
      'latest',
      '--to-db',
      restored.name,
    ]);
    expect(other).toMatchObject({ exitCode: 0 });
    expect(await dumpOf(restored)).toBe(await dumpOf(shopEu));
    const unclear = await pgark({ storage }, ['restore', 'latest', '--to-url', restored.url]);
    expect(unclear.exitCode).toBe(2);
    expect(said(unclear)).toContain('there are backups of 2 databases');
    expect(said(unclear)).toContain(shopEu.name);
    const alone = await pgark({ storage }, ['restore', shopEu.name, '--to-url', restored.url]);
    expect(alone.exitCode).toBe(10);
    expect(said(alone)).toContain(`${shopEu.name} latest`);
    const mixed = await pgark({ database: shop, storage }, ['restore', shopEu.name, inShop.id, '--to-db', 'x']);
    expect(mixed.exitCode).toBe(10);
  });

  test('in an empty storage there is none', async () => {
    await using storage = await fileStorage();
    await using database = await createDatabase();
    const result = await pgark({ database, storage }, ['restore', 'latest', '--to-db', 'x']);
    expect(result.exitCode).toBe(10);
    expect(said(result)).toContain('pgark backup makes one');
  });
});

describe('wrong usage ends with 2 and does nothing', () => {
  test.each<[why: string, args: readonly string[], words: string]>([
    ['no argument', [], 'which backup'],
    ['no target', ['latest'], 'where to'],
    ['two targets', ['latest', '--to-db', 'x', '--to-url', 'postgres://h/x'], 'one target'],
    ['--at and latest', ['latest', '--at', '2026-01-01', '--to-db', 'x'], 'not both'],
    ['--at and a name', ['x.sql.gz', '--at', '2026-01-01', '--to-db', 'x'], 'not both'],
    ['--at that is no time', ['--at', 'yesterday', '--to-db', 'x'], 'is no time'],
    ['--at a day that does not exist', ['--at', '2026-02-30', '--to-db', 'x'], 'is no time'],
    ['--at a bare number', ['--at', '5', '--to-db', 'x'], 'is no time'],
    ['three names', ['a', 'b', 'c', '--to-db', 'x'], 'not 3 names'],
    ['--drop-old elsewhere', ['latest', '--drop-old', '--to-db', 'x'], '--in-place'],
    ['a URL that is none', ['latest', '--to-url', 'mysql://x'], '--to-url'],
    ['an unknown option', ['latest', '--to-database', 'x'], '--to-database'],
  ])('%s', async (_why, args, words) => {
    const terminal = recordingTerminal();
    // There is neither a server nor a storage: what is wrong shows before either is asked.
    const environment = { DATABASE_URL: 'postgres://nobody@127.0.0.1:1/x', BACKUP_STORAGE: 'file:///nonexistent' };
    expect(await runCli(['restore', ...args], cliWorld(terminal, environment))).toBe(2);
    expect(terminal.stderr()).toContain(words);
    expect(terminal.stdout()).toBe('');
  });
});
