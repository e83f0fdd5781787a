import { writeFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { expectExit, fileStorage } from '../support/backups.ts';
import { runPgark } from '../support/cli.ts';
import { createDatabase, openDatabase } from '../support/postgres.ts';
import { makeTempDirectory } from '../support/temp.ts';

test('rows that exclude_table_data names are left out, as the manifest says; their tables come back empty', async () => {
  await using folder = await makeTempDirectory();
  await using storage = await fileStorage(folder.join('backups'));
  await using database = await createDatabase({
    sql: `CREATE SCHEMA audit; CREATE TABLE audit.entries AS SELECT 'not to be kept' AS words;
      CREATE TABLE audit_plan AS SELECT 'kept' AS words; CREATE TABLE orders AS SELECT generate_series(1, 3) AS n;`,
  });
  await writeFile(
    folder.join('pgark.yaml'),
    `
version: 1
storages: { near: { type: file, path: backups } }
defaults: { compression: none }
databases:
  shop: { url: ${JSON.stringify(database.url)}, jobs: { nightly: { format: plain, schedule: "@daily", exclude_table_data: ["audit.*"] } } }
`,
  );
  const run = (...args: string[]) => runPgark([...args, '--config', 'pgark.yaml'], { cwd: folder.path });
  expectExit(await run('backup'), 0);
  const keys = await storage.keys();
  const manifestKey = keys.find((key) => key.startsWith('.pgark/backups/')) ?? '';
  expect(JSON.parse((await storage.get(manifestKey)).toString())).toMatchObject({ excluded: ['audit.*'] });
  const dumpKey =
    keys.find((key) => key.endsWith('.sql') && !key.startsWith('.pgark/') && !key.includes('globals')) ?? '';
  const dump = (await storage.get(dumpKey)).toString();
  expect(dump).toContain('CREATE TABLE audit.entries');
  expect(dump).not.toContain('not to be kept');

  await using restored = openDatabase(`restored ${database.name}`);
  expectExit(await run('restore', 'latest', '--to-db', restored.name), 0);
  expect(await restored.query('SELECT count(*)::int AS count FROM audit.entries')).toEqual([{ count: 0 }]);
  expect(await restored.query('SELECT words FROM audit_plan')).toEqual([{ words: 'kept' }]);
  expect(await restored.query('SELECT count(*)::int AS count FROM orders')).toEqual([{ count: 3 }]);
});
