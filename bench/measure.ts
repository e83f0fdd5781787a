import { spawn } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Contender } from './contender.ts';
import type { ThrowawayServer } from '../src/postgres/server/throwaway-server.ts';
import { familyTimeOf, processorTimeOf } from './processor-time.ts';

/** One run of a contender. CPU is user and system time. */
export interface Measurement {
  readonly wallS: number;
  /** Of the command and all that it started. */
  readonly clientCpuS: number;
  /** Of the database server, all its processes. */
  readonly serverCpuS: number;
  /** Of the stores. */
  readonly storeCpuS: number;
  /** Largest resident set of a single process: with pgark its own, which exceeds those of pg_dump and psql by far. */
  readonly rssKib: number;
}

/** Whose processor time is counted beside the command's own. */
export interface Servers {
  readonly server: Pick<ThrowawayServer, 'binDir'>;
  readonly serverPid: number;
  readonly storePids: readonly number[];
}

/** What is run, without a shell. */
export type Command = Pick<Contender, 'program' | 'args' | 'env'>;

/**
 * Runs a contender under GNU time, in an environment of its own and the PATH, the server's programs first. `time` stands
 * between this process and the command, so that the size of this one is not counted. Throws with the command's output if
 * it fails.
 */
export async function measure(place: Servers, contender: Command): Promise<Measurement> {
  const directory = await mkdtemp(path.join(tmpdir(), 'pgark-bench-'));
  const storeTime = async (): Promise<number> => {
    const times = await Promise.all(place.storePids.map(processorTimeOf));
    return times.reduce((sum, seconds) => sum + seconds, 0);
  };
  try {
    const file = path.join(directory, 'time');
    const [serverBefore, storeBefore] = [await familyTimeOf(place.serverPid), await storeTime()];
    const args = ['--format=%e %U %S %M', `--output=${file}`, contender.program, ...contender.args];
    await run('/usr/bin/time', args, {
      PATH: `${place.server.binDir}:${process.env['PATH'] ?? ''}`,
      HOME: directory,
      LANG: 'C.UTF-8',
      ...contender.env,
    });
    const [serverAfter, storeAfter] = [await familyTimeOf(place.serverPid), await storeTime()];
    const [wallS = 0, userS = 0, systemS = 0, rssKib = 0] = (await readFile(file, 'utf8'))
      .trim()
      .split(' ')
      .map(Number);
    return {
      wallS,
      clientCpuS: userS + systemS,
      serverCpuS: serverAfter - serverBefore,
      storeCpuS: storeAfter - storeBefore,
      rssKib,
    };
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

async function run(program: string, args: readonly string[], env: Readonly<Record<string, string>>): Promise<void> {
  const child = spawn(program, args, { env, stdio: ['ignore', 'pipe', 'pipe'] });
  const output: Buffer[] = [];
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => output.push(chunk));
  const status = await new Promise<string>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => resolve(signal ?? String(code)));
  });
  if (status !== '0') throw new Error(`${args.at(2)} ended with ${status}:\n${Buffer.concat(output).toString()}`);
}
