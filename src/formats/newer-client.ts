import type { Logger } from '../common/log.ts';
import type { InstalledProgram } from '../postgres/client/programs.ts';

/** Says so if pg_dump is of a newer major version than the server. */
export function warnOfNewerClient(logger: Logger, pgDump: InstalledProgram, serverMajor: number): void {
  if (pgDump.major <= serverMajor) return;
  logger.warning(
    'dump.newer_client',
    `pg_dump ${pgDump.major} is newer than the server (PostgreSQL ${serverMajor}): what it writes may hold what that server does not know; postgresql-client-${serverMajor} fits it best`,
    { pgDump: pgDump.version, serverMajor },
  );
}
