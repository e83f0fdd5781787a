import { mkdtemp, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Client } from 'pg';
import { formatDuration } from '../common/bytes.ts';
import { type Clock, systemClock } from '../common/clock.ts';
import { PgarkError } from '../common/errors.ts';
import { startReaper } from '../postgres/server/reaper.ts';
import { startThrowawayServer, type ThrowawayServer } from '../postgres/server/throwaway-server.ts';
import { compareFingerprints, type Fingerprint, fingerprintDatabase } from './fingerprint.ts';
import { createSampleDatabase } from './sample-database.ts';

const DATABASE = 'shop';
const DISASTER = 'DROP TABLE sales.order_item CASCADE';

export interface DemoOptions {
  /** Runs pgark with these arguments and this environment, its output going to the user; resolves with its exit status. */
  readonly runPgark: (args: readonly string[], env: Readonly<Record<string, string>>) => Promise<number>;
  readonly print: (line: string) => void;
  /** Ends the demonstration; what it made is removed all the same. */
  readonly signal?: AbortSignal;
  readonly clock?: Clock;
  /** Share of the sample's full size of about 1 million rows. */
  readonly scale?: number;
}

/**
 * Shows a whole backup and restore on a private PostgreSQL server, with real commands, and proves that every row came
 * back. Rejects if a command fails or anything differs.
 */
export async function runDemo(options: DemoOptions): Promise<void> {
  const directory = await realpath(await mkdtemp(path.join(tmpdir(), 'pgark-demo-')));
  // Removes the directory even if this process is killed.
  const reaper = await startReaper({ directory, pidFiles: [], signal: 'KILL' });
  try {
    await new Demo(options, directory).run();
  } finally {
    await rm(directory, { recursive: true, force: true });
    await reaper.dismiss();
  }
  options.print('The server, the sample database and its backup are removed again.');
}

class Demo {
  readonly #options: DemoOptions;
  readonly #backups: string;
  readonly #clock: Clock;

  constructor(options: DemoOptions, directory: string) {
    this.#options = options;
    this.#backups = path.join(directory, 'backups');
    this.#clock = options.clock ?? systemClock;
  }

  async run(): Promise<void> {
    const { print, signal, scale } = this.#options;
    this.#title('A PostgreSQL server with a sample database');
    await using server = await startThrowawayServer({ listen: 'tcp', ...(signal && { signal }) });
    await this.#query(server, 'postgres', `CREATE DATABASE ${DATABASE}`);
    const loadMs = await this.#timed(() =>
      this.#connected(server, DATABASE, (client) =>
        createSampleDatabase(client, {
          onStep: (what) => print(`  creating ${what}`),
          ...(signal && { signal }),
          ...(scale !== undefined && { scale }),
        }),
      ),
    );
    const before = await this.#fingerprint(server);
    print(`${describe(before)}, made in ${formatDuration(loadMs)}`);

    this.#title('Back it up');
    const url = server.url(DATABASE).reveal();
    const env = { DATABASE_URL: url, BACKUP_STORAGE: `file://${this.#backups}` };
    print(`$ export DATABASE_URL=${url.replace(encodeURIComponent(server.password.reveal()), '***')}`);
    print(`$ export BACKUP_STORAGE=${env.BACKUP_STORAGE}`);
    const backupMs = await this.#pgark(['backup'], env);
    await this.#pgark(['list'], env);

    this.#title('Lose something');
    print(`${DATABASE}=# ${DISASTER};`);
    await this.#query(server, DATABASE, DISASTER);
    const lost = compareFingerprints(before, await this.#fingerprint(server));
    if (lost.length === 0) throw new PgarkError('internal', 'the disaster of the demonstration destroyed nothing');
    for (const difference of lost.filter((line) => line.startsWith('table '))) print(`  ${difference}`);

    this.#title('Restore it');
    const restoreMs = await this.#pgark(['restore', 'latest', '--in-place', '--yes', DATABASE], env);

    this.#title('Prove it');
    await this.#pgark(['verify'], env);
    const after = await this.#fingerprint(server);
    this.#compare(before, after);
    print(`all is back: ${describe(after)}, counted and hashed by the server before and after`);

    this.#title(`Done: backup ${formatDuration(backupMs)}, restore ${formatDuration(restoreMs)}`);
  }

  #title(text: string): void {
    this.#options.signal?.throwIfAborted();
    this.#options.print('');
    this.#options.print(`── ${text}`);
  }

  async #timed(work: () => Promise<unknown>): Promise<number> {
    const start = this.#clock.monotonicMs();
    await work();
    return this.#clock.monotonicMs() - start;
  }

  /** Resolves with the milliseconds that it took. */
  async #pgark(args: readonly string[], env: Readonly<Record<string, string>>): Promise<number> {
    const { print, runPgark, signal } = this.#options;
    const command = `pgark ${args.join(' ')}`;
    print(`$ ${command}`);
    let exitStatus = 0;
    const ms = await this.#timed(async () => {
      exitStatus = await runPgark(args, env);
    });
    signal?.throwIfAborted();
    if (exitStatus !== 0) {
      throw new PgarkError('internal', `the demonstration stopped: "${command}" ended with exit status ${exitStatus}`, {
        hint: 'its own message is above',
      });
    }
    print(`  took ${formatDuration(ms)}`);
    return ms;
  }

  #compare(before: Fingerprint, after: Fingerprint): void {
    const differences = compareFingerprints(before, after);
    if (differences.length === 0) return;
    for (const difference of differences) this.#options.print(`  ${difference}`);
    throw new PgarkError('restore-failed', `the restored database differs in ${differences.length} places`, {
      hint: 'the differences are above; please report them, this must not happen',
    });
  }

  async #fingerprint(server: ThrowawayServer): Promise<Fingerprint> {
    return this.#connected(server, DATABASE, fingerprintDatabase);
  }

  async #query(server: ThrowawayServer, database: string, sql: string): Promise<void> {
    await this.#connected(server, database, (client) => client.query(sql));
  }

  /** A connection of its own for each piece of work: a restore in place wants nobody else in the database. */
  async #connected<T>(server: ThrowawayServer, database: string, work: (client: Client) => Promise<T>): Promise<T> {
    const { host, port, user, password } = server;
    const client = new Client({ host, port, user, password: password.reveal(), database });
    await client.connect();
    try {
      return await work(client);
    } finally {
      await client.end();
    }
  }
}

function describe({ tables, objects }: Fingerprint): string {
  const rows = tables.reduce((total, table) => total + table.rowCount, 0);
  const largeObjects = [...objects.keys()].filter((name) => name.startsWith('large object ')).length;
  return `${rows.toLocaleString('en-US')} rows in ${tables.length} tables and ${largeObjects} large objects`;
}
