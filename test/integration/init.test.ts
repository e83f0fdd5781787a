import { spawn } from 'node:child_process';
import { chmod, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, test, vi } from 'vitest';
import { expectExit, expectFailure, s3Storage, urlOf } from '../support/backups.ts';
import { pgarkPath, runPgark } from '../support/cli.ts';
import { postgresFacts } from '../support/facts.ts';
import { createDatabase } from '../support/postgres.ts';
import { makeTempDirectory } from '../support/temp.ts';

// Many processes side by side on few cores.
vi.setConfig({ testTimeout: 300_000 });

const SQL = 'CREATE TABLE orders AS SELECT generate_series(1, 100) AS id';

async function succeedIn(
  cwd: string,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<string> {
  const result = await runPgark(args, { cwd, env });
  expectExit(result, 0);
  return result.stdout;
}

async function modeOf(file: string): Promise<number> {
  return (await stat(file)).mode & 0o777;
}

describe.concurrent('pgark init', () => {
  test('writes by flags alone what backs up, encrypted, and is restored with the key beside it', async () => {
    await using directory = await makeTempDirectory();
    await using database = await createDatabase({ sql: SQL });
    const cwd = directory.path;
    await writeFile(directory.join('db.url'), `${database.url}\n`, { mode: 0o600 });
    const flags = ['--database-url-file', 'db.url', '--storage', 'file:./backups', '--encrypt', '--name', 'shop'];
    const said = await succeedIn(cwd, ['init', ...flags]);
    expect(said).toMatch(/^wrote pgark\.yaml\nwrote \S+\/pgark\.key: KEEP A COPY/);
    expect(said).toMatch(/^✓ connection /m);
    expect(said).toMatch(/^✓ storage /m);
    expect(said).toMatch(/^ {2}pgark doctor -c pgark\.yaml +tries all of it again$/m);
    expect(await modeOf(directory.join('pgark.yaml'))).toBe(0o600);
    expect(await modeOf(directory.join('pgark.key'))).toBe(0o600);
    const text = await readFile(directory.join('pgark.yaml'), 'utf8');
    expect(text).not.toContain(postgresFacts().password);
    expect(text).not.toContain('AGE-SECRET-KEY');
    expect((await readdir(cwd)).toSorted()).toEqual(['backups', 'db.url', 'pgark.key', 'pgark.yaml']);

    const config = ['-c', 'pgark.yaml'];
    expect(await succeedIn(cwd, ['config', 'show', ...config])).toMatch(
      /^databases\.shop\.jobs\.backup\.format +directory$/m,
    );
    await succeedIn(cwd, ['backup', ...config]);
    expect(await succeedIn(cwd, ['verify', ...config, '--deep', '--identity', directory.join('pgark.key')])).toContain(
      '1',
    );
    await succeedIn(cwd, [
      'restore',
      'latest',
      '--to-db',
      `${database.name} copy`,
      ...config,
      '--identity',
      directory.join('pgark.key'),
    ]);
    await database.query(`DROP DATABASE "${`${database.name} copy`.replaceAll('"', '""')}"`);

    // Neither the file nor the key is ever lost by another one.
    const again = await runPgark(['init', ...flags], { cwd });
    expectFailure(again, { exit: 1, message: /pgark\.yaml: there is a file of that name/, hint: /--force/ });
    const key = await readFile(directory.join('pgark.key'), 'utf8');
    const forced = await runPgark(['init', ...flags, '--force'], { cwd });
    expectFailure(forced, { exit: 1, message: /pgark\.key: there is a file/, hint: /never replaced.*age1/ });
    expect(await readFile(directory.join('pgark.yaml'), 'utf8')).toBe(text);
    const [recipient = ''] = /age1\w+/.exec(key) ?? [];
    const replaced = [
      ...flags.filter((flag) => flag !== '--encrypt'),
      '--encrypt',
      recipient,
      '--schedule',
      '6h',
      '--force',
    ];
    await succeedIn(cwd, ['init', ...replaced, '--no-check']);
    expect(await readFile(directory.join('pgark.yaml'), 'utf8')).toContain('schedule: 6h');
    expect(await readFile(directory.join('pgark.key'), 'utf8')).toBe(key);
  });

  test('writes down the environment with the same meaning, its secrets left in the variables', async () => {
    await using storage = await s3Storage();
    await using directory = await makeTempDirectory();
    await using database = await createDatabase({ sql: SQL });
    const cwd = directory.path;
    const env = { ...storage.env, DATABASE_URL: database.url, BACKUP_NAME: 'shop', BACKUP_RETENTION_DAYS: '30' };
    await succeedIn(cwd, ['backup'], env);
    const written = JSON.parse(await succeedIn(cwd, ['init', '--from-env', '-o', 'json'], env)) as object;
    expect(written).toMatchObject({
      file: directory.join('pgark.yaml'),
      variables: expect.arrayContaining(['DATABASE_URL', 'S3_SECRET_ACCESS_KEY']),
      findings: expect.arrayContaining([
        { subject: expect.stringMatching(/^storage/), state: 'ok', found: expect.any(String) },
      ]),
    });
    const text = await readFile(directory.join('pgark.yaml'), 'utf8');
    for (const [name, value] of Object.entries(env)) if (/SECRET|URL/.test(name)) expect(text).not.toContain(value);
    expect(text).toContain('secret_access_key: ${S3_SECRET_ACCESS_KEY}');
    // It goes on where the environment has left off.
    await succeedIn(cwd, ['backup', '-c', 'pgark.yaml'], env);
    const { storages } = JSON.parse(await succeedIn(cwd, ['list', '-c', 'pgark.yaml', '-o', 'json'], env)) as {
      storages: { backups: { source: string; format: string }[] }[];
    };
    expect(storages[0]?.backups.map(({ source, format }) => [source, format])).toEqual([
      ['shop', 'plain'],
      ['shop', 'plain'],
    ]);
    expect(await succeedIn(cwd, ['prune', '--dry-run', '-c', 'pgark.yaml'], env)).toContain('2 backups kept');
  });

  test('leaves nothing behind where something is missing or wrong, and takes no secret from the command line', async () => {
    await using directory = await makeTempDirectory();
    const cwd = directory.path;
    expectFailure(await runPgark(['init'], { cwd }), {
      exit: 2,
      message: /needs --database-url-file FILE and --storage URL/,
      hint: /--from-env/,
    });
    await writeFile(directory.join('db.url'), 'postgres://app:hidden@127.0.0.1:1/shop\n');
    const flags = ['init', '--database-url-file', 'db.url', '--encrypt'];
    expectExit(await runPgark([...flags, '--storage', 'file:b', '--schedule', 'often'], { cwd }), 2);
    expectExit(await runPgark([...flags, '--storage', 'ftp://host'], { cwd }), 3);
    expectExit(await runPgark([...flags, '--storage', 'file:b', '--config', 'no/folder/pgark.yaml'], { cwd }), 1);
    expectExit(await runPgark([...flags, 'a passphrase of some length', '--storage', 'file:b'], { cwd }), 2);
    expectFailure(await runPgark(['init', '--from-env'], { cwd }), {
      exit: 1,
      message: /no database is named/,
      hint: /DATABASE_URL/,
    });
    expect(await readdir(cwd)).toEqual(['db.url']);
  });

  test('refuses to write down what would mean something else in another folder', async () => {
    await using directory = await makeTempDirectory();
    await using other = await makeTempDirectory();
    const env = { DATABASE_URL: 'postgres://app@127.0.0.1:1/shop?sslrootcert=ca.pem', BACKUP_STORAGE: 'file:b' };
    const result = await runPgark(['init', '--from-env', '-c', other.join('pgark.yaml')], { cwd: directory.path, env });
    expectFailure(result, {
      exit: 1,
      message: /would not mean what was said: databases\.shop\.connection\.sslRootCert/,
      hint: /from the root/,
    });
    expect(await readdir(other.path)).toEqual([]);
  });

  test('asks on a terminal, again where an answer is none, and does not show what is secret', async () => {
    await using directory = await makeTempDirectory();
    await using database = await createDatabase({ sql: SQL });
    const cwd = directory.path;
    const url = urlOf(database.name);
    const shown = await converse(cwd, [
      ['Database, ', 'nonsense'],
      ['that is no connection URL', url],
      ['Storage, ', ''],
      ['Schedule, ', 'often'],
      ['neither five cron fields', '6h'],
      ['Days ', '14'],
      ['Encrypt ', 'y'],
    ]);
    expect(shown).toContain('wrote pgark.yaml');
    expect(shown).toMatch(/wrote \S+pgark\.database-url, which holds a secret/);
    expect(shown).not.toContain(postgresFacts().password);
    expect(shown).not.toContain('nonsense');
    expect(await modeOf(directory.join('pgark.database-url'))).toBe(0o600);
    const text = await readFile(directory.join('pgark.yaml'), 'utf8');
    expect(text).toMatch(/url_file: pgark\.database-url\n/);
    expect(text).toMatch(/within: 14d/);
    await succeedIn(cwd, ['backup', '-c', 'pgark.yaml']);

    // The key may not be replaced: nor is anything else then.
    const files = await readdir(cwd);
    const answers = [
      ['Database, ', `${url}?application_name=other`],
      ...['Storage, ', 'Schedule, ', 'Days ', 'Encrypt '].map((question) => [question, ''] as const),
    ] as const;
    expect(await converse(cwd, answers, { flags: '--force', exit: 1 })).toContain('pgark.key: there is a file');
    expect(await readFile(directory.join('pgark.database-url'), 'utf8')).toBe(`${url}\n`);
    expect(await readFile(directory.join('pgark.yaml'), 'utf8')).toBe(text);
    expect(await readdir(cwd)).toEqual(files);
  });
});

/** Answers each question when it stands on the terminal, and returns all that has stood there. */
async function converse(
  cwd: string,
  script: readonly (readonly [question: string, answer: string])[],
  { flags = '', exit: expected = 0 } = {},
): Promise<string> {
  const program = path.join(cwd, 'start.sh');
  await writeFile(program, `#!/bin/sh\nexec '${pgarkPath}' init ${flags}\n`);
  await chmod(program, 0o755);
  const env = { PATH: process.env['PATH'] ?? '', HOME: cwd, LANG: 'C.UTF-8', TERM: 'dumb' };
  // It gives the program a terminal of its own.
  const child = spawn('script', ['--quiet', '--return', '--command', program, '/dev/null'], { cwd, env });
  const rest = [...script];
  let shown = '';
  let from = 0;
  const exit = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
    child.stdout.on('data', (chunk: Buffer) => {
      shown += chunk.toString();
      const [question, answer] = rest[0] ?? [];
      if (question === undefined || !/(: |\n)$/.test(shown) || !shown.slice(from).includes(question)) return;
      // A complaint is followed by the question once more.
      if (!shown.endsWith(': ')) return;
      rest.shift();
      from = shown.length;
      child.stdin.write(`${answer}\r`);
    });
  });
  expect(`${exit}\n${shown}`).toMatch(new RegExp(`^${expected}\\n`));
  expect(rest).toEqual([]);
  return shown;
}
