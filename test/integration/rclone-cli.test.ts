import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, test, vi } from 'vitest';
import { expectExit, expectFailure, filler, pgarkJson, startPgark, succeed, urlOf } from '../support/backups.ts';
import { runPgark } from '../support/cli.ts';
import { postgresFacts, s3Facts } from '../support/facts.ts';
import { createDatabase, openDatabase } from '../support/postgres.ts';
import { makeRclonePlace } from '../support/rclone.ts';
import { createBucket } from '../support/s3.ts';
import { startTcpProxy } from '../support/tcp-proxy.ts';

// A process for each step, on few cores.
vi.setConfig({ testTimeout: 300_000 });

const SQL = `CREATE TABLE t (n int PRIMARY KEY, text text); INSERT INTO t SELECT n, md5(n::text) FROM generate_series(1, 50000) n;`;
const CHECK = `SELECT count(*) || ' ' || md5(string_agg(text, ',' ORDER BY n)) AS value FROM t`;

interface Listed {
  readonly storages: readonly { readonly backups: readonly { readonly id: string }[] }[];
}

async function filesOf(root: string): Promise<string[]> {
  const entries = await readdir(root, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile());
  return files.map((entry) => path.relative(root, path.join(entry.parentPath, entry.name))).sort();
}

describe('pgark with a storage of rclone', () => {
  test.each([
    ['that renames', false],
    ['in a bucket', true],
  ])('%s backs up, lists, verifies, prunes and restores', async (_title, inBucket) => {
    await using place = await makeRclonePlace();
    await using bucket = await createBucket();
    await using database = await createDatabase({ sql: SQL });
    await using restored = openDatabase(`${database.name} restored`);
    const env = {
      BACKUP_STORAGE: inBucket ? `rclone:ceph:${bucket.name}/backups` : 'rclone:disk:backups',
      RCLONE_CONFIG: place.configFile,
      DATABASE_URL: database.url,
    };
    const keys = async (): Promise<string[]> =>
      (await (inBucket ? bucket.listKeys() : filesOf(place.root))).map((key) => key.replace(/^backups\//, ''));

    const done = await succeed(['backup'], env);
    expect(done.stdout + done.stderr).not.toContain(s3Facts().secretKey);
    expect((await keys()).filter((key) => key.includes('.pgark-'))).toEqual([]);
    expect((await keys()).filter((key) => key.endsWith('.sql.gz'))).toHaveLength(1);

    const listed = await pgarkJson<Listed>(['list'], env);
    expect(listed.storages[0]?.backups).toHaveLength(1);
    await succeed(['verify', 'latest'], env);
    await succeed(['prune', '--dry-run'], { ...env, BACKUP_RETENTION_DAYS: '7' });
    await succeed(['restore', 'latest', '--to-db', restored.name], env);
    expect(await restored.query(CHECK)).toEqual(await database.query(CHECK));
  });

  test('leaves nothing of a backup that was ended in its middle', async () => {
    await using place = await makeRclonePlace();
    await using database = await createDatabase({ sql: filler(20) });
    await using proxy = await startTcpProxy(postgresFacts());
    const env = {
      BACKUP_STORAGE: 'rclone:disk:',
      RCLONE_CONFIG: place.configFile,
      DATABASE_URL: urlOf(database.name, { port: proxy.port }),
      BACKUP_COMPRESSION: 'none',
    };
    // Twice what rclone keeps before it begins.
    const held = proxy.holdAfter(16 * 2 ** 20);
    const started = startPgark(['backup'], { env });
    await held;
    const isOpen = async (): Promise<boolean> =>
      (await filesOf(place.root)).some((file) => file.includes('.pgark-data-'));
    await vi.waitUntil(isOpen, { timeout: 240_000 });
    await started.kill('SIGTERM');
    expectExit(await started.result, 130);
    const left = (await filesOf(place.root)).filter(
      (file) => !/^\.pgark\/(?:repository\.json|leases|runs|logs)/.test(file),
    );
    expect(left).toEqual([]);
  });

  test('says what is wrong with the remote, and what to do', async () => {
    await using place = await makeRclonePlace();
    const env = { RCLONE_CONFIG: place.configFile };
    expectFailure(await runPgark(['list'], { env: { ...env, BACKUP_STORAGE: 'rclone:nowhere:x' } }), {
      exit: 3,
      message: /rclone:nowhere:x.*didn't find section in config file/,
      hint: /rclone config/,
    });
    expectFailure(await runPgark(['list'], { env: { ...env, BACKUP_STORAGE: 'rclone:disk:typo' } }), {
      exit: 3,
      message: /there is no rclone:disk:typo/,
      hint: /correct the path/,
    });
    expectFailure(
      await runPgark(['list'], { env: { ...env, BACKUP_STORAGE: 'rclone:s3,secret_access_key=topsecret:x' } }),
      {
        exit: 3,
        message: /^(?!.*topsecret).*connection string/,
        hint: /rclone\.conf/,
      },
    );
  });
});
