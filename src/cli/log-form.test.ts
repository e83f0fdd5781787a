import { execFile } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { describe, expect, test } from 'vitest';
import { cliWorld, recordingTerminal } from '../../test/support/cli-world.ts';
import { makeTempDirectory } from '../../test/support/temp.ts';
import { runCli } from './program.ts';

const JSON_LOG = { LOG_FORMAT: 'json' };
const ERROR = {
  time: expect.any(String),
  level: 'ERROR',
  event: 'command.failed',
  service: 'pg_backup',
  message: expect.any(String),
  hint: expect.any(String),
  code: expect.any(String),
  exit_code: expect.any(Number),
};

interface Scene {
  readonly isTerminal?: boolean;
  readonly cwd?: string;
}

async function stderrOf(
  argv: readonly string[],
  environment: Readonly<Record<string, string>>,
  { isTerminal = false, cwd }: Scene = {},
): Promise<string> {
  const terminal = { ...recordingTerminal(), isTerminal };
  await runCli(argv, cliWorld(terminal, environment, cwd));
  return terminal.stderr();
}

/** The only line that there is. */
function onlyLine(text: string): unknown {
  expect(text).toMatch(/^[^\n]+\n$/);
  return JSON.parse(text);
}

describe('where the log is JSON, the error that a command ends with is one line of it', () => {
  test.each([
    ['for want of settings', ['backup'], { code: 'config-missing', exit_code: 1 }],
    ['for a wrong command line', ['bakcup'], { code: 'usage', exit_code: 2 }],
    ['for a wrong global option', ['-o', 'xml', 'list'], { code: 'usage', exit_code: 2 }],
    ['for a file that is not there', ['-c', 'absent.yaml', 'list'], { code: 'config-unreadable' }],
  ])('%s', async (_why, argv, expected) => {
    expect(onlyLine(await stderrOf(argv, { LOG_FORMAT: ' JSON ' }))).toEqual({ ...ERROR, ...expected });
  });

  test('that says where it comes from with --verbose only', async () => {
    const line = onlyLine(await stderrOf(['-v', 'backup'], JSON_LOG));
    expect(line).toEqual({ ...ERROR, stack: expect.stringContaining(' at ') });
  });

  test.each([
    ['the file, which is wrong elsewhere', 'version: 1\nlog: { format: json }\nstorage: {}\n', {}],
    ['the environment, where the file is no YAML', 'version: 1\nlog: [', JSON_LOG],
    ['the environment, where the file says nothing', 'version: 1\n', JSON_LOG],
    ['a file that the environment names', 'version: 1\n', { LOG_FORMAT_FILE: 'format.txt' }],
  ])('as %s says', async (_who, content, environment) => {
    await using folder = await makeTempDirectory();
    await writeFile(folder.join('format.txt'), 'json\n');
    await writeFile(folder.join('pgark.yaml'), content);
    const named = { ...environment, PGARK_CONFIG: 'pgark.yaml' };
    for (const [argv, env] of [
      [['-c', 'pgark.yaml', 'list'], environment],
      [['list'], named],
    ] as const)
      expect(onlyLine(await stderrOf(argv, env, { cwd: folder.path }))).toEqual({ ...ERROR, exit_code: 1 });
  });

  test.each([
    ['is wrong elsewhere', 'version: 1\nlog: { format: json }\nstorage: {}\n', ['list'], {}],
    ['is no YAML', 'version: 1\nlog: [', ['list'], JSON_LOG],
    ['is no text', Buffer.from([0xff]), ['list'], JSON_LOG],
    ['is not read by a wrong command line', '', ['list', '--no'], JSON_LOG],
  ])('as it is said of a pipe, which is read once, that %s', async (_what, content, argv, environment) => {
    await using folder = await makeTempDirectory();
    const pipe = folder.join('pgark.yaml');
    await promisify(execFile)('mkfifo', [pipe]);
    const isWritten = content.length > 0;
    const [said] = await Promise.all([
      stderrOf(['-c', 'pgark.yaml', ...argv], environment, { cwd: folder.path }),
      isWritten ? writeFile(pipe, content) : undefined,
    ]);
    expect(onlyLine(said)).toEqual(ERROR);
  });

  test('but not where the file says otherwise', async () => {
    await using folder = await makeTempDirectory();
    await writeFile(folder.join('pgark.yaml'), 'version: 1\nlog: { format: text }\nstorage: {}\n');
    expect(await stderrOf(['-c', 'pgark.yaml', 'list'], JSON_LOG, { cwd: folder.path })).toMatch(/^error {2}/);
  });

  test('with what a command has to say besides', async () => {
    await using folder = await makeTempDirectory();
    const argv = ['key', 'generate', '--to-file', folder.join('pgark.key')];
    expect(onlyLine(await stderrOf(argv, JSON_LOG))).toMatchObject({ level: 'INFO', event: 'command.note' });
  });

  test('and text in the log of the server that runs pgark as restore_command', async () => {
    expect(await stderrOf(['wal', 'fetch', '000000010000000000000001', 'x'], JSON_LOG)).toMatch(
      /^error {2}.*\n {2}hint /,
    );
  });
});

describe('where nothing is said of the log', () => {
  const unattended = [
    ['once'],
    ['daemon'],
    ['wal', 'receive'],
    ['-o', 'json', 'wal', 'receive', '--slot', 'a'],
    ['once', '--no'],
  ];

  test.each(unattended.map((argv) => [argv]))('%j ends in JSON, but on a terminal', async (argv) => {
    expect(onlyLine(await stderrOf(argv, {}))).toEqual(ERROR);
    expect(await stderrOf(argv, {}, { isTerminal: true })).toMatch(/^error {2}/);
    expect(await stderrOf(argv, { LOG_FORMAT: 'text' })).toMatch(/^error {2}/);
  });

  test.each([[['backup']], [['list']], [['wal', 'push', 'a']], [['restore', 'once']], [['bakcup']]])(
    '%j ends in text',
    async (argv) => {
      expect(await stderrOf(argv, {})).toMatch(/^error {2}/);
    },
  );

  test('warnings are in the same form', async () => {
    await using folder = await makeTempDirectory();
    await writeFile(
      folder.join('pgark.yaml'),
      `version: 1\nstorages: { local: { type: file, path: ${folder.path} } }\ndatabases: {}\n`,
    );
    const environment = { PGARK_CONFIG: folder.join('pgark.yaml'), PGARK_LISTN: '1' };
    const lines = (await stderrOf(['once'], environment)).trimEnd().split('\n');
    expect(lines.map((line): unknown => JSON.parse(line))).toMatchObject([
      { level: 'WARNING', event: 'config.warning' },
      ERROR,
    ]);
    expect(await stderrOf(['list'], environment)).toMatch(/^\S+ WARNING .*PGARK_LISTN/);
    const said = onlyLine(await stderrOf(['list'], { ...environment, ...JSON_LOG }));
    expect(said).toMatchObject({ level: 'WARNING', event: 'config.warning' });
    await writeFile(
      folder.join('pgark.yaml'),
      `version: 1\nlog: { format: json }\nstorages: { local: { type: file, path: ${folder.path} } }\ndatabases: {}\n`,
    );
    const written = onlyLine(await stderrOf(['list'], { ...environment, LOG_FORMAT: 'text' }));
    expect(written).toMatchObject({ level: 'WARNING', event: 'config.warning' });
  });
});
