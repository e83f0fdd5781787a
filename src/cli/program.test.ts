import { describe, expect, test } from 'vitest';
import { cliWorld, recordingTerminal } from '../../test/support/cli-world.ts';
import { makeTempDirectory } from '../../test/support/temp.ts';
import { pgarkVersion } from '../version.ts';
import { loadCommands, runCli } from './program.ts';

const DATABASE = { DATABASE_URL: 'postgres://u:p@127.0.0.1:1/shop' };

async function run(
  argv: readonly string[],
  environment: Readonly<Record<string, string>> = {},
): Promise<{ readonly exit: number; readonly out: string; readonly err: string }> {
  const terminal = recordingTerminal();
  const exit = await runCli(argv, cliWorld(terminal, environment));
  return { exit, out: terminal.stdout(), err: terminal.stderr() };
}

test('of the commands the one that is called is loaded, none for the version, and all where none is for certain', async () => {
  const called = async (...argv: string[]): Promise<number> => (await loadCommands(argv)).length;
  const all = await called();
  expect(all).toBeGreaterThan(10);
  expect(await called('-c', 'list', '--output=json', 'backup', 'restore', '--jobs', '4')).toBe(1);
  for (const argv of [['--version'], ['-V'], ['backup', '--jobs', '4', '-V'], ['nonsense', '--version']]) {
    expect(await called(...argv)).toBe(0);
    expect(await run(argv)).toEqual({ exit: 0, out: `${pgarkVersion}\n`, err: '' });
  }
  for (const argv of [
    ['help', 'backup'],
    ['completion', 'zsh'],
    ['backp'],
    ['toString'],
    ['--unknown', 'backup'],
    ['-o', 'xml', 'backup'],
  ])
    expect(await called(...argv)).toBe(all);
});

describe('help', () => {
  test('that is asked for is data: it goes to stdout, with exit status 0', async () => {
    for (const argv of [['--help'], ['-h'], ['help'], ['backup', '--help'], ['help', 'key', 'generate']]) {
      const { exit, out, err } = await run(argv);
      expect({ exit, err }).toEqual({ exit: 0, err: '' });
      expect(out).toMatch(/^Usage: pgark/);
    }
    expect(await run(['help', 'key', 'generate'])).toEqual(await run(['key', 'generate', '--help']));
  });

  test('that is printed for want of a command goes to stderr, with exit status 2', async () => {
    for (const argv of [[], ['key'], ['config']]) {
      const { exit, out, err } = await run(argv);
      expect({ exit, out }).toEqual({ exit: 2, out: '' });
      expect(err).toMatch(/^Usage: pgark/);
    }
  });

  test('says what exit codes mean, and the version is that of the package', async () => {
    expect((await run(['help'])).out).toContain('\n   11  locked by another run\n');
    expect(await run(['--version'])).toEqual({ exit: 0, out: `${pgarkVersion}\n`, err: '' });
  });

  test('is called the same under every command that has some below it', async () => {
    for (const name of ['key', 'config', 'notify']) {
      const { out } = await run([name, '--help']);
      expect(out).toMatch(/\n {2}help \[command\] +print the help of a command\n/);
    }
  });

  test('shows the options of all commands with each of them', async () => {
    expect((await run(['help', 'list'])).out).toContain('--config <file>');
  });
});

describe('a wrong command line', () => {
  test.each([
    [['bakcup'], "unknown command 'bakcup'", 'did you mean backup? pgark help lists the commands'],
    [['xyzzy'], "unknown command 'xyzzy'", 'pgark help lists the commands'],
    [['help', 'rstore'], 'pgark has no command rstore', 'did you mean restore?'],
    [['help', 'key', 'list'], 'pgark key has no command list', 'pgark key --help lists its commands'],
    [
      ['backup', '--frmat', 'plain'],
      "unknown option '--frmat'",
      'did you mean --format? pgark backup --help shows its arguments and options',
    ],
    [['show'], "missing required argument 'backup'", 'pgark show --help shows its arguments and options'],
    [
      ['list', 'a', 'b'],
      "too many arguments for 'list'. Expected 1 argument but got 2: a, b",
      'pgark list --help shows its arguments and options',
    ],
  ])('%j ends with 2 and says what is wrong and what to do', async (argv, message, hint) => {
    expect(await run(argv)).toEqual({ exit: 2, out: '', err: `error  ${message}\n  hint ${hint}\n` });
  });

  test.each([
    [['restore'], 'restore needs to know which backup'],
    [['restore', 'latest'], 'restore needs to know where to'],
    [['restore', 'latest', '--to-db', 'a', '--in-place'], 'one target'],
    [['restore', 'latest', '--to-db', 'a', '--drop-old'], '--drop-old goes with --in-place'],
    [['restore', '--at', 'yesterday', '--to-db', 'a'], '--at yesterday is no time'],
    [['restore', 'latest', '--in-place'], '--in-place replaces database "shop"'],
    [['restore', 'latest', '--in-place', '--yes', 'shpo'], 'not the database that would be replaced'],
    [['backup', '--format', 'custom'], 'Allowed choices are plain, directory, physical'],
    [['restore', 'latest', '--to-dir', 'a', '--to-db', 'b'], 'one target'],
    [['restore', 'latest', '--to-dir', 'a', '--jobs', '2'], '--jobs is for databases'],
    [['restore', 'latest', '--to-dir', ''], 'was given an empty one'],
    [['restore', 'latest', '--to-dir', 'a', '--tablespace-mapping', '/a'], 'is not OLD=NEW'],
    [['restore', 'latest', '--to-db', 'a', '--tablespace-mapping', '/a=/b'], 'goes with --to-dir'],
    [['backup', '--format', 'directory', '--jobs', '0'], '--jobs 0 is no number of connections'],
    [['backup', '--keep', '0d'], '--keep 0d would keep nothing'],
    [['backup', 'orders'], 'there is no database called orders'],
    [['list', '--storage', 'other'], 'there is no storage called other'],
  ])('%j ends with 2', async (argv, message) => {
    await using folder = await makeTempDirectory();
    const { exit, out, err } = await run(argv, { ...DATABASE, BACKUP_STORAGE: `file://${folder.path}` });
    expect({ exit, out }).toEqual({ exit: 2, out: '' });
    expect(err).toContain(message);
  });
});

