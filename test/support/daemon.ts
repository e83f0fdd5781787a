import { writeFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { expectExit } from './backups.ts';
import { type RunResult, runPgark } from './cli.ts';

/** A line of the daemon's log. */
export interface LogLine {
  readonly time: string;
  readonly level: string;
  readonly event: string;
  readonly message: string;
  readonly job?: string;
  readonly dueAt?: string;
  readonly [field: string]: unknown;
}

/** `pgark daemon` under way. `await using` kills one that a failed test has left. */
export interface TestDaemon extends AsyncDisposable {
  readonly lines: readonly LogLine[];
  of(event: string, job?: string): LogLine[];
  /** Resolves with the first `count` lines of the event; rejects, with the log, if the daemon ends before. */
  until(event: string, options?: { readonly job?: string; readonly count?: number }): Promise<LogLine[]>;
  kill(signal: NodeJS.Signals): Promise<void>;
  /** Told to end, it does so with success. */
  stop(): Promise<void>;
  readonly pid: Promise<number>;
  readonly result: Promise<RunResult>;
}

export function startDaemon(
  env: Readonly<Record<string, string>>,
  args: readonly string[] = [],
  options: { readonly cwd?: string; readonly program?: string } = {},
): TestDaemon {
  const started = Promise.withResolvers<{ readonly pid: number; kill(signal: NodeJS.Signals): void }>();
  const lines: LogLine[] = [];
  let rest = '';
  let ended = false;
  const onStderr = (text: string): void => {
    const parts = (rest + text).split('\n');
    rest = parts.pop() ?? '';
    for (const part of parts) if (part.startsWith('{')) lines.push(JSON.parse(part) as LogLine);
  };
  const result = runPgark(['daemon', ...args], {
    env: { PGARK_LISTEN: '127.0.0.1:0', LOG_FORMAT: 'json', ...env },
    onStarted: started.resolve,
    onStderr,
    ...options,
  }).finally(() => {
    ended = true;
  });
  const of = (event: string, job?: string): LogLine[] =>
    lines.filter((line) => line.event === event && (job === undefined || line.job === job));
  const kill = async (signal: NodeJS.Signals): Promise<void> => (await started.promise).kill(signal);
  return {
    lines,
    of,
    async until(event, { job, count = 1 } = {}) {
      for (;;) {
        const found = of(event, job);
        if (found.length >= count) return found.slice(0, count);
        if (ended) throw new Error(`the daemon ended without ${count} ${event}:\n${(await result).stderr}`);
        await sleep(20);
      }
    },
    kill,
    async stop() {
      await kill('SIGTERM');
      expectExit(await result, 0);
    },
    pid: started.promise.then(({ pid }) => pid),
    result,
    async [Symbol.asyncDispose]() {
      if (!ended) await kill('SIGKILL');
      await result;
    },
  };
}

/** Arguments for what `configFile` writes, in its folder. */
export const CONFIG = ['--config', 'pgark.yaml'];

/** A configuration file of databases with one job each, and their storage in the same folder. */
export async function configFile(
  folder: string,
  databases: Readonly<Record<string, { readonly url: string; readonly schedule: string }>>,
  extra = '',
): Promise<void> {
  const sections = Object.entries(databases).map(
    ([name, { url, schedule }]) =>
      `  ${name}:\n    url: ${JSON.stringify(url)}\n    jobs: { often: { format: plain, schedule: ${JSON.stringify(schedule)} } }\n`,
  );
  const text = `version: 1\nstorages:\n  near: { type: file, path: backups }\n${extra}databases:\n${sections.join('')}`;
  await writeFile(`${folder}/pgark.yaml`, text);
}
