import { PgarkError } from '../../common/errors.ts';
import type { Logger } from '../../common/log.ts';
import type { InstalledProgram } from '../../postgres/client/programs.ts';
import type { CustomToc } from '../../postgres/toc/toc.ts';
import { warnOfNewerClient } from '../newer-client.ts';
import { readDumpToc } from './dump-toc.ts';
import { type Leader, type LeaderRequest, lead, TablesChanged } from './leader.ts';

/** How often a dump may begin because tables were changed while it began. */
const BEGINNINGS_MAX = 6;

export interface BeginRequest extends LeaderRequest {
  readonly pgDump: InstalledProgram;
  readonly serverMajor: number;
  /** Patterns of tables whose rows are left out; their definitions stay. */
  readonly excludeTableData: readonly string[];
  readonly logger: Logger;
}

/**
 * All tables locked, a snapshot by which they are as they were locked, and what pg_dump sees of them. If tables are changed
 * meanwhile it begins anew, a few times. Errors: `dump-failed`, `archive-unsupported`, `postgres-…`.
 */
export async function begin(request: BeginRequest): Promise<{ readonly leader: Leader; readonly toc: CustomToc }> {
  const { logger, signal } = request;
  warnOfNewerClient(logger, request.pgDump, request.serverMajor);
  for (let beginning = 1; ; beginning++) {
    let leader: Leader | undefined;
    try {
      leader = await lead(request);
      const toc = await readDumpToc({
        ...request,
        snapshot: leader.snapshot,
        signal: AbortSignal.any([signal, leader.lost]),
      });
      return { leader, toc };
    } catch (error) {
      await leader?.close();
      signal.throwIfAborted();
      // pg_dump cannot know why its snapshot is gone.
      leader?.lost.throwIfAborted();
      if (!(error instanceof TablesChanged)) throw error;
      if (beginning === BEGINNINGS_MAX) throw restless(error);
      logger.warning('dump.begun_anew', `the dump begins anew: ${error.message}`);
    }
  }
}

function restless(cause: TablesChanged): PgarkError {
  return new PgarkError(
    'dump-failed',
    `tables were changed each of the ${BEGINNINGS_MAX} times that the dump began: ${cause.message}`,
    { cause, hint: 'run the backup again when no migration is under way' },
  );
}
