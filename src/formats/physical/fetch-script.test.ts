import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { END_COMMAND, writeEndScript } from './end-script.ts';
import { FETCH_COMMAND, writeFetchScript } from './fetch-script.ts';
import { TargetFolder } from './target-files.ts';

const SEGMENT = '000000010000000000000007';
const FOLDER = { source: 'shop', systemIdentifier: '1' };

let data: string;
let world: string;
beforeEach(async () => {
  data = await mkdtemp(path.join(tmpdir(), 'pgark-fetch-'));
  world = await mkdtemp(path.join(tmpdir(), "pgark it's-"));
  await mkdir(path.join(data, 'pg_wal'));
});
afterEach(async () => {
  await rm(data, { recursive: true });
  await rm(world, { recursive: true });
});

/** In the place of pgark: scripts of sh that are given a name and a path, after the source. */
async function prepare(fetch: string, readAhead: string, last = '000000020000000100000000'): Promise<void> {
  await writeFile(path.join(world, 'fetch'), fetch);
  await writeFile(path.join(world, 'read-ahead'), readAhead);
  const commandFor = (verb: string, { source }: { source: string }) => ['/bin/sh', `./${verb}`, source];
  const program = { commandFor, directory: world, environment: { SECRET: `it's "$HOME"` } };
  await writeFetchScript(new TargetFolder(data, undefined), program, {
    folder: FOLDER,
    last,
    upTo: 0x7_0001_0000n,
    replayed: undefined,
  });
}

/** As PostgreSQL runs it: with its exit status. */
async function restore(name: string): Promise<number> {
  return (await restoreAloud(name)).status;
}

/** And with what comes into the server's log. */
async function restoreAloud(name: string): Promise<{ readonly status: number; readonly log: string }> {
  const line = FETCH_COMMAND.replace('%f', name).replace('%p', 'pg_wal/RECOVERYXLOG');
  return promisify(execFile)('/bin/sh', ['-c', line], { cwd: data }).then(
    ({ stderr }) => ({ status: 0, log: stderr }),
    (error: { readonly code: number; readonly stderr: string }) => ({ status: error.code, log: error.stderr }),
  );
}

const restored = (): Promise<string> => readFile(path.join(data, 'pg_wal', 'RECOVERYXLOG'), 'utf8');
const FAILS = 'touch "$3/failed"';

describe('the script by which a server gets WAL', () => {
  test('takes what was fetched ahead, and asks for nothing that is there', async () => {
    const ahead = 'echo begun >>begun; for n in 7 8; do echo "$n" >"$3/00000001000000000000000$n"; done; sleep 5';
    await prepare('exit 99', ahead);
    expect(await restore(SEGMENT)).toBe(0);
    expect(await restored()).toBe('7\n');
    expect(await restore('000000010000000000000008')).toBe(0);
    expect(await restored()).toBe('8\n');
    expect(await readFile(path.join(world, 'begun'), 'utf8')).toBe('begun\n');
  });

  const absent = `echo '{"schema_version":1,"outcome":"absent"}'`;
  test.each([
    ['found', 'exit 0', 0],
    ['surely not archived', `${absent}; exit 1`, 1],
    ['anything else', 'exit 126', 126],
    ['a program that does not begin', 'exit 1', 126],
    ['a wrong command line', 'exit 2', 126],
  ])('ends as pgark does where nothing was fetched ahead: %s', async (_, end, status) => {
    await prepare(`echo "$1 $2 $SECRET" >"$3"; ${end}`, FAILS);
    expect(await restore(SEGMENT)).toBe(status);
    expect(await restored()).toBe(`shop ${SEGMENT} it's "$HOME"\n`);
  });

  const error = `echo '{"schema_version":1,"error":{"code":"store-unreachable","message":"x","hint":"y"}}'`;
  test.each([
    ['what pgark fails with', `${error}; exit 126`, 126, 'wal fetch failed: store-unreachable\n'],
    ['that nothing was said by one that was killed', 'kill -9 $$', 137, /wal fetch failed: unknown\n$/],
    ['nothing of the end of what is archived', `${absent}; exit 1`, 1, ''],
  ])('says in the log of the server %s', async (_, end, status, log) => {
    await prepare(end, FAILS);
    const said = await restoreAloud(SEGMENT);
    expect(said.status).toBe(status);
    if (typeof log === 'string') expect(said.log).toBe(log);
    else expect(said.log).toMatch(log);
  });

  test.each(['000000010000000000000008', '000000030000000100000000', '0000000100000000000000FF'])(
    'asks for nothing behind the last segment that is needed, whatever its timeline: %s',
    async (name) => {
      await prepare('exit 126', FAILS, '000000020000000000000007');
      expect(await restore(name)).toBe(1);
      expect(await restore(SEGMENT)).toBe(126);
      expect(await restore('00000003.history')).toBe(126);
    },
  );

  test('waits for nobody who has ended', async () => {
    await prepare('echo itself >"$3"', 'exit 3');
    expect(await restore(SEGMENT)).toBe(0);
    expect(await restored()).toBe('itself\n');
  });

  test('reads nothing ahead of a history', async () => {
    await prepare(`${absent}; exit 1`, 'echo begun >begun');
    expect(await restore('00000002.history')).toBe(1);
    expect(await readdir(world)).not.toContain('begun');
  });

  test('says that it cannot be told, where pgark or its settings are missing', async () => {
    await prepare('exit 1', FAILS);
    await rm(path.join(world, 'fetch'));
    expect(await restore(SEGMENT)).toBeGreaterThan(125);
    await rm(path.join(data, 'pg_wal/pgark/environment'));
    expect(await restore(SEGMENT)).toBeGreaterThan(125);
  });

  test('is for its owner alone, and goes at the end of the recovery', async () => {
    await prepare('exit 1', FAILS);
    await writeEndScript(new TargetFolder(data, undefined));
    for (const name of ['environment', 'fetch', 'end']) {
      expect((await stat(path.join(data, 'pg_wal/pgark', name))).mode & 0o777).toBe(0o600);
    }
    expect((await stat(path.join(data, 'pg_wal/pgark'))).mode & 0o777).toBe(0o700);
    await promisify(execFile)('/bin/sh', ['-c', END_COMMAND], { cwd: data });
    expect(await readdir(path.join(data, 'pg_wal'))).toEqual([]);
  });
});
