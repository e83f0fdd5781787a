import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { createInterface } from 'node:readline';
import type { ThrowawayServer } from '../src/postgres/server/throwaway-server.ts';
import { processorTimeOf } from './processor-time.ts';
import type { Sink } from './stores.ts';

/** A public key that nobody has the other half of. */
const AGE_RECIPIENT = 'age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p';
const pgark = path.resolve(import.meta.dirname, '../bin/pgark');

export interface ReceiverOptions {
  readonly server: ThrowawayServer;
  readonly sink: Sink;
  /** Also the name of its bucket. */
  readonly slot: string;
}

/** What a receiver has taken since it streams. CPU is user and system time. */
interface Taken {
  readonly seconds: number;
  readonly cpuS: number;
  readonly storeS: number;
  readonly peakMib: number;
}

/** `pgark wal receive` in a process of its own. */
export interface Receiver extends AsyncDisposable {
  /** Throws with its log if it has ended. */
  check(): void;
  taken(): Promise<Taken>;
}

/** Resolves when it streams. */
export async function startReceiver({ server, sink, slot }: ReceiverOptions): Promise<Receiver> {
  const child = spawn(pgark, ['wal', 'receive', '--slot', slot], {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: {
      PATH: process.env['PATH'],
      ...(process.env['NODE_OPTIONS'] === undefined ? {} : { NODE_OPTIONS: process.env['NODE_OPTIONS'] }),
      DATABASE_URL: server.url().reveal(),
      LOG_FORMAT: 'json',
      S3_ENDPOINT: sink.endpoint,
      S3_BUCKET: slot.replaceAll('_', '-'),
      S3_ACCESS_KEY_ID: 'bench',
      S3_SECRET_ACCESS_KEY: 'bench-secret',
      BACKUP_ENCRYPTION: 'age',
      BACKUP_ENCRYPTION_KEY: AGE_RECIPIENT,
    },
  });
  const exited = once(child, 'exit');
  const log: string[] = [];
  const streams = new Promise<void>((resolve) => {
    createInterface(child.stderr).on('line', (line) => {
      log.push(line);
      if (line.includes('"wal.streaming"')) resolve();
    });
  });
  await Promise.race([streams, exited.then(() => Promise.reject(new Error(log.join('\n'))))]);
  const begunMs = performance.now();
  const pid = await processOf(child.pid ?? 0);
  const times = async () => ({ own: await processorTimeOf(pid), store: await processorTimeOf(sink.pid) });
  const before = await times();
  return {
    check() {
      if (child.exitCode !== null) throw new Error(log.join('\n'));
    },
    async taken() {
      const seconds = (performance.now() - begunMs) / 1_000;
      const { own, store } = await times();
      const peakKib = Number(/VmHWM:\s+(\d+)/u.exec(await readFile(`/proc/${pid}/status`, 'utf8'))?.[1]);
      return { seconds, cpuS: own - before.own, storeS: store - before.store, peakMib: peakKib / 1024 };
    },
    async [Symbol.asyncDispose]() {
      if (child.exitCode !== null) return;
      process.kill(pid, 'SIGTERM');
      await exited;
    },
  };
}

/** pgark is started by a shell, which may stay its parent. */
async function processOf(pid: number): Promise<number> {
  for (const name of await readdir('/proc')) {
    if (!/^\d+$/u.test(name)) continue;
    const status = await readFile(`/proc/${name}/status`, 'utf8').catch(() => '');
    if (new RegExp(`^PPid:\\s+${pid}$`, 'mu').test(status)) return Number(name);
  }
  return pid;
}
