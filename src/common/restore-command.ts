/**
 * What a restore_command ends with when it fails. PostgreSQL takes every status up to 125 for the end of what is archived, and
 * ends the recovery there as if it were complete; with a higher one it stops.
 */
export const RESTORE_COMMAND_FAILED = 126;

/** By it the restore_command that pgark writes says in the server's log what it failed with: the code of the error follows. */
export const FETCH_FAILED = 'wal fetch failed: ';

/** Whether a command line is `pgark wal fetch`, which PostgreSQL runs as restore_command. */
export function isRestoreCommand(argv: readonly string[]): boolean {
  const at = argv.indexOf('wal');
  return at >= 0 && argv[at + 1] === 'fetch';
}
