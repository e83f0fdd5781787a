import { execFile } from 'node:child_process';
import path from 'node:path';
import { promisify } from 'node:util';
import type { Cluster } from './cluster.ts';
import type { RestoredServer } from './physical.ts';

/** PostgreSQL’s own load: money is moved, so that at every moment all sums agree. */
export class Pgbench {
  readonly #stop = new AbortController();
  readonly #work: Promise<string>;

  private constructor(cluster: Cluster, folder: string) {
    const { signal } = this.#stop;
    this.#work = run(cluster, folder, ['-n', '-c', '3', '-R', '100', '-T', '3600'], signal).then(
      () => 'pgbench ended by itself',
      (error: unknown) => (signal.aborted ? '' : String(error)),
    );
  }

  static async start(cluster: Cluster, folder: string): Promise<Pgbench> {
    await run(cluster, folder, ['-i', '-q', '-s', '1']);
    return Pgbench.goOn(cluster, folder);
  }

  /** Of a server that has its tables. */
  static goOn(cluster: Cluster, folder: string): Pgbench {
    return new Pgbench(cluster, folder);
  }

  /** Fails if there was no load up to now. */
  async stop(): Promise<void> {
    this.#stop.abort();
    const why = await this.#work;
    if (why !== '') throw new Error(why);
  }
}

/** Fails unless the server is as it was between two transactions; returns how many there had been. */
export async function checkSums(server: Pick<RestoredServer, 'sql'>): Promise<number> {
  const sums = await server.sql<{ sum: string }>(`
    select coalesce(sum(abalance), 0)::text as sum from pgbench_accounts
    union select coalesce(sum(bbalance), 0)::text from pgbench_branches
    union select coalesce(sum(tbalance), 0)::text from pgbench_tellers
    union select coalesce(sum(delta), 0)::text from pgbench_history`);
  if (sums.length !== 1) throw new Error(`the sums differ: ${sums.map(({ sum }) => sum).join(', ')}`);
  const [found] = await server.sql<{ count: number }>('select count(*)::int as count from pgbench_history');
  return found?.count ?? 0;
}

async function run(cluster: Cluster, folder: string, args: readonly string[], signal?: AbortSignal): Promise<unknown> {
  const login = ['-h', '127.0.0.1', '-p', String(cluster.port), '-U', 'postgres'];
  return promisify(execFile)(path.join(folder, 'pgbench'), [...login, ...args, 'postgres'], {
    maxBuffer: 2 ** 26,
    ...(signal && { signal }),
  });
}
