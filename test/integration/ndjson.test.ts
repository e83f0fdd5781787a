import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { expectExit, filler, urlOf } from '../support/backups.ts';
import { runPgark } from '../support/cli.ts';
import { createDatabase } from '../support/postgres.ts';
import { makeTempDirectory } from '../support/temp.ts';

type Fields = Readonly<Record<string, unknown>>;

/** Two storages: one with backups, a dump of another tool and a manifest that cannot be read, and an empty one. */
async function scene() {
  const stack = new AsyncDisposableStack();
  const database = stack.use(await createDatabase({ sql: filler(1) }));
  const folder = stack.use(await makeTempDirectory());
  const settings = {
    version: 1,
    storages: { full: { type: 'file', path: 'full' }, empty: { type: 'file', path: 'empty' } },
    databases: {
      shop: { url: database.url, jobs: { nightly: { format: 'plain', schedule: '@daily', to: ['full'] } } },
      away: {
        url: urlOf('postgres', { port: 1 }),
        jobs: { nightly: { format: 'plain', schedule: '@daily', to: ['full'] } },
      },
    },
  };
  await mkdir(folder.join('empty'));
  await writeFile(folder.join('pgark.yaml'), JSON.stringify(settings));
  const run = (...argv: readonly string[]) => runPgark(['-c', 'pgark.yaml', ...argv], { cwd: folder.path });
  expectExit(await run('backup', 'shop'), 0);
  expectExit(await run('backup', 'shop'), 0);
  await writeFile(folder.join('full/old-2020-01-01.sql'), 'select 1;\n');
  const files = await readdir(folder.join('full'), { recursive: true });
  const manifest = files.find((name) => name.startsWith('.pgark/backups/') && name.endsWith('.json')) ?? '';
  await writeFile(folder.join('full', manifest), '{');
  return { run, dispose: () => stack.disposeAsync() };
}

/** What a command prints as JSON and as lines, which end with the same status. */
async function bothOf(run: Awaited<ReturnType<typeof scene>>['run'], argv: readonly string[]) {
  const json = await run(...argv, '-o', 'json');
  const ndjson = await run(...argv, '-o', 'ndjson');
  expect(ndjson.exitCode).toBe(json.exitCode);
  expect(ndjson.stdout).toMatch(/^(.+\n)+$/);
  const lines = ndjson.stdout
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Fields);
  for (const line of lines) expect(line).toMatchObject({ schema_version: 1, kind: expect.any(String) });
  return { json: JSON.parse(json.stdout) as Readonly<Record<string, readonly Fields[]>>, lines };
}

const lined = (kind: string, records: readonly Fields[] = [], of: Fields = {}) =>
  records.map((record) => ({ schema_version: 1, kind, ...of, ...record }));

test('what is a list is one record a line as ndjson, with all that it has as JSON', async () => {
  const { run, dispose } = await scene();
  await using _cleanup = { [Symbol.asyncDispose]: dispose };

  const listed = await bothOf(run, ['list']);
  const storages = listed.json['storages'] as readonly Readonly<Record<string, Fields[]>>[];
  expect(listed.lines).toEqual(
    storages.flatMap(({ storage, location, ...rest }) => [
      { schema_version: 1, kind: 'storage', storage, location },
      ...lined('backup', rest['backups'], { storage }),
      ...lined('globals', rest['globals'], { storage }),
      ...lined('foreign', rest['foreign'], { storage }),
      ...lined('unfinished', rest['unfinished'], { storage }),
      ...lined('damaged', rest['damaged'], { storage }),
    ]),
  );
  const kinds = new Set(listed.lines.map(({ kind }) => kind));
  expect(kinds).toEqual(new Set(['storage', 'backup', 'globals', 'foreign', 'damaged']));

  const ran = await bothOf(run, ['runs']);
  expect(ran.lines).toEqual([...lined('', ran.json['runs']), { schema_version: 1, kind: 'summary', has_more: false }]);
  expect(ran.lines.map(({ kind }) => kind)).toContain('globals');
  const cut = await bothOf(run, ['runs', '--limit', '1']);
  expect(cut.lines.map(({ kind, has_more: hasMore }) => [kind, hasMore])).toEqual([
    [cut.json['runs']?.[0]?.['kind'], undefined],
    ['summary', true],
  ]);

  const checked = await bothOf(run, ['check']);
  const said = (kind: string, messages: readonly unknown[] = []) =>
    messages.map((message) => ({ schema_version: 1, kind, message }));
  expect(checked.lines).toEqual([
    ...lined('backup', checked.json['backups']),
    ...lined('wal', checked.json['wal']),
    ...said('problem', checked.json['problems']),
    ...said('note', checked.json['notes']),
    { schema_version: 1, kind: 'summary', healthy: false },
  ]);
  expect(checked.lines.map(({ kind }) => kind)).toContain('problem');

  const verified = await bothOf(run, ['verify', '--storage', 'full']);
  expect(verified.lines).toEqual([
    ...lined('storage', verified.json['storages']),
    ...lined('backup', verified.json['backups']),
    ...lined('damaged', verified.json['damaged']),
  ]);
  expect(verified.lines.map(({ kind }) => kind)).toEqual(['storage', 'backup', 'damaged']);

  const pruned = await bothOf(run, ['prune', '--dry-run', '--storage', 'empty']);
  expect(pruned.lines).toEqual(lined('storage', pruned.json['storages'], { dry_run: true }));
  expect(pruned.lines).toHaveLength(1);
  const backedUp = await bothOf(run, ['backup', 'shop', '--dry-run']);
  // Each names its file after its own time.
  const unnamed = (records: readonly Fields[] = []) => records.map((record) => ({ ...record, key: undefined }));
  expect(unnamed(backedUp.lines)).toEqual(unnamed(lined('result', backedUp.json['results'])));
  expect(backedUp.lines).toHaveLength(1);

  const examined = await bothOf(run, ['doctor']);
  expect(examined.lines).toEqual(lined('finding', examined.json['findings']));
  const shown = await bothOf(run, ['config', 'show', '--origin']);
  expect(shown.lines).toEqual(lined('setting', shown.json['settings']));
}, 300_000);

test('an empty list is no line, and an error without a result is one', async () => {
  await using folder = await makeTempDirectory();
  const env = { BACKUP_STORAGE: `file://${folder.path}` };
  const verified = await runPgark(['verify', '-o', 'ndjson'], { env });
  expect(verified.exitCode).toBe(0);
  expect(JSON.parse(verified.stdout)).toMatchObject({ schema_version: 1, kind: 'storage', state: 'verified' });
  const { stdout } = await runPgark(['list', 'nothing', '-o', 'ndjson'], { env });
  expect(JSON.parse(stdout)).toMatchObject({ schema_version: 1, kind: 'error', error: { code: 'backup-not-found' } });
});
