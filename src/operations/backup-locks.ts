import { isPgarkError } from '../common/errors.ts';
import { type DatabaseLock, lockDatabase } from '../postgres/client/advisory-lock.ts';
import type { ConnectionParameters } from '../postgres/client/connection-parameters.ts';
import type { Lease } from '../repository/held-lease.ts';
import { Leases } from '../repository/leases.ts';
import type { Manifest } from '../repository/manifest.ts';
import { encodeName } from '../repository/names.ts';
import { SWEEP_COMMAND } from '../repository/sweep.ts';
import { findRunRecord } from '../runs/find-runs.ts';
import type { SpreadRun } from '../runs/run.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import type { OperationContext } from './context.ts';

/** How long a backup waits while its lease is held by sweeps; far longer than a sweep of one dead run takes. */
const SWEEP_WAIT_MS = 30_000;
const SWEEP_POLL_MS = 1_000;

export interface LockRequest {
  readonly source: string;
  readonly connection: ConnectionParameters;
  readonly leaseTermMs: number;
  readonly format?: Manifest['format'] | undefined;
}

/** A destination as the lock on the server sees it. */
export interface LeasedPlace {
  readonly store: ObjectStore;
  readonly holdsLeaseSurely: boolean;
}

/** The leases of a backup's run in one store. */
export function leasesFor(
  store: ObjectStore,
  run: Pick<SpreadRun, 'id' | 'logger'>,
  { clock, random, host, pid }: OperationContext,
  termMs: number,
): Leases {
  const holder = { host, pid, runId: run.id, command: 'pgark backup' };
  return new Leases(store, { clock, random, logger: run.logger, termMs, holder });
}

/**
 * The lease under which a database is backed up, or the files of a server, which keep nobody from dumping what they hold; it
 * has the same name in every store. Only those of databases have a slash.
 */
export function leaseNameOf({
  source,
  connection,
  format,
}: Pick<LockRequest, 'source' | 'connection' | 'format'>): string {
  return format === 'physical' ? `base:${encodeName(source)}` : `${source}/${connection.database}`;
}

/** Takes the lock on the server, under the leases that are held. Error: `locked`. */
export async function lockOnServer(
  request: LockRequest,
  places: readonly LeasedPlace[],
  run: Pick<SpreadRun, 'id'>,
  signal: AbortSignal,
): Promise<DatabaseLock> {
  return lockDatabase(request.connection, {
    runId: run.id,
    ...(request.format === 'physical' ? { of: 'server' as const } : {}),
    signal,
    patienceMs: request.leaseTermMs,
    mayTakeOver: (runId) => isDeadRun(request, runId, places),
  });
}

/**
 * Takes the lease at once or not at all, but for one case: another run, backup or prune, that is sweeping what a dead
 * backup left holds the lease of that backup for a moment. That moment is waited for. Error: `locked`.
 */
export async function acquireAfterSweep(
  leases: Leases,
  name: string,
  { clock, signal }: Pick<OperationContext, 'clock' | 'signal'>,
): Promise<Lease> {
  const endMs = clock.monotonicMs() + SWEEP_WAIT_MS;
  for (;;) {
    try {
      return await leases.acquire(name, { signal });
    } catch (error) {
      if (!isPgarkError(error, 'locked') || clock.monotonicMs() >= endMs) throw error;
      const seen = await leases.peek(name, { signal });
      if (seen?.holder.command !== SWEEP_COMMAND) throw error;
      await clock.sleep(SWEEP_POLL_MS, signal);
    }
  }
}

/**
 * Whether the run that still holds the lock on the server is dead: in each storage that it works on, it has ended, or it
 * worked under the lease that is ours now. A run that is alive in any other storage, or that we know nothing of, is none
 * of our business.
 */
export async function isDeadRun(
  request: Pick<LockRequest, 'source' | 'connection'>,
  runId: string,
  places: readonly LeasedPlace[],
): Promise<boolean> {
  const seen = await Promise.all(
    places.map(async ({ store, holdsLeaseSurely }) => {
      const record = await findRunRecord(store, runId).catch(() => undefined);
      const same =
        record?.kind === 'backup' &&
        record.source === request.source &&
        record.database === request.connection.database;
      return same ? { record, ours: holdsLeaseSurely } : undefined;
    }),
  );
  const over = seen.filter((each) => each !== undefined && (each.ours || each.record.state !== 'running'));
  const storages = Math.max(1, ...seen.map((each) => each?.record.destinations?.length ?? 1));
  return over.some((each) => each?.ours) && over.length >= storages;
}
