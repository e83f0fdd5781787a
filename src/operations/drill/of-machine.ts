import type { ErrorCode } from '../../common/error-table.ts';
import { isPgarkError, messageOf, PgarkError } from '../../common/errors.ts';
import { serverErrorOf } from '../../postgres/client/server-error.ts';

/**
 * What the machine of a drill lacks, in the words of its server or its system: a library or a locale that settings name, room,
 * memory, rights in a folder.
 */
const OF_MACHINE = [
  /could not (?:access file|load library) "/,
  /would take about .*, and its disk has .* free|^cannot (?:write .* in|use the directory) /,
  /no space left on device|\b(?:ENOSPC|EDQUOT|EROFS|EACCES|EPERM|EIO|EMFILE|ENFILE)\b/i,
  /could not (?:map anonymous shared memory|(?:resize|create) shared memory segment|create semaphores)|out of memory/,
  /the database cannot be made like the original|locale is incompatible with operating system/,
  /could not create locale "|collation "pg_catalog\.[^"]*" for encoding/,
  /configuration file "[^"]*" contains errors/,
];

const HINT =
  'install what is missing, where that is it; or name a folder with more room, which servers can live in, by --work-dir (drill.work_dir)';

export function isOfMachine(error: PgarkError): boolean {
  return OF_MACHINE.some((words) => words.test(error.message));
}

/** What is used up, what the system refuses, and files that are not there: a dump has none, and so they are libraries. */
const OF_ITS_SYSTEM = /^(?:53|58)/;

/** The same of a server that somebody gave, which speaks any language, and into which a dump was loaded. */
export function isOfGivenServer(error: PgarkError): boolean {
  const { sqlState = '', routine } = serverErrorOf(error) ?? {};
  if (OF_ITS_SYSTEM.test(sqlState) || routine === 'report_newlocale_failure') return true;
  return routine === 'get_collation_oid' && error.message.includes('pg_catalog.');
}

const OF_RIGHTS = /must be (?:member of role|able to SET ROLE|owner of|superuser)|permission denied/;

/** Whether the role of a drill may not do what the backup wants. */
export function isOfRights(error: PgarkError): boolean {
  return OF_RIGHTS.test(error.message) || serverErrorOf(error)?.sqlState === '42501';
}

/** Failures of `pgark wal fetch` that tell of what is archived. All others (the storage, its keys, the program) do not. */
const OF_ARCHIVE: ReadonlySet<unknown> = new Set<ErrorCode>([
  'corrupt',
  'object-not-found',
  'repository-damaged',
  'tablespace-path',
  'wal-gap',
]);

/** Whether a restored server ended because its WAL could not be had, although it may well be there. */
export function isForWalNotFetched({ details: { fetchError } }: PgarkError): boolean {
  return fetchError !== undefined && !OF_ARCHIVE.has(fetchError);
}

/** What the account of the server may not read, which fetches the WAL itself: the storage, the configuration, a key. */
const FORBIDDEN = /\b(?:EACCES|EPERM)\b/;

const ACCOUNT_HINT =
  'pgark is root here, and the server of the drill runs as postgres (or nobody), which fetches the WAL itself: run the drill as a user who may read the storage, the configuration and the keys, or let that account read them; a backup that is named is tried without the archive';

/** Undefined where something else kept the WAL from the server, or it was not for WAL that it ended. */
export function forbiddenWalHint(error: PgarkError, ownUid = process.getuid?.()): string | undefined {
  if (!isForWalNotFetched(error) || !FORBIDDEN.test(error.message)) return undefined;
  return ownUid === 0 ? ACCOUNT_HINT : error.hint;
}

/** The backup could not be tried for it. */
export function impossible(id: string, error: PgarkError, hint = HINT): PgarkError {
  return new PgarkError('drill-impossible', `${id} cannot be tried here: ${error.message}`, {
    cause: error,
    hint,
  });
}

/**
 * For what is made before anything of a backup is loaded, and so says nothing of the backup if it fails: folders, servers, roles.
 * Error: `drill-impossible` in place of those that tell of no other reason.
 */
export async function settingUp<T>(id: string, make: () => Promise<T>): Promise<T> {
  try {
    return await make();
  } catch (error) {
    throw ofSettingUp(id, error);
  }
}

/** See `settingUp`. */
export function ofSettingUp(id: string, error: unknown): unknown {
  if (isPgarkError(error)) {
    if (error.code !== 'postgres-failed') return error;
    return impossible(id, error, error.hint);
  }
  return new PgarkError('drill-impossible', `${id} cannot be tried here: ${messageOf(error)}`, {
    cause: error,
    hint: HINT,
  });
}
