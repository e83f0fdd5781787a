import { writeFile } from 'node:fs/promises';
import { describe, expect, test } from 'vitest';
import { cliWorld, recordingTerminal } from '../../test/support/cli-world.ts';
import { makeTempDirectory } from '../../test/support/temp.ts';
import { runCli } from './program.ts';

const PLAIN = 'jobs: { nightly: { to: [near] } }';

/** Runs `pgark backup` with a file of these databases, of which none can be reached. */
async function runBackup(
  databases: Readonly<Record<string, string>>,
  options: { readonly argv?: readonly string[]; readonly defaults?: string } = {},
): Promise<{ readonly exit: number; readonly err: string }> {
  await using folder = await makeTempDirectory();
  const sections = Object.entries(databases).map(
    ([name, text]) => `  ${name}:\n    url: postgres://app@127.0.0.1:1/${name}\n${text.replaceAll(/^/gm, '    ')}\n`,
  );
  const file = `version: 1
storages:
  near: { type: file, path: near }
  far: { type: file, path: far }
retention:
  short: { keep: { last: 2 } }
notifications:
  post: { type: ntfy, url: "http://127.0.0.1:1/x" }
${options.defaults ?? ''}
databases:
${sections.join('')}`;
  await writeFile(folder.join('pgark.yaml'), file);
  const terminal = recordingTerminal();
  const argv = ['backup', ...(options.argv ?? []), '--config', 'pgark.yaml'];
  const exit = await runCli(argv, cliWorld(terminal, {}, folder.path));
  return { exit, err: terminal.stderr() };
}

describe('what is configured and not carried out', () => {
  test('is said of a source without jobs', async () => {
    const { err } = await runBackup({ shop: PLAIN, idle: '' });
    expect(err).toContain('idle has no jobs');
  });

  test('is not said of what is carried out', async () => {
    const carriedOut =
      'hooks: { after_restore: [{ run: ["true"] }] }\nglobals: none\nexpect: { min_size: 1MiB, size_change: 40% }\nverify: { schedule: "@weekly" }\ndrill: { schedule: "@weekly" }';
    const defaults = 'defaults: { bandwidth: 1MiB/s }';
    const { err } = await runBackup({ shop: `${PLAIN}\n${carriedOut}` }, { defaults });
    expect(err).not.toContain('carried out');
  });
});

describe('names of several databases in one storage', () => {
  const named = (filename: string, to = 'near'): string => `jobs: { a: { to: [${to}], filename: "${filename}" } }`;
  const TIME = '{YYYYMMDD_HHMMSS}';

  test.each([
    ['without the database are refused', named(`b_${TIME}`), named(`b_${TIME}`), [], true],
    ['are refused even if only one of them is made now', named(`b_${TIME}`), named(`b_${TIME}`), ['shop'], true],
    [
      'are refused where --to brings them together',
      named(`b_${TIME}`),
      named(`b_${TIME}`, 'far'),
      ['--to', 'far'],
      true,
    ],
    ['may tell the source', named(`{source}_${TIME}`), named(`{source}_${TIME}`), [], false],
    ['may differ by themselves', named(`shop_${TIME}`), named(`orders_${TIME}`), [], false],
    ['need not differ in two storages', named(`b_${TIME}`), named(`b_${TIME}`, 'far'), [], false],
  ])('%s', async (_title, shop, orders, argv, isRefused) => {
    const { exit, err } = await runBackup({ shop, orders }, { argv });
    expect(exit).toBe(1);
    expect(err.includes('has no {database}')).toBe(isRefused);
    expect(err.includes('cannot reach')).toBe(!isRefused);
  });
});

describe('--to that brings jobs with other retention into one storage', () => {
  const shop = 'jobs: { a: { to: [near], retention: short }, b: { to: [far] } }';

  test.each([
    ['is refused', ['--to', 'far'], true],
    ['is taken where nothing is pruned', ['--to', 'far', '--no-prune'], false],
    ['is not what the configuration itself does', [], false],
  ])('%s', async (_title, argv, isRefused) => {
    const { exit, err } = await runBackup({ shop }, { argv });
    expect(exit).toBe(1);
    expect(err.includes('the jobs a and b of shop')).toBe(isRefused);
    expect(err.includes('cannot reach')).toBe(!isRefused);
  });
});

describe('--incremental', () => {
  const shop =
    'jobs: { full: { format: physical, to: [near] }, changes: { format: physical, incremental: true, to: [far] } }';

  test.each([
    ['needs the format that has it', ['--incremental'], '--incremental needs --format physical'],
    [
      'is what --from is of',
      ['--format', 'physical', '--from', '20261120T020000Z-faaaaaa'],
      '--from needs --incremental',
    ],
  ])('%s', async (_title, argv, words) => {
    const { exit, err } = await runBackup({ shop }, { argv });
    expect(exit).toBe(2);
    expect(err).toContain(words);
  });

  test('is of the jobs that are so, where there are any', async () => {
    const { err } = await runBackup({ shop }, { argv: ['--format', 'physical', '--incremental'] });
    expect(err.match(/ to (near|far): /g) ?? [err]).toHaveLength(1);
  });
});
