import { spawn } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';

/** One run of a command. */
export interface Measurement {
  readonly wallS: number;
  /** User and system time of the command and all that it started; the database server and the store are not among them. */
  readonly cpuS: number;
  /** Largest resident set of a single process: with pgark its own, which exceeds those of pg_dump and psql by far. */
  readonly rssKib: number;
}

/**
 * Runs a command under GNU time, in an environment of its own and the PATH. `time` stands between this process and the
 * command, so that the size of this one is not counted. Throws with the command's output if it fails.
 */
export async function measure(
  program: string,
  args: readonly string[],
  env: Readonly<Record<string, string>>,
): Promise<Measurement> {
  const directory = await mkdtemp(path.join(tmpdir(), 'pgark-bench-'));
  try {
    const file = path.join(directory, 'time');
    await run('/usr/bin/time', ['--format=%e %U %S %M', `--output=${file}`, program, ...args], {
      PATH: process.env['PATH'] ?? '',
      HOME: directory,
      LANG: 'C.UTF-8',
      ...env,
    });
    const [wallS = 0, userS = 0, systemS = 0, rssKib = 0] = (await readFile(file, 'utf8'))
      .trim()
      .split(' ')
      .map(Number);
    return { wallS, cpuS: userS + systemS, rssKib };
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
