import { access } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { runDemo } from '../../src/demo/demo.ts';
import { runPgark, runProgram } from '../support/cli.ts';
import { makeTempDirectory } from '../support/temp.ts';

/** Stands in for pgark: does what it is told with stock tools, and remembers. */
async function makeStandIn(behaviour: { readonly restore: 'works' | 'does nothing' | 'fails' }) {
  const directory = await makeTempDirectory();
  const file = directory.join('dump.sql');
  const commands: string[] = [];
  const urls: string[] = [];
  const backups: string[] = [];
  const shell = async (script: string, env: Record<string, string>) => {
    const result = await runProgram('sh', ['-euc', script], { env });
    expect(result).toMatchObject({ exitCode: 0, stderr: '' });
  };
  const standIn = async (args: readonly string[], settings: Readonly<Record<string, string>>) => {
    const { DATABASE_URL: url = '', BACKUP_STORAGE: storage = '' } = settings;
    commands.push(args.join(' '));
    urls.push(url);
    backups.push(storage);
    const env = { URL: url, SERVER: url.replace(/shop$/, 'postgres'), FILE: file };
    if (args[0] === 'backup') await shell('pg_dump --file="$FILE" "$URL"', env);
    if (args[0] === 'restore') {
      if (behaviour.restore === 'fails') return 20;
      if (behaviour.restore === 'works') {
        const psql = 'psql -qX -v ON_ERROR_STOP=1 -o /dev/null';
        await shell(
          `${psql} -c 'DROP DATABASE shop' -c 'CREATE DATABASE shop' "$SERVER"; ${psql} -f "$FILE" "$URL"`,
          env,
        );
      }
    }
    return 0;
  };
  return { runPgark: standIn, commands, urls, backups, [Symbol.asyncDispose]: () => directory[Symbol.asyncDispose]() };
}

/** The server does not answer any more, and the storage is gone. */
async function expectNothingLeft(url: string, storage: string): Promise<void> {
  const psql = await runProgram('psql', ['-X', '-c', 'SELECT 1', url]);
  expect(psql.stderr).toContain('Connection refused');
  await expect(access(fileURLToPath(storage))).rejects.toThrow('ENOENT');
}

describe('the demonstration', () => {
  test('works with pgark itself, at full size', { timeout: 300_000 }, async () => {
    const result = await runPgark(['demo']);
    expect(result).toMatchObject({ exitCode: 0, signal: null });
    expect(result.stdout).toContain('all is back: 1,000,712 rows in 14 tables and 12 large objects');
  });

  test('says each command, proves that all rows are back, and leaves nothing', async () => {
    await using pgark = await makeStandIn({ restore: 'works' });
    const lines: string[] = [];
    await runDemo({ runPgark: pgark.runPgark, print: (line) => lines.push(line), scale: 0.01 });
    expect(pgark.commands).toEqual(['backup', 'list', 'restore latest --in-place --yes shop', 'verify']);
    for (const command of pgark.commands) expect(lines).toContain(`$ pgark ${command}`);
    expect(lines.join('\n')).toContain('table sales.order_item is missing (it had 4000 rows)');
    expect(lines.join('\n')).toMatch(/all is back: [\d,]+ rows in 14 tables and 12 large objects/);
    await expectNothingLeft(pgark.urls[0] ?? '', pgark.backups[0] ?? '');
  });

  test('does not print the password of its server', async () => {
    await using pgark = await makeStandIn({ restore: 'works' });
    const lines: string[] = [];
    await runDemo({ runPgark: pgark.runPgark, print: (line) => lines.push(line), scale: 0.001 });
    const { password } = new URL(pgark.urls[0] ?? '');
    expect(password).not.toBe('');
    expect(lines.join('\n')).not.toContain(password);
  });

  test('fails if the restore did not bring everything back', async () => {
    await using pgark = await makeStandIn({ restore: 'does nothing' });
    const lines: string[] = [];
    const demo = runDemo({ runPgark: pgark.runPgark, print: (line) => lines.push(line), scale: 0.001 });
    await expect(demo).rejects.toMatchObject({ code: 'restore-failed' });
    await expectNothingLeft(pgark.urls[0] ?? '', pgark.backups[0] ?? '');
  });

  test('stops at a command that fails, and leaves nothing', async () => {
    await using pgark = await makeStandIn({ restore: 'fails' });
    const demo = runDemo({ runPgark: pgark.runPgark, print: () => {}, scale: 0.001 });
    await expect(demo).rejects.toThrow('"pgark restore latest --in-place --yes shop" ended with exit status 20');
    expect(pgark.commands).not.toContain('verify');
    await expectNothingLeft(pgark.urls[0] ?? '', pgark.backups[0] ?? '');
  });

  test('leaves nothing when it is interrupted', async () => {
    const abort = new AbortController();
    await using pgark = await makeStandIn({ restore: 'works' });
    const demo = runDemo({
      runPgark: async (args, env) => {
        if (args[0] === 'list') abort.abort(new Error('interrupted'));
        return pgark.runPgark(args, env);
      },
      print: () => {},
      signal: abort.signal,
      scale: 0.001,
    });
    await expect(demo).rejects.toThrow('interrupted');
    expect(pgark.commands).toEqual(['backup', 'list']);
    await expectNothingLeft(pgark.urls[0] ?? '', pgark.backups[0] ?? '');
  });
});
