import { chmod, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { expect, test } from 'vitest';
import { fileStorage, pgarkJson, substance, succeed } from '../support/backups.ts';
import { runPgark, runProgram } from '../support/cli.ts';
import { createDatabase } from '../support/postgres.ts';
import { makeTempDirectory } from '../support/temp.ts';

const FOLDER = /^shop\/archive\/\d{8}T\d{6}Z-d[a-z2-7]{6}\//;

test('an archive is made by BACKUP_FORMAT or --format, and told of by its folder', async () => {
  await using storage = await fileStorage();
  await using database = await createDatabase({ sql: 'CREATE TABLE t AS SELECT generate_series(1, 10) AS n' });
  const env = { ...storage.env, DATABASE_URL: database.url, BACKUP_NAME: 'shop', BACKUP_COMPRESSION: 'zstd' };
  const dry = await succeed(['backup', '--format', 'directory', '--dry-run'], env);
  expect(dry.stdout).toMatch(/folder +shop\/archive\//);
  expect(await substance(storage)).toEqual([]);

  const made = await succeed(['backup', '--format', 'directory', '--jobs', '2'], env);
  expect(made.stdout).toMatch(/folder +shop\/archive\/\S+\/\n/);
  const keys = await storage.keys();
  const inFolder = keys.filter((key) => FOLDER.test(key)).map((key) => key.replace(FOLDER, ''));
  expect(inFolder).toEqual(expect.arrayContaining(['SHA256SUMS', 'toc.dat', 'pg_dump.toc.zst', 'contents.json.zst']));
  expect(inFolder.filter((name) => /^\d+\.dat\.zst$/.test(name)).length).toBe(1);

  const again = await pgarkJson<{ results: { backup: { format: string } }[] }>(['backup'], {
    ...env,
    BACKUP_FORMAT: 'directory',
  });
  expect(again.results).toMatchObject([{ state: 'committed', backup: { format: 'directory' } }]);
});

test('pg_dump that is held up by somebody who waits for the dump makes it begin anew', async () => {
  await using storage = await fileStorage();
  await using directory = await makeTempDirectory();
  await using database = await createDatabase({ sql: 'CREATE TABLE t AS SELECT generate_series(1, 10) AS n' });
  const found = await runProgram('sh', ['-c', 'command -v pg_dump']);
  const real = found.stdout.trim();
  const marker = path.join(directory.path, 'held-up');
  // The first time it is run for a dump, somebody else comes in between and waits for the lock on the table.
  const program = `#!/bin/sh
case "$*" in *--snapshot*)
  if [ ! -e '${marker}' ]; then
    : > '${marker}'
    PGOPTIONS= psql -X -q -c 'ALTER TABLE t ADD COLUMN added int' >/dev/null 2>&1 &
    until [ "$(psql -X -A -t -c "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'ALTER TABLE t ADD%' AND wait_event_type = 'Lock'")" = 1 ]; do :; done
  fi;;
esac
exec '${real}' "$@"
`;
  const wrapper = path.join(directory.path, 'pg_dump');
  await writeFile(wrapper, program);
  await chmod(wrapper, 0o755);
  const env = { ...storage.env, DATABASE_URL: database.url, BACKUP_FORMAT: 'directory' };
  const result = await runPgark(['backup'], { env: { ...env, PGARK_CLIENT_DIR: directory.path } });
  expect(result).toMatchObject({ exitCode: 0, stderr: expect.stringContaining('the dump begins anew') });
  // It had its turn when the dump gave way.
  expect(
    await database.query(`SELECT FROM pg_attribute WHERE attrelid = 't'::regclass AND attname = 'added'`),
  ).toHaveLength(1);
});

test('a job of a configuration file makes archives, unless it says otherwise or names its files', async () => {
  await using directory = await makeTempDirectory();
  await using database = await createDatabase({ sql: 'CREATE TABLE t AS SELECT generate_series(1, 10) AS n' });
  const jobs = { byDefault: {}, named: { filename: '{database}_{id}' }, plain: { format: 'plain' } };
  const configuration = {
    version: 1,
    storages: { local: { type: 'file', path: directory.join('backups') } },
    databases: { shop: { url: database.url, globals: 'none', jobs } },
  };
  const file = directory.join('pgark.yaml');
  await writeFile(file, JSON.stringify(configuration), { mode: 0o600 });
  const { results } = await pgarkJson<{ results: { backup: { format: string } }[] }>(['backup'], {
    PGARK_CONFIG: file,
  });
  expect(results.map(({ backup }) => backup.format)).toEqual(['directory', 'plain', 'plain']);
});
