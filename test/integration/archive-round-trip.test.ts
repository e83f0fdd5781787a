import { generateX25519Identity, identityToRecipient } from 'age-encryption';
import { writeFile } from 'node:fs/promises';
import { describe, expect, test } from 'vitest';
import { systemClock } from '../../src/common/clock.ts';
import { systemRandom } from '../../src/common/random.ts';
import { operationContext } from '../../src/operations/context.ts';
import { prune } from '../../src/operations/prune.ts';
import { FileStore } from '../../src/storage/file/file-store.ts';
import { unorderedDumpOf } from '../support/archives.ts';
import { runProgram } from '../support/cli.ts';
import { createDatabase } from '../support/postgres.ts';
import { futureDatabase, makeBackup, pgark } from '../support/restoring.ts';
import { RICH_SQL } from '../support/rich-database.ts';
import { fileStorage, s3Storage } from '../support/storage.ts';
import { makeTempDirectory } from '../support/temp.ts';

const FORMAT = { BACKUP_FORMAT: 'directory', BACKUP_JOBS: '2' };

describe('an archive comes back the same', { timeout: 300_000 }, () => {
  test('from S3, encrypted: by restore, by verify to the last row, and as a folder for pg_restore', async () => {
    await using directory = await makeTempDirectory();
    await using storage = await s3Storage();
    await using source = await createDatabase({ sql: RICH_SQL });
    await using restored = futureDatabase();
    const identity = await generateX25519Identity();
    const keyFile = directory.join('key');
    await writeFile(keyFile, `${identity}\n`, { mode: 0o600 });
    const encryption = { BACKUP_ENCRYPTION: 'age', BACKUP_ENCRYPTION_KEY: await identityToRecipient(identity) };
    const env = { ...FORMAT, BACKUP_COMPRESSION: 'zstd', ...encryption };
    const backup = await makeBackup({ database: source, storage, env });
    expect(backup.key).toMatch(/\/archive\/.*\.age$/);
    const opened = ['--identity', keyFile];

    const verified = await pgark({ storage, env }, ['verify', backup.id, '--deep', ...opened]);
    expect(verified).toMatchObject({ exitCode: 0 });

    const args = ['restore', 'latest', '--to-db', restored.name, '--jobs', '2', ...opened];
    const done = await pgark({ database: source, storage, env }, args);
    expect(done).toMatchObject({ exitCode: 0 });
    const expected = await unorderedDumpOf(source);
    expect(await unorderedDumpOf(restored)).toEqual(expected);

    const folder = directory.join('folder');
    expect(await pgark({ storage, env }, ['download', 'latest', folder, ...opened])).toMatchObject({ exitCode: 0 });
    await using byHand = await createDatabase({ createOptions: 'TEMPLATE template0' });
    const stock = await runProgram('pg_restore', ['--exit-on-error', '-j', '2', '-d', byHand.name, folder], {
      env: byHand.env,
    });
    expect(stock).toMatchObject({ exitCode: 0, stderr: '' });
    expect(await unorderedDumpOf(byHand)).toEqual(expected);
  });

  test('from a directory, in place, and the folder goes with a prune', async () => {
    await using storage = await fileStorage();
    await using source = await createDatabase({
      name: 'src',
      sql: 'CREATE TABLE t AS SELECT generate_series(1, 9) AS n',
    });
    const env = FORMAT;
    const older = await makeBackup({ database: source, storage, env });
    await source.query('DELETE FROM t WHERE n > 3');
    const result = await pgark({ database: source, storage, env }, [
      'restore',
      older.id,
      '--in-place',
      '--drop-old',
      '--yes',
      source.name,
    ]);
    expect(result).toMatchObject({ exitCode: 0 });
    expect(await source.query('SELECT count(*)::int AS n FROM t')).toEqual([{ n: 9 }]);
    const newer = await makeBackup({ database: source, storage, env });
    await using store = new AsyncDisposableStack();
    const files = new FileStore({ root: storage.path, clock: systemClock, random: systemRandom });
    store.defer(() => files.close());
    const policy = { keep: { last: 1 }, minBackups: 1 };
    const how = {
      filter: {},
      policyOf: () => policy,
      timezone: 'UTC',
      leaseTermMs: 60_000,
      dryRun: false,
      force: true,
    };
    await prune({ store: files, ...how }, operationContext({}));
    const folderOf = (key: string): string => key.slice(0, key.lastIndexOf('/') + 1);
    const keys = await storage.keys();
    expect(keys.filter((key) => key.startsWith(folderOf(older.key)))).toEqual([]);
    expect(keys.filter((key) => key.startsWith(folderOf(newer.key))).length).toBeGreaterThan(4);
  });
});
