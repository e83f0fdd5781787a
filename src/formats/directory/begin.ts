import { messageOf, PgarkError } from '../../common/errors.ts';
import type { Logger } from '../../common/log.ts';
import type { Random } from '../../common/random.ts';
import { withRetries } from '../../common/retry.ts';
import type { Session } from '../../postgres/client/connect.ts';
import type { InstalledProgram } from '../../postgres/client/programs.ts';
import type { CustomToc } from '../../postgres/toc/toc.ts';
import { warnOfNewerClient } from '../newer-client.ts';
import { changedDefinitions } from './catalogue-changes.ts';
import { openDumpSession } from './dump-session.ts';
import { readDumpToc } from './dump-toc.ts';
import { type Leader, type LeaderRequest, lead } from './leader.ts';
import { CatalogueChanged, TablesChanged } from './lock-tables.ts';

/**
 * For how long a dump is begun anew because tables were changed while it began. Migrations have their end; between two
 * beginnings nothing of ours is in their way.
 */
const PATIENCE_MS = 5 * 60_000;
/** How often pg_dump may miss what it has just seen before it is taken for damage that stays. */
const MISSES_MAX = 8;
const PAUSES = { retriesMax: Number.MAX_SAFE_INTEGER, delayMs: 100, delayMsMax: 10_000 };

/**
 * How long pg_dump waits for a lock on a table: so much, times the number of beginnings, but not more than the second. The
 * leader has one already, so that it is held up only by somebody who waits for the leader, and behind whom everybody else
 * waits. That ends when he gives up, or when the leader gives way and begins anew.
 */
const LOCK_WAIT_MS = 500;
const LOCK_WAIT_MS_MAX = 2_000;

export interface BeginRequest extends LeaderRequest {
  readonly pgDump: InstalledProgram;
  readonly serverMajor: number;
  /** Patterns of tables whose rows are left out; their definitions stay. */
  readonly excludeTableData: readonly string[];
  readonly random: Random;
  readonly logger: Logger;
}

/** What a dump begins with. */
interface Beginning {
  readonly leader: Leader;
  readonly toc: CustomToc;
}

/**
 * All tables locked, a snapshot by which they are as they were locked, and what pg_dump sees of them. If something is changed
 * meanwhile it begins anew, for some minutes. Errors: `dump-failed`, `archive-unsupported`, `postgres-…`.
 */
export async function begin(request: BeginRequest): Promise<Beginning> {
  const { clock, random, logger, signal } = request;
  warnOfNewerClient(logger, request.pgDump, request.serverMajor);
  const deadlineMs = clock.monotonicMs() + PATIENCE_MS;
  let misses = 0;
  const isRetryable = (error: unknown): boolean => {
    if (!(error instanceof CatalogueChanged)) return error instanceof TablesChanged && clock.monotonicMs() < deadlineMs;
    misses += 1;
    return misses < MISSES_MAX;
  };
  try {
    return await withRetries((attempt) => beginOnce(request, Math.min(LOCK_WAIT_MS_MAX, LOCK_WAIT_MS * attempt)), {
      policy: PAUSES,
      clock,
      random,
      signal,
      isRetryable,
      onRetry: (error) => logger.warning('dump.begun_anew', `the dump begins anew: ${messageOf(error)}`),
    });
  } catch (error) {
    if (error instanceof CatalogueChanged) throw error.cause;
    throw error instanceof TablesChanged ? restless(error) : error;
  }
}

async function beginOnce(request: BeginRequest, lockWaitMs: number): Promise<Beginning> {
  const { connection, applicationName, signal } = request;
  const leader = await lead(request);
  try {
    const toc = await readDumpToc({
      ...request,
      snapshot: leader.snapshot,
      session: leader.session,
      lockWaitMs,
      signal: AbortSignal.any([signal, leader.lost]),
    });
    const openNow = (): Promise<Session> => openDumpSession(connection, { applicationName, signal });
    const changed = await changedDefinitions(leader.session, openNow);
    if (changed.length > 0) {
      throw new TablesChanged(`something was changed in ${changed.join(', ')} while pg_dump read the definitions`);
    }
    return { leader, toc };
  } catch (error) {
    try {
      signal.throwIfAborted();
      // pg_dump cannot know why its snapshot is gone.
      await leader.confirm();
      throw error;
    } finally {
      await leader.close();
    }
  }
}

function restless(cause: TablesChanged): PgarkError {
  return new PgarkError(
    'dump-failed',
    `tables or other objects were changed whenever the dump began, for ${PATIENCE_MS / 60_000} minutes: ${cause.message}`,
    { cause, hint: 'run the backup again when no migration is under way, or back up with format plain' },
  );
}
