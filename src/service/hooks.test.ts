import { readFile } from 'node:fs/promises';
import { describe, expect, test } from 'vitest';
import { makeTempDirectory } from '../../test/support/temp.ts';
import { systemClock } from '../common/clock.ts';
import { isPgarkError, PgarkError } from '../common/errors.ts';
import { createLogger } from '../common/log-writer.ts';
import { type HookConfig, type HookContext, type HookFacts, runHooks } from './hooks.ts';

const facts: HookFacts = {
  source: 'main',
  database: `we"ird $(id) 'x'`,
  job: 'nightly',
  runId: '01KAFZJHDJ6YV1T1Y2Z3A4B5C6',
};

interface LogLine {
  readonly event: string;
  readonly message: string;
}

function world(changes: Partial<HookContext> = {}) {
  const lines: LogLine[] = [];
  const context: HookContext = {
    clock: systemClock,
    logger: createLogger({ format: 'json', level: 'debug', write: (line) => lines.push(JSON.parse(line) as LogLine) }),
    signal: new AbortController().signal,
    environment: { PATH: process.env['PATH'], DATABASE_URL: 'postgres://u:hidden@db/x', LANG: 'C.UTF-8' },
    ...changes,
  };
  const said = (event: string): readonly string[] =>
    lines.filter((line) => line.event === event).map(({ message }) => message);
  return { context, lines, said };
}

function shell(script: string, said: Partial<HookConfig> = {}): HookConfig {
  return { run: ['sh', '-c', script], timeoutMs: 30_000, onError: 'abort', ...said };
}

async function failureOf(running: Promise<void>): Promise<PgarkError> {
  const error: unknown = await running.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (!isPgarkError(error, 'hook-failed')) throw new Error(`no hook-failed but ${String(error)}`);
  return error;
}

/** Whether it runs; one that is dead and that nobody has asked about yet does not. */
async function isAlive(pid: number): Promise<boolean> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  return stat !== '' && !/^\d+ \(.*\) [ZX] /.test(stat);
}

/** Death by signal takes its moment; the test's own time is the limit. */
async function untilDead(pid: number): Promise<void> {
  while (await isAlive(pid)) await systemClock.sleep(10);
}

/** The process that a hook started in the background, as it wrote it down. */
async function pidIn(file: string): Promise<number> {
  for (;;) {
    const text = await readFile(file, 'utf8').catch(() => '');
    if (text.endsWith('\n')) return Number(text);
    await systemClock.sleep(10);
  }
}

