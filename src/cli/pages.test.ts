import { access } from 'node:fs/promises';
import path from 'node:path';
import type { Command } from 'commander';
import { describe, expect, test } from 'vitest';
import { cliWorld, recordingTerminal } from '../../test/support/cli-world.ts';
import { type MarkdownPage, pageNames, projectRoot, readPage } from '../../test/support/markdown.ts';
import { callsOf } from '../../test/support/shell-words.ts';
import { errorTable } from '../common/error-table.ts';
import { buildProgram, loadCommands } from './program.ts';

const pages = new Map<string, MarkdownPage>();
for (const name of await pageNames()) pages.set(name, await readPage(name));
const commands = await loadCommands();

/** `[text](target)` outside of fenced blocks and code spans. */
function linksOf({ prose }: MarkdownPage): readonly { readonly target: string; readonly line: number }[] {
  return prose.flatMap((text, index) =>
    [...text.replace(/`[^`]*`/g, '').matchAll(/\]\(([^)\s]+)\)|^\[(?!\^)[^\]]+\]:\s*(\S+)/g)].map((match) => ({
      target: match[1] ?? match[2] ?? '',
      line: index + 1,
    })),
  );
}

async function whyDead(page: MarkdownPage, target: string): Promise<string | undefined> {
  const [file = '', anchor] = target.split('#');
  const name = file === '' ? page.name : path.join(path.dirname(page.name), file);
  const there = await access(path.join(projectRoot, name)).then(
    () => true,
    () => false,
  );
  if (!there) return `${name} is not there`;
  if (anchor === undefined || pages.get(name)?.anchors.has(anchor)) return undefined;
  return `${name} has no heading #${anchor}`;
}

describe('every page', () => {
  test('links to files and headings that are there', async () => {
    const dead: string[] = [];
    let links = 0;
    for (const page of pages.values()) {
      for (const { target, line } of linksOf(page)) {
        if (/^(?:https?|mailto):/.test(target)) continue;
        links += 1;
        const why = await whyDead(page, target);
        if (why !== undefined) dead.push(`${page.name}:${line}: ${why}`);
      }
    }
    expect(dead).toEqual([]);
    expect(links).toBeGreaterThan(90);
  });

  test('shows commands that pgark understands', async () => {
    const wrong: string[] = [];
    let calls = 0;
    for (const page of pages.values()) {
      for (const { args, line, isSpan } of callsIn(page)) {
        calls += 1;
        const why = await whyRefused(args);
        // Text names commands and options without what belongs to them.
        if (why !== undefined && !(isSpan && /missing$|^missing required argument/.test(why)))
          wrong.push(`${page.name}:${line}: pgark ${args.join(' ')}: ${why}`);
      }
    }
    expect(wrong).toEqual([]);
    expect(calls).toBeGreaterThan(100);
  });
});

/** Options of other programs that the pages name in their text. */
const OTHERS_OPTIONS = new Set(
  [
    '--read-only --stop-timeout --no-healthcheck --set-file --from-file --delta --type',
    '--data-only --no-data-for-failed-tables --exit-on-error --single-transaction',
    '--optimize-for-size --max-semi-space-size --help --version --heapallindexed',
  ].flatMap((names) => names.split(' ')),
);

test('the text of every page names options that some command has', () => {
  const program = buildProgram(cliWorld(recordingTerminal()), commands);
  const known = new Set(OTHERS_OPTIONS);
  const collect = (command: Command): void => {
    for (const { long } of command.options) if (long !== null && long !== undefined) known.add(long);
    for (const each of command.commands) collect(each);
  };
  collect(program);
  const wrong: string[] = [];
  for (const page of pages.values()) {
    // Of decisions that were made, and of the benchmark's programs.
    if (/^(?:docs\/adr|test)\/|^docs\/performance\.md$/.test(page.name)) continue;
    for (const [index, text] of page.prose.entries())
      for (const [, option = ''] of text.matchAll(/`(--[a-z][a-z-]*)[^`]*`/g))
        if (!known.has(option)) wrong.push(`${page.name}:${index + 1}: ${option}`);
  }
  expect(wrong).toEqual([]);
});

/** Why a block of a page whose commands are run is not among them. */
const REASONS: Readonly<Record<string, string>> = {
  client: 'it wants the store’s own client, which pgark does without',
  placeholders: 'it shows names that the reader’s own storage has',
  settings: 'it shows settings, which the tests replace by those of their servers',
  docker: 'it wants Docker; npm run test:image does the same with the image',
  project: 'it runs the tests or the demonstration themselves, which is what is under way',
  service: 'it starts a service, or a whole run with the reader’s schedule; the tests of the daemon do',
};
const WAYS = ['run', 'each', 'run-physical'];
const isRunPage = (name: string): boolean =>
  ['README.md', 'docs/recovery.md', 'docs/restore-by-hand.md'].includes(name) || name.startsWith('docs/operations/');

test('the quick start, the pages on restores and on operations run, but for what says why it does not', () => {
  const counts: Record<string, number> = {};
  const silent: string[] = [];
  for (const page of pages.values()) {
    if (!isRunPage(page.name)) continue;
    for (const { language, words, line } of page.blocks) {
      if (language !== 'sh') continue;
      const reason = words.find((word) => word.startsWith('not-run:'))?.slice('not-run:'.length);
      const how = WAYS.find((way) => words.includes(way)) ?? reason;
      if (how === undefined || (reason !== undefined && !Object.hasOwn(REASONS, reason)))
        silent.push(`${page.name}:${line}`);
      else counts[how] = (counts[how] ?? 0) + 1;
    }
  }
  expect(silent).toEqual([]);
  expect(counts).toEqual({
    run: 22,
    each: 5,
    'run-physical': 1,
    client: 3,
    docker: 2,
    placeholders: 2,
    project: 1,
    service: 1,
    settings: 2,
  });
});

test('docs/operations/troubleshooting.md names errors that there are', () => {
  const page = pages.get('docs/operations/troubleshooting.md');
  const codes = [...(page?.text ?? '').matchAll(/^\| (`[a-z-]+`(?:, `[a-z-]+`)*)/gm)].flatMap(([, cell = '']) =>
    cell.replaceAll('`', '').split(', '),
  );
  expect(codes.filter((code) => !Object.hasOwn(errorTable, code))).toEqual([]);
  expect(codes.length).toBeGreaterThan(20);
});

interface Call {
  readonly args: readonly string[];
  readonly line: number;
  readonly isSpan: boolean;
}

/** Those of fenced blocks, and of code spans. */
function callsIn(page: MarkdownPage): readonly Call[] {
  const shells = page.blocks.filter(({ language }) => ['sh', 'console', ''].includes(language));
  const inBlocks = shells.flatMap(({ text, line }) =>
    callsOf('pgark', text.replace(/^\$ /gm, '')).map((args) => ({ args, line, isSpan: false })),
  );
  const spans = page.prose.flatMap((text, index) =>
    [...text.matchAll(/`(pgark [^`]+)`/g)].flatMap(([, span = '']) =>
      // What may be left out, and what a reader puts there, say nothing of the command.
      callsOf('pgark', span.replace(/\[[^\]]*…\]|…/g, '')).map((args) => ({ args, line: index + 1, isSpan: true })),
    ),
  );
  // docs/cli.md is made of the help itself.
  return page.name === 'docs/cli.md' ? [] : [...inBlocks, ...spans];
}

/** The command line is parsed as ever, and nothing is done. */
async function whyRefused(args: readonly string[]): Promise<string | undefined> {
  const program = buildProgram(cliWorld(recordingTerminal()), commands);
  let called = false;
  const disarm = (command: Command): void => {
    if (command.commands.length === 0) command.action(() => void (called = true));
    for (const each of command.commands) disarm(each);
  };
  disarm(program);
  try {
    await program.parseAsync([...args], { from: 'user' });
  } catch (error) {
    if (error instanceof Error && 'exitCode' in error && error.exitCode === 0) return undefined;
    return error instanceof Error ? error.message : String(error);
  }
  return called ? undefined : 'is no command';
}
