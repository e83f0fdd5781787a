import { spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { createInterface } from 'node:readline';

/** What a sink does besides answering like S3. */
export interface SinkOptions {
  /** Gives back what was put, from its memory. */
  readonly keep?: boolean;
  /** Time from a request to the beginning of its answer, and what each connection carries in a second. */
  readonly distance?: { readonly latencyMs: number; readonly bytesPerSecond: number };
}

/** A store that answers like S3, as a process of its own. */
export interface Sink extends AsyncDisposable {
  readonly endpoint: string;
  readonly pid: number;
}

export async function startSink({ keep = false, distance }: SinkOptions = {}): Promise<Sink> {
  const args = [
    path.join(import.meta.dirname, 'sink.ts'),
    ...(keep ? ['--keep'] : []),
    ...(distance === undefined
      ? []
      : [`--latency-ms=${distance.latencyMs}`, `--bytes-per-second=${distance.bytesPerSecond}`]),
  ];
  const child = spawn(process.execPath, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  const [port] = (await once(createInterface(child.stdout), 'line')) as [string];
  return {
    endpoint: `http://127.0.0.1:${port}`,
    pid: child.pid ?? 0,
    async [Symbol.asyncDispose]() {
      const exited = once(child, 'exit');
      child.stdin.end();
      await exited;
    },
  };
}

/** Bytes of all objects in a bucket, pgark's state objects too. */
export async function storedBytes(endpoint: string, bucket: string): Promise<number> {
  const response = await fetch(`${endpoint}/${bucket}?list-type=2`);
  const listing = await response.text();
  return [...listing.matchAll(/<Size>(\d+)<\/Size>/gu)].reduce((sum, [, size]) => sum + Number(size), 0);
}
