import { describe, expect, test } from 'vitest';
import { pgarkPath, runProgram } from '../support/cli.ts';
import { createDatabase } from '../support/postgres.ts';
import { makeTempDirectory } from '../support/temp.ts';

/** Runs a line of bash in which `$PGARK` is the program; gives what it printed. */
async function bash(line: string, env: Readonly<Record<string, string>>): Promise<string> {
  const { stdout } = await runProgram('bash', ['-c', line], { env: { ...env, PGARK: pgarkPath } });
  return stdout.trim();
}

describe('a reader that goes away', () => {
  test('does not make a failed backup look like a good one', async () => {
    await using directory = await makeTempDirectory();
    const env = { DATABASE_URL: 'postgres://u:p@127.0.0.1:1/shop', BACKUP_STORAGE: `file://${directory.path}` };
    expect(await bash('"$PGARK" backup -o json 2>/dev/null | true; echo "${PIPESTATUS[0]}"', env)).toBe('1');
  });

  test('does not end a backup whose log or result nobody takes', async () => {
    await using database = await createDatabase({ sql: 'create table t as select generate_series(1, 1000) as id' });
    await using directory = await makeTempDirectory();
    const env = { DATABASE_URL: database.url, BACKUP_STORAGE: `file://${directory.path}` };
    expect(await bash('"$PGARK" -v backup 2>&1 >/dev/null | true; echo "${PIPESTATUS[0]}"', env)).toBe('0');
    expect(await bash('"$PGARK" backup 2>/dev/null | true; echo "${PIPESTATUS[0]}"', env)).toBe('0');
    const listed = JSON.parse(await bash('"$PGARK" list -o json', env)) as { storages: { backups: unknown[] }[] };
    expect(listed.storages[0]?.backups).toHaveLength(2);
  });
});

describe('an output that cannot be written', () => {
  test('does not end the daemon when it is the log', async () => {
    await using database = await createDatabase({ sql: 'create table t as select 1 as n' });
    await using directory = await makeTempDirectory();
    const env = {
      DATABASE_URL: database.url,
      BACKUP_STORAGE: `file://${directory.path}`,
      BACKUP_INTERVAL: '2s',
      PGARK_LISTEN: '127.0.0.1:0',
    };
    const line = `"$PGARK" -v daemon 2>/dev/full & pid=$!
      for _ in $(seq 600); do
        if [ "$(ls "$DIRECTORY"/.pgark/backups/*/* 2>/dev/null | wc -l)" -ge 2 ]; then break; fi
        kill -0 $pid || break
        sleep 0.1
      done
      kill $pid; wait $pid; echo $?`;
    expect(await bash(line, { ...env, DIRECTORY: directory.path })).toBe('0');
    const listed = JSON.parse(await bash('"$PGARK" list -o json', env)) as { storages: { backups: unknown[] }[] };
    expect(listed.storages[0]?.backups.length).toBeGreaterThanOrEqual(2);
  });

  test('makes a failure of a command, whose work is done all the same', async () => {
    await using database = await createDatabase({ sql: 'create table t as select 1 as n' });
    await using directory = await makeTempDirectory();
    const env = { DATABASE_URL: database.url, BACKUP_STORAGE: `file://${directory.path}` };
    expect(await bash('"$PGARK" backup -o json 2>/dev/full; echo $?', env)).toMatch(/^\{[^]*\}\n0$/);
    expect(await bash('"$PGARK" backup -o json 2>&1 >/dev/full; echo $?', env)).toMatch(
      /error {2}the output could not be written: ENOSPC.*\n1$/,
    );
    const listed = JSON.parse(await bash('"$PGARK" list -o json', env)) as { storages: { backups: unknown[] }[] };
    expect(listed.storages[0]?.backups).toHaveLength(2);
  });
});
