import type { Clock } from '../../common/clock.ts';
import type { Session } from './connect.ts';

/** How often, and how long in milliseconds, the end of a lost session's server process is waited for. */
const SETTLE_TRIES_MAX = 150;
const SETTLE_PAUSE_MS = 200;

interface EndOptions {
  readonly clock: Clock;
  /** Of the sessions that were lost. */
  readonly applicationName: string;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Server processes whose connections broke. Each goes on until it looks for its client: it holds its locks, and keeps the
 * database from being renamed.
 */
export class LostBackends {
  readonly #pids = new Set<number>();

  get some(): boolean {
    return this.#pids.size > 0;
  }

  add({ announcedPid }: Session): void {
    if (announcedPid !== undefined) this.#pids.add(announcedPid);
  }

  /** Ends them, and waits until they are gone; one that cannot be ended is left to itself. */
  async end(session: Session, { clock, signal, applicationName }: EndOptions): Promise<void> {
    const pids = [...this.#pids];
    for (let attempt = 0; pids.length > 0 && attempt < SETTLE_TRIES_MAX; attempt++) {
      const rows = await session.asUser(() =>
        session.query(
          `select pg_catalog.pg_terminate_backend(pid) from pg_catalog.pg_stat_activity
            where pid = any($1) and application_name = $2 and pid <> pg_catalog.pg_backend_pid()`,
          [pids, applicationName],
        ),
      );
      if (rows.length === 0) break;
      await clock.sleep(SETTLE_PAUSE_MS, signal);
    }
    for (const pid of pids) this.#pids.delete(pid);
  }
}