describe('an error where the output is to be JSON', () => {
  test('is an object on stdout too, with its code, in one line for ndjson', async () => {
    const error = { code: 'config-missing', exit_code: 1, message: expect.any(String), hint: expect.any(String) };
    const json = await run(['-o', 'json', 'backup']);
    expect(json).toMatchObject({ exit: 1, err: expect.stringMatching(/^error {2}/) });
    expect(JSON.parse(json.out)).toEqual({ schema_version: 1, error });
    const { out } = await run(['backup', '-o', 'ndjson']);
    expect(out).toMatch(/^[^\n]*\n$/);
    expect(JSON.parse(out)).toEqual({ schema_version: 1, kind: 'error', error });
  });

  test('of usage is one as well', async () => {
    const { exit, out } = await run(['list', 'a', 'b', '--output=json']);
    expect({ exit, json: JSON.parse(out) }).toMatchObject({
      exit: 2,
      json: { error: { code: 'usage', exit_code: 2 } },
    });
  });

  test('comes after no other result: stdout stays one object', async () => {
    await using folder = await makeTempDirectory();
    const { exit, out } = await run(['doctor', '-o', 'json'], {
      ...DATABASE,
      BACKUP_STORAGE: `file://${folder.path}`,
    });
    expect(exit).toBe(1);
    expect(JSON.parse(out)).not.toHaveProperty('error');
  });
});

describe('the exit status', () => {
  test('is 1 for missing settings, all of them named', async () => {
    const { exit, err } = await run(['backup']);
    expect(exit).toBe(1);
    expect(err).toContain('DATABASE_URL');
  });

  test('is 1 for a database that cannot be reached', async () => {
    await using folder = await makeTempDirectory();
    const { exit, err } = await run(['backup'], { ...DATABASE, BACKUP_STORAGE: `file://${folder.path}` });
    expect(exit).toBe(1);
    expect(err).toContain('cannot reach PostgreSQL at 127.0.0.1:1');
  });

  test('is 2 for a schedule that is none', async () => {
    expect((await run(['list'], { BACKUP_SCHEDULE: 'now and then' })).exit).toBe(2);
  });

  test('is 3 for a storage that is none, or is not there', async () => {
    expect((await run(['list'], { BACKUP_STORAGE: 'floppy' })).exit).toBe(3);
    expect((await run(['list'], { BACKUP_STORAGE: 'file:///nonexistent/a/b' })).exit).toBe(3);
  });

  test('is 10 for a backup that is not there', async () => {
    await using folder = await makeTempDirectory();
    const storage = { BACKUP_STORAGE: `file://${folder.path}` };
    expect((await run(['show', 'latest'], storage)).exit).toBe(10);
    expect((await run(['list', 'orders'], storage)).exit).toBe(10);
  });

  test('is 130 for a command that was interrupted', async () => {
    await using folder = await makeTempDirectory();
    const terminal = recordingTerminal();
    const signal = AbortSignal.abort(new Error('received SIGINT'));
    const environment = { BACKUP_STORAGE: `file://${folder.path}` };
    expect(await runCli(['list'], { ...cliWorld(terminal, environment), signal })).toBe(130);
    expect(terminal.stderr()).toContain('interrupted');
  });
});

describe('a storage that nobody has written to', () => {
  test('is listed, verified and pruned as the empty one that it is', async () => {
    await using folder = await makeTempDirectory();
    const environment = { ...DATABASE, BACKUP_STORAGE: `file://${folder.join('backups')}` };
    expect(await run(['list'], environment)).toEqual({
      exit: 0,
      out: `no backups in file://${folder.join('backups')} yet\nmake the first one: pgark backup\n`,
      err: '',
    });
    expect(await run(['prune'], environment)).toEqual({ exit: 0, out: 'nothing to delete, 0 backups kept\n', err: '' });
    expect(await run(['verify'], environment)).toMatchObject({ exit: 0, err: '' });
    const listed = await run(['list', '-o', 'json'], environment);
    expect(JSON.parse(listed.out)).toMatchObject({ schema_version: 1, storages: [{ backups: [], foreign: [] }] });
  });
});

test('an error shows where it comes from only when asked', async () => {
  const settings = { BACKUP_STORAGE: 'file:///nonexistent/a/b' };
  expect((await run(['list'], settings)).err).not.toContain(' at ');
  expect((await run(['list', '-v'], settings)).err).toContain(' at ');
});
