import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { expect, test } from 'vitest';
import { expectExit, expectRestores, fileStorage, filler, pgarkJson, succeed } from '../support/backups.ts';
import { runProgram } from '../support/cli.ts';
import { createDatabase, openDatabase } from '../support/postgres.ts';
import { makeTempDirectory } from '../support/temp.ts';

interface Kit {
  readonly keys: readonly string[];
  readonly storages: readonly {
    readonly backups: readonly {
      readonly id: string;
      readonly by_hand: readonly string[];
      readonly with_pgark: string;
    }[];
  }[];
}

test('a database comes back by what the kit says, with the storage and the key alone, without pgark', async () => {
  await using storage = await fileStorage();
  await using database = await createDatabase({ name: 'shop', sql: filler(1) });
  await using folder = await makeTempDirectory();
  const { stdout: identityFile } = await succeed(['key', 'generate'], {});
  const identity = /AGE-SECRET-KEY-\S+/.exec(identityFile)?.[0] ?? '';
  const recipient = /public key: (age1\S+)/.exec(identityFile)?.[1] ?? '';
  const env = {
    ...storage.env,
    DATABASE_URL: database.url,
    BACKUP_ENCRYPTION: 'age',
    BACKUP_ENCRYPTION_KEY: recipient,
  };
  await succeed(['backup'], env);
  const { stdout: text } = await succeed(['key', 'recovery-kit'], env);
  expect(text).toContain(`the age identity (AGE-SECRET-KEY-1…) of ${recipient}`);
  expect(text).toContain(storage.env['BACKUP_STORAGE']);
  expect(text.split(recipient)).toHaveLength(2);
  expect(text).not.toContain(identity);

  // Whoever has lost the configuration has the storage, and what was printed.
  const kit = await pgarkJson<Kit>(['key', 'recovery-kit'], storage.env);
  const [backup] = kit.storages[0]?.backups ?? [];
  expect(kit.keys).toEqual([`the age identity (AGE-SECRET-KEY-1…) of ${recipient}`]);
  const [copy = '', load = ''] = backup?.by_hand ?? [];
  const [, file = ''] = /^copy file:\/\/(.*) into a folder/.exec(copy) ?? [];
  await using restored = openDatabase(`kit ${Date.now()}`);
  await database.query(`CREATE DATABASE "${restored.name}"`);
  await writeFile(folder.join('KEY_FILE'), identity);
  const script = `cp '${file}' . && ${load.replace('-d NEW_DATABASE', '')}`;
  const result = await runProgram('bash', ['-o', 'pipefail', '-c', script], { env: restored.env, cwd: folder.path });
  expectExit(result, 0);
  expect(path.basename(file)).toMatch(/\.sql\.gz\.age$/);
  const count = 'select count(*), sum(length(text)) from filler';
  expect(await restored.query(count)).toEqual(await database.query(count));
  await expectRestores(database, { ...storage, env: { ...env, BACKUP_ENCRYPTION_KEY: identity } });
});
