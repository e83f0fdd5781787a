import type { Command } from 'commander';
import { describe, expect, test } from 'vitest';
import { cliWorld, recordingTerminal } from '../../test/support/cli-world.ts';
import { buildProgram, loadCommands, runCli } from './program.ts';

/** Run `npm run generate` to write the file again after a change of a command, an option or a help text. */
const DOCUMENT = '../../docs/cli.md';
const COLUMNS = 80;

/** Every command that does something or has commands below it, in the order of the help: `[]` is pgark itself. */
function everyPath(command: Command, path: readonly string[] = []): (readonly string[])[] {
  return [path, ...command.commands.flatMap((each) => everyPath(each, [...path, each.name()]))];
}

const paths = everyPath(buildProgram(cliWorld(recordingTerminal()), await loadCommands()));

async function helpOf(path: readonly string[]): Promise<string> {
  const terminal = recordingTerminal();
  expect(await runCli([...path, '--help'], cliWorld(terminal))).toBe(0);
  return terminal.stdout();
}

/** The options of all commands are shown once, with pgark itself. */
function withoutGlobalOptions(help: string): string {
  return help.replace(/\nGlobal Options:\n(?: .*\n)+/, '');
}

async function reference(): Promise<string> {
  const sections: string[] = [];
  for (const path of paths) {
    const help = await helpOf(path);
    const shown = path.length === 0 ? help : withoutGlobalOptions(help);
    sections.push(`## ${['pgark', ...path].join(' ')}\n\n\`\`\`\n${shown.trimEnd()}\n\`\`\`\n`);
  }
  return `# Command line

<!-- Made from the commands of src/cli by npm run generate; changes here are lost. -->

Results go to stdout; logs, progress and errors go to stderr. \`-o json\` and \`-o ndjson\` print the result as JSON with
\`schema_version\`, bytes as integers and times in RFC 3339; fields are added, never renamed or removed, within a version of
that schema. A command that fails before it has a result prints \`{"schema_version": 1, "error": {"code", "message", "hint",
"exit_code"}}\` instead, besides the text on stderr. Tables are for people and may change. On a terminal one live line shows progress; elsewhere (and with
\`NO_COLOR\`, \`CI\` or \`TERM=dumb\`) it is a plain line every 30 seconds.

Settings come from the environment or a file: [configuration.md](configuration.md). Errors and exit codes:
[errors.md](errors.md).

${sections.join('\n')}`;
}

describe('the help', () => {
  test('is what docs/cli.md shows', async () => {
    await expect(await reference()).toMatchFileSnapshot(DOCUMENT);
  });

  test.each(paths.map((path) => [['pgark', ...path].join(' '), path] as const))(
    'of %s fits into 80 columns, says what the command does and describes each argument and option',
    async (_name, path) => {
      const help = await helpOf(path);
      expect(help.split('\n').filter((line) => line.length > COLUMNS)).toEqual([]);
      expect(help.split('\n')[2]).toMatch(/^\p{Lu}.+/u);
      expect(help).not.toMatch(/\n\n\n/);
      // A name that nothing follows on its line or the next one is not described.
      expect(help).not.toMatch(/\n {2}(?:-[a-zA-Z], )?--?[\w-]+(?: [<[][\w.]+[>\]])?\n(?! {4})/);
    },
  );

  test('has an example for each command that people begin with', async () => {
    for (const name of ['backup', 'restore', 'list', 'verify', 'prune']) {
      expect(await helpOf([name])).toMatch(new RegExp(`\nExamples:\n {2}pgark ${name}`));
    }
  });
});
