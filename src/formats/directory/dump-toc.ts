import { aborted } from '../../common/aborted.ts';
import { ProgramFailure, programOutput } from '../../common/child-process.ts';
import { isPgarkError, PgarkError } from '../../common/errors.ts';
import type { Logger } from '../../common/log.ts';
import { clientProgram } from '../../postgres/client/client-program.ts';
import type { ConnectionParameters } from '../../postgres/client/connection-parameters.ts';
import type { Session } from '../../postgres/client/connect.ts';
import { readLanguage } from '../../postgres/client/in-english.ts';
import type { InstalledProgram } from '../../postgres/client/programs.ts';
import { readTocOf } from '../../postgres/toc/read-toc.ts';
import type { CustomToc } from '../../postgres/toc/toc.ts';
import { passOnMessages } from '../plain/program-messages.ts';
import { withoutInternals } from './fit-toc.ts';
import { explainTocFailure } from './toc-failure.ts';

export interface TocRequest {
  readonly connection: ConnectionParameters;
  readonly pgDump: InstalledProgram;
  /** Exported by a session that holds locks on all tables. */
  readonly snapshot: string;
  /** How long pg_dump waits for a lock on a table, in milliseconds. */
  readonly lockWaitMs: number;
  /** A session with the same server, which says in which language pg_dump is answered. */
  readonly session: Session;
  /** Patterns of tables whose rows are left out; their definitions stay. */
  readonly excludeTableData: readonly string[];
  readonly applicationName: string;
  readonly logger: Logger;
  readonly signal: AbortSignal;
}

/**
 * The table of contents by pg_dump itself, which alone knows what belongs to a database and in which order. It comes before
 * the rows, and pg_dump is ended when it is there; one that fails before has failed. Errors: `TablesChanged` if pg_dump was
 * kept from its locks, `CatalogueChanged` if it missed what it had just seen, `archive-unsupported` for a pg_dump that is
 * too new, `dump-failed`, `postgres-…`.
 */
export async function readDumpToc(request: TocRequest): Promise<CustomToc> {
  const { connection, pgDump, snapshot, lockWaitMs, excludeTableData, applicationName, logger, signal } = request;
  const output = programOutput(
    {
      name: 'pg_dump',
      path: pgDump.path,
      args: [
        '--format=custom',
        '--compress=0',
        '--no-password',
        `--snapshot=${snapshot}`,
        `--lock-wait-timeout=${lockWaitMs}`,
        ...excludeTableData.map((pattern) => `--exclude-table-data=${pattern}`),
      ],
      ...clientProgram(connection, applicationName),
      onStderrLine: passOnMessages(logger, 'dump'),
    },
    signal,
  );
  try {
    const { toc } = await readTocOf(output);
    if (toc.format === 'custom') return await withoutInternals(toc);
    throw new PgarkError('dump-failed', `pg_dump wrote an archive of format ${toc.format}`);
  } catch (error) {
    if (isPgarkError(error, 'archive-unsupported')) {
      throw new PgarkError(
        'archive-unsupported',
        `pg_dump ${pgDump.version} writes archives that this version of pgark cannot take apart: ${error.message}`,
        { cause: error, hint: 'back up with format plain, or use a version of pgark that knows this pg_dump' },
      );
    }
    if (!(error instanceof ProgramFailure)) throw error;
    throw await explainTocFailure(error, connection, async () => {
      // The server may be silent by now.
      const language = await Promise.race([readLanguage(request.session), aborted(signal)]);
      return language ?? { messages: 'C', mayChoose: false };
    });
  }
}