describe('a hook', () => {
  test('learns what is done, and nothing of our own secrets; its output is in the log, line by line', async () => {
    const { context, said } = world();
    const program = shell('env | sort; echo trouble >&2');
    await runHooks(
      [program],
      'after_backup',
      { ...facts, result: 'failed', error: new PgarkError('dump-failed', 'killed') },
      context,
    );
    const variables = said('hook.output').filter((line) => line.startsWith('PGARK_'));
    expect(variables).toEqual([
      `PGARK_DATABASE=${facts.database}`,
      'PGARK_ERROR=killed',
      'PGARK_ERROR_CODE=dump-failed',
      'PGARK_HOOK=after_backup',
      'PGARK_JOB=nightly',
      'PGARK_RESULT=failed',
      'PGARK_RUN_ID=01KAFZJHDJ6YV1T1Y2Z3A4B5C6',
      'PGARK_SOURCE=main',
    ]);
    expect(said('hook.output')).toContain('trouble');
    expect(said('hook.output')).toContain('LANG=C.UTF-8');
    expect(said('hook.output').join('\n')).not.toContain('hidden');
  });

  test('learns of several databases one a line; what would read as two of them is left out', async () => {
    const { context, said } = world();
    const { database: _, ...ofMany } = facts;
    const program = shell('echo "$PGARK_DATABASES"; env | grep -c "^PGARK_DATABASE="');
    const databases = ['crm', 'my shop', 'fake\nprod'];
    await runHooks([{ ...program, onError: 'warn' }], 'after_backup', { ...ofMany, databases }, context);
    expect(said('hook.output')).toEqual(['crm', 'my shop', '0']);
    const long = Array.from({ length: 4_000 }, (_name, index) => `a database of many, number ${index}`);
    await runHooks([shell('test -z "$PGARK_DATABASES"')], 'after_backup', { ...ofMany, databases: long }, context);
  });

  test('gets its arguments as they are: no shell reads them', async () => {
    const { context, said } = world();
    await runHooks(
      [{ run: ['printf', '%s\n', '$(id) `id` ; "x y"'], timeoutMs: 5_000, onError: 'abort' }],
      'before_backup',
      facts,
      context,
    );
    expect(said('hook.output')).toEqual(['$(id) `id` ; "x y"']);
  });

  test.each([
    ['exits with something else than 0', shell('echo the disk is gone >&2; exit 3'), /exited with 3: the disk is gone/],
    ['is killed', shell('kill -9 $$'), /was killed by SIGKILL/],
    ['is not there', { ...shell(''), run: ['/nonexistent/hook'] }, /could not be started: .*ENOENT/],
  ])('that %s ends the row', async (_title, hook, message) => {
    const { context, said } = world();
    const error = await failureOf(runHooks([hook, shell('echo never')], 'before_backup', facts, context));
    expect(error.message).toMatch(message);
    expect(error.message).toContain('before_backup');
    expect(said('hook.output')).not.toContain('never');
  });

  test('whose failure is to be a warning is one, and the next one runs', async () => {
    const { context, said } = world();
    await runHooks([shell('exit 3', { onError: 'warn' }), shell('echo next')], 'before_backup', facts, context);
    expect(said('hook.failed')).toEqual([expect.stringContaining('exited with 3')]);
    expect(said('hook.output')).toEqual(['next']);
  });

  test('that takes too long is killed with all that it started', async () => {
    await using folder = await makeTempDirectory();
    const { context } = world();
    const script = `trap '' TERM; (trap '' TERM; sleep 600) & echo $! > ${folder.join('pid')}; wait; sleep 600`;
    const running = failureOf(runHooks([shell(script, { timeoutMs: 2_000 })], 'before_backup', facts, context));
    const pid = await pidIn(folder.join('pid'));
    expect(await isAlive(pid)).toBe(true);
    expect((await running).message).toMatch(/took longer than \S+ \w+ and was killed/);
    await untilDead(pid);
  });

  test('is killed when the run is aborted, which is the reason given, and no further one begins', async () => {
    await using folder = await makeTempDirectory();
    const abort = new AbortController();
    const { context, said } = world({ signal: abort.signal });
    const hooks = [
      shell(`sleep 600 & echo $! > ${folder.join('pid')}; wait`, { onError: 'warn' }),
      shell('echo never'),
    ];
    const running = runHooks(hooks, 'before_backup', facts, context);
    const pid = await pidIn(folder.join('pid'));
    abort.abort(new Error('received SIGTERM'));
    await expect(running).rejects.toThrow('received SIGTERM');
    await untilDead(pid);
    expect(said('hook.output')).not.toContain('never');
  });

  test('that is to run after a run also runs after one that was cut off, but not for long', async () => {
    const abort = new AbortController();
    abort.abort(new Error('received SIGTERM'));
    const { context, said } = world({ signal: abort.signal });
    const hooks = [shell('echo switched on'), shell('sleep 600', { timeoutMs: 600_000 })];
    await expect(runHooks(hooks, 'after_backup', facts, context)).rejects.toThrow();
    expect(said('hook.output')).toEqual(['switched on']);
    await expect(runHooks(hooks, 'before_backup', facts, context)).rejects.toThrow('received SIGTERM');
    expect(said('hook.output')).toHaveLength(1);
  });

  test('that leaves a program in the background is not waited for', async () => {
    await using folder = await makeTempDirectory();
    const { context, said } = world();
    await runHooks([shell(`echo begun; sleep 600 & echo $! > ${folder.join('pid')}`)], 'before_backup', facts, context);
    expect(said('hook.output')).toEqual(['begun']);
    const pid = await pidIn(folder.join('pid'));
    expect(await isAlive(pid)).toBe(true);
    process.kill(pid, 'SIGKILL');
  });

  test('that says too much is cut: in the length of its lines, and in their number', async () => {
    const { context, said } = world();
    await runHooks([shell(`head -c 100000 /dev/zero | tr '\\0' x; echo; seq 1 3000`)], 'before_backup', facts, context);
    const output = said('hook.output');
    expect(output).toHaveLength(1_000);
    expect(Math.max(...output.map((line) => line.length))).toBe(2_000);
    expect(said('hook.output_cut')).toHaveLength(1);
  });
});
