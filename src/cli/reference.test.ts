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
"exit_code"}}\` instead, besides the error on stderr. Tables are for people and may change. On a terminal one live line shows progress; elsewhere (and with
\`NO_COLOR\`, \`CI\` or \`TERM=dumb\`) it is a plain line every 30 seconds.

\`-o ndjson\` prints one record a line where the result is a list, each with \`schema_version\` and a \`kind\`, and else with the
fields that it has in the list of \`-o json\`; an empty list prints nothing. Of other commands it is the object of \`-o json\` on
one line. Kinds may be added: take those that you know.

| Command | Lines, by \`kind\` |
| --- | --- |
| \`list\` | \`storage\`, then what lies in it: \`backup\`, \`globals\`, \`foreign\`, \`unfinished\`, \`damaged\`, each with the name of its \`storage\`; a \`failure\` of a storage |
| \`runs\` | the kind of each run, such as \`backup\` or \`drill\`; \`damaged\` records; a \`failure\` of a storage; \`summary\` with \`has_more\` |
| \`verify\` | \`storage\` that was looked at; \`backup\`, \`damaged\` |
| \`check\` | \`backup\`, \`wal\`; \`problem\` and \`note\` with a \`message\`; \`summary\` with \`healthy\` |
| \`backup\`, \`once\` | a \`result\` for each database and storage |
| \`prune\` | a \`storage\` with what was deleted there, and \`dry_run\`; a \`failure\` of a storage |
| \`timeline\` | \`window\`, \`gap\`; \`warning\` with a \`message\`; a \`failure\` of a source in a storage |
| \`wal status\` | \`archive\`; a \`failure\` of a source in a storage |
| \`notify test\`, \`notify digest\` | \`channel\`; \`digest\` |
| \`doctor\` | \`finding\` |
| \`storage probe\` | \`storage\` |
| \`storage usage\` | \`plain\`, \`directory\`, \`physical\`, \`wal\`, \`globals\`, \`records\`, \`unfinished\`, \`foreign\`; a \`summary\` of each storage, or its \`failure\` |
| \`config show\` | \`setting\` |
| \`logs\` | the events of the run as they are, without a \`kind\` of the line's own |
| any | \`error\`, where there is no result |

The log on stderr is text or JSON, one event a line (\`LOG_FORMAT\`, \`log.format\`); \`auto\` is JSON for \`daemon\`, \`once\` and
\`wal receive\` where stderr is no terminal. Where it is JSON, the error that a command ends with is one line of it: \`level\`
\`ERROR\`, \`event\` \`command.failed\`, \`code\`, \`message\`, \`hint\`, \`exit_code\`, and \`run_id\` if a run failed.

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
