import { spawnSync } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { describe, expect, test } from 'vitest';
import { cliWorld, recordingTerminal } from '../../test/support/cli-world.ts';
import { makeTempDirectory } from '../../test/support/temp.ts';
import { completedCommands } from './completion-model.ts';
import { buildProgram, loadCommands, runCli } from './program.ts';

async function scriptFor(shell: string): Promise<string> {
  const terminal = recordingTerminal();
  expect(await runCli(['completion', shell], cliWorld(terminal))).toBe(0);
  return terminal.stdout();
}

const commands = completedCommands(buildProgram(cliWorld(recordingTerminal()), await loadCommands()));
const [program] = commands;

/** The words of command lines, the last one of which is completed by a bash that has loaded the script; in `cwd`. */
async function askBash(lines: readonly (readonly string[])[], cwd = '/'): Promise<readonly (readonly string[])[]> {
  const quoted = (word: string): string => `'${word}'`;
  const questions = lines.map(
    (words) =>
      `COMP_WORDS=(pgark ${words.map(quoted).join(' ')}); COMP_CWORD=${words.length}; $function; printf '%s\\n' "\${COMPREPLY[@]}" ---`,
  );
  const asks = [
    await scriptFor('bash'),
    'function=$(complete -p pgark | sed "s/.*-F \\([^ ]*\\).*/\\1/")',
    ...questions,
  ];
  const { stdout, stderr } = spawnSync('bash', ['--norc', '-c', asks.join('\n')], { cwd, encoding: 'utf8' });
  expect(stderr).toBe('');
  const answers = stdout.split('---\n').slice(0, -1);
  expect(answers).toHaveLength(lines.length);
  return answers.map((answer) =>
    answer
      .split('\n')
      .filter((word) => word !== '')
      .sort(),
  );
}

const sorted = (words: readonly string[]): readonly string[] => [...words].sort();
const wordsOf = (path: string): readonly string[] => path.split(' ').filter((word) => word !== '');

describe('bash', () => {
  test('completes all commands and options that the help shows, and choices of options', async () => {
    const everywhere = program?.options ?? [];
    const asked = commands.flatMap(({ path, commands: below, options, argument }) => {
      const flags = new Set([...options, ...everywhere].flatMap((option) => option.flags));
      const operands = below.length > 0 ? below.map(({ name }) => name) : argument.words;
      const choices = [...options, ...everywhere].flatMap(({ flags: names, value }) =>
        value === undefined || value.isPath
          ? []
          : names.map((name) => ({ words: [...wordsOf(path), name, ''], expected: value.words })),
      );
      return [
        { words: [...wordsOf(path), '-'], expected: [...flags] },
        ...(argument.isPath ? [] : [{ words: [...wordsOf(path), ''], expected: operands }]),
        ...choices,
      ];
    });
    expect(asked.length).toBeGreaterThan(100);
    const answers = await askBash(asked.map(({ words }) => words));
    expect(asked.map(({ words }, index) => [words, answers[index]])).toEqual(
      asked.map(({ words, expected }) => [words, sorted(expected)]),
    );
  });

  test.each([
    [['ba'], ['backup']],
    [['-o', 'json', '--no-progress', 'wal', 're'], ['receive']],
    [['-c', 'wal', 'back'], ['backup']],
    [['backup', '--keep', '--format'], []],
    [['list', 'backup', '--form'], []],
    [['list', 'backup', '--stor'], ['--storage']],
    [['list', ''], []],
    [['help', 'rest'], ['restore']],
    [
      ['completion', ''],
      ['bash', 'fish', 'zsh'],
    ],
    [['--output', '=', 'js'], ['json']],
    [
      ['--output', '='],
      ['json', 'ndjson', 'table'],
    ],
    [['--output', '=', 'json', 'lis'], ['list']],
    [['list', '--', '--stor'], []],
    [['wal', 'read'], []],
  ])('completes %j to %j', async (words, expected) => {
    expect(await askBash([words])).toEqual([expected]);
  });

  test('completes names of files, with spaces too, where a file is meant', async () => {
    await using folder = await makeTempDirectory();
    for (const name of ['pgark.yaml', 'pg ark.yaml', 'other']) await writeFile(folder.join(name), '');
    const files = ['pg ark.yaml', 'pgark.yaml'];
    const lines = [
      ['--config', 'pg'],
      ['verify', '--identity', 'pg'],
      ['wal', 'push', 'pg'],
      ['verify', 'pg'],
    ];
    expect(await askBash(lines, folder.path)).toEqual([files, files, files, []]);
  });
});

describe.each([
  ['bash', ['-n']],
  ['zsh', ['-n']],
  ['fish', ['--no-config', '-n']],
])('the script for %s', (shell, checking) => {
  test('is one', async () => {
    await using folder = await makeTempDirectory();
    const file = folder.join('script');
    await writeFile(file, await scriptFor(shell));
    const { error, status, stderr } = spawnSync(shell, [...checking, file], { encoding: 'utf8' });
    expect(error).toBeUndefined();
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  });

  test('names every command and option', async () => {
    const script = await scriptFor(shell);
    for (const { commands: below, options } of commands) {
      for (const { name } of below) expect(script).toContain(name);
      for (const flag of options.flatMap(({ flags }) => flags)) expect(script).toContain(flag.replace(/^--?/, ''));
    }
  });
});

test('fish completes commands, options and choices', async () => {
  const lines = ['pgark wal re', 'pgark backup --form', 'pgark -o js', 'pgark list back'];
  const asks = [
    await scriptFor('fish'),
    ...lines.map((line) => `complete -C'${line}' | string split -f1 \\t; echo ---`),
  ];
  const { error, stdout } = spawnSync('fish', ['--no-config', '-c', asks.join('\n')], { encoding: 'utf8' });
  expect(error).toBeUndefined();
  expect(stdout).toBe('receive\n---\n--format\n---\njson\n---\n---\n');
});

test('a shell that is not known is refused', async () => {
  const terminal = recordingTerminal();
  expect(await runCli(['completion', 'tcsh'], cliWorld(terminal))).toBe(2);
  expect(terminal.stderr()).toContain('Allowed choices are bash, zsh, fish');
});
