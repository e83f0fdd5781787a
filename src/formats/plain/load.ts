import { randomBytes } from 'node:crypto';
import { createReadStream } from 'node:fs';
import type { ByteStream } from '../../common/bytes.ts';
import { PgarkError } from '../../common/errors.ts';
import type { Logger } from '../../common/log.ts';
import { clientProgram } from '../../postgres/client/client-program.ts';
import { type ConnectionParameters, describeConnection } from '../../postgres/client/connection-parameters.ts';
import { peek } from '../../pipeline/peek.ts';
import { pipe } from '../../pipeline/transform.ts';
import { feedProgram, ProgramFailure, type ProgramSpec, throughProgram } from '../../common/child-process.ts';
import { quoteIdentifier, setRoleSql } from '../../postgres/client/connect.ts';
import { type InstalledProgram, requireRestrict } from '../../postgres/client/programs.ts';
import { detailsOf, isOfMissingRole } from '../../postgres/client/server-error.ts';
import { TIMEOUTS_OFF_SQL } from '../../postgres/client/timeouts.ts';
import { LastServerError, type ServerError } from '../../postgres/client/without-data.ts';
import { withoutNewerSettings } from './newer-settings.ts';
import { editsLeavingOut, type LeftOut, optionsLeavingOut } from './left-out.ts';
import { DUMP_HEAD_BYTES, readDumpHead } from './dump-head.ts';
import { editsAtLoad, preambleFor } from './server-fit.ts';
import { withStatementsEdited } from './sql-script.ts';
import { passOnMessages } from './program-messages.ts';
import { guardPrefix, guardPsqlScript } from './psql-guard.ts';

export interface LoadRequest {
  readonly connection: ConnectionParameters;
  /** psql for SQL text, pg_restore for a custom-format archive. */
  readonly program: InstalledProgram;
  /** For an archive: a pg_restore that makes SQL text of it; `program` is psql then. */
  readonly unpacker?: InstalledProgram | undefined;
  /** Major version of the server that was dumped, if it is known. */
  readonly dumpMajor?: number | undefined;
  /** Major version of the target server: the text of a newer pg_dump is made fit for it. */
  readonly serverMajor: number;
  readonly leaveOut?: LeftOut | undefined;
  /** All or nothing, for a database that was there before. One that is thrown away on failure does not need it. */
  readonly singleTransaction: boolean;
  /** Our own SQL, run first, in the same transaction. */
  readonly preamble?: string | undefined;
  /** Of an archive, these entries alone, as a list that pg_restore reads from a file. Default: all. */
  readonly useList?: string | undefined;
  readonly applicationName: string;
  readonly logger: Logger;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Runs a dump's SQL text with psql: stops at the first error, reads no psqlrc, asks for no password, and obeys none of
 * the dump's backslash commands. If `body` throws, psql is killed before it sees an end, and nothing is committed where
 * `singleTransaction` holds. Errors: `restore-failed` with psql's own words; those of `body` as they are.
 */
export async function loadScript(body: ByteStream, request: LoadRequest): Promise<void> {
  requireRestrict(request.program);
  const key = randomBytes(24).toString('hex');
  const { singleTransaction, serverMajor } = request;
  const { first, stream } = await peek(body, DUMP_HEAD_BYTES);
  const fitted = preambleFor(readDumpHead(first) ?? { kind: 'sql' }, serverMajor);
  // psql is idle while it waits for the storage, outside of any transaction.
  const setRole = setRoleSql(request.connection);
  const preamble = `${TIMEOUTS_OFF_SQL};\n${setRole === undefined ? '' : `${setRole};\n`}${request.preamble ?? ''}${fitted}`;
  const guard = { preamble, singleTransaction };
  const linesBefore = guardPrefix(key, guard).split('\n').length - 1;
  const edits = [...editsAtLoad(serverMajor), ...editsLeavingOut(request.leaveOut)];
  const fit = pipe(stream, withoutNewerSettings(serverMajor), withStatementsEdited(edits));
  await load(guardPsqlScript(key, guard)(fit), request, linesBefore, {
    name: 'psql',
    // The server may say it in any language: with VERBOSITY verbose psql tells the SQLSTATE of each message, and who said it.
    args: ['--no-psqlrc', '--no-password', '--quiet', '--set=ON_ERROR_STOP=1', '--set=VERBOSITY=verbose', '--file=-'],
  });
}

/**
 * Loads a custom-format archive from its stream, on one connection: with pg_restore, or as SQL text with psql where the
 * request has an unpacker. Errors as `loadScript`.
 */
export async function loadArchive(body: ByteStream, request: LoadRequest): Promise<void> {
  if (request.unpacker !== undefined) {
    const unpacking: ProgramSpec = {
      name: 'pg_restore',
      path: request.unpacker.path,
      args: ['--file=-', ...optionsOf(request)],
      ...clientProgram(request.connection, request.applicationName),
      onStderrLine: passOnMessages(request.logger, 'load'),
    };
    return loadScript(throughProgram(unpacking, body, request.signal), request);
  }
  await load(body, request, 0, {
    name: 'pg_restore',
    args: [
      '--no-password',
      '--exit-on-error',
      ...optionsOf(request),
      ...(request.singleTransaction ? ['--single-transaction'] : []),
      CONNECT,
    ],
  });
}

/**
 * Loads a custom-format archive from a file, with several connections at once where pg_restore talks to the server; as
 * SQL text on one. Not in one transaction. Errors as `loadScript`.
 */
export async function loadArchiveFile(
  path: string,
  request: Omit<LoadRequest, 'singleTransaction' | 'preamble'> & { readonly jobs: number },
): Promise<void> {
  const { jobs, ...rest } = request;
  const serial = { ...rest, singleTransaction: false };
  if (request.unpacker !== undefined || jobs === 1) return loadArchive(createReadStream(path), serial);
  await load(nothing(), serial, 0, {
    name: 'pg_restore',
    args: ['--no-password', '--exit-on-error', ...optionsOf(serial), `--jobs=${jobs}`, CONNECT, path],
  });
}

/** The name stands in PGDATABASE; an empty connection string says no more than "connect". */
const CONNECT = '--dbname=';

function optionsOf({ leaveOut, useList, connection: { role } }: LoadRequest): readonly string[] {
  return [
    ...optionsLeavingOut(leaveOut),
    ...(useList === undefined ? [] : [`--use-list=${useList}`]),
    ...(role === undefined ? [] : [`--role=${role}`]),
  ];
}

async function* nothing(): ByteStream {}

async function load(
  body: ByteStream,
  request: LoadRequest,
  linesBefore: number,
  program: Pick<ProgramSpec, 'name' | 'args'>,
): Promise<void> {
  const { connection } = request;
  const error = new LastServerError();
  try {
    await feedProgram(
      {
        ...program,
        path: request.program.path,
        ...clientProgram(connection, request.applicationName, error),
        onStderrLine: passOnMessages(request.logger, 'load'),
      },
      body,
      request.signal,
    );
  } catch (failure) {
    if (!(failure instanceof ProgramFailure)) throw failure;
    // What the server said last is not why a program was killed.
    const said = failure.exitCode === undefined ? undefined : error.last;
    throw explainLoadFailure(failure, request, linesBefore, said);
  }
}

interface LoadHint {
  /** In English, as pg_restore passes it on; its first group is what it is about. */
  readonly pattern: RegExp;
  /** The same in any language, where psql tells it. */
  readonly isSaid?: (error: ServerError) => boolean;
  readonly hint: (name: string) => string;
}

const HINTS: readonly LoadHint[] = [
  {
    pattern: /role "(.+?)" does not exist/,
    isSaid: isOfMissingRole,
    hint: (name) =>
      `the dump names role ${name}: create it on the target first (CREATE ROLE ${quoteIdentifier(name)}), or leave such things out with --no-owner and --no-privileges`,
  },
  {
    pattern: /must be (?:member of role|able to SET ROLE) "(.+?)"/,
    isSaid: ({ sqlState, routine }) =>
      sqlState === '42501' && (routine === 'check_is_member_of_role' || routine === 'check_can_set_role'),
    hint: (name) =>
      `the dump gives things to role ${name}: GRANT ${quoteIdentifier(name)} TO the role that restores, or leave owners out with --no-owner and --no-privileges`,
  },
  {
    pattern: /extension "([^"]+)" is not available/,
    isSaid: ({ sqlState, routine }) => sqlState === '0A000' && routine === 'parse_extension_control_file',
    hint: (name) => `install the package that brings the extension ${name} on the target server`,
  },
  {
    pattern: /unrecognized configuration parameter "([^"]+)"/,
    isSaid: ({ sqlState, routine }) => sqlState === '42704' && SETTING_ROUTINES.has(routine ?? ''),
    hint: () =>
      'the dump was made for a newer PostgreSQL than the target: restore into a server of the same or a newer version',
  },
  {
    pattern: /backslash commands are restricted|unrestrict/,
    hint: () => 'the dump holds psql commands, which pgark never runs: look at it before you trust it',
  },
  {
    pattern: /permission denied|must be owner|must be superuser/,
    isSaid: ({ sqlState }) => sqlState === '42501',
    hint: () => 'restore with a role that owns the target database, or a superuser',
  },
  {
    pattern: /No space left on device/,
    isSaid: ({ sqlState }) => sqlState === '53100',
    hint: () => 'the target server’s disk is full',
  },
];

/** Of guc.c, where it looks for a setting; the names of PostgreSQL 15 and older, and of newer ones. */
const SETTING_ROUTINES: ReadonlySet<string> = new Set(['find_option', 'set_config_option', 'set_config_with_handle']);
/** In the quotes of any language; `>>` is what becomes of « where the encoding has none. */
const NAME = /(?:["«»„“”「『]|>>) ?(.+) ?(?:["«»“”」』]|<<)/;

/** What the failure is about, by its words or by what psql tells besides. */
function hintFor(lines: readonly string[], error: ServerError | undefined): string | undefined {
  const text = lines.join('\n');
  for (const { pattern, isSaid, hint } of HINTS) {
    const match = pattern.exec(text);
    if (match !== null) return hint(match[1] ?? '');
    if (error === undefined || isSaid?.(error) !== true) continue;
    // With ON_ERROR_STOP nothing follows it.
    const sentence = lines.findLast((line) => line.startsWith('psql:')) ?? '';
    return hint(NAME.exec(sentence)?.[1]?.trim() ?? '');
  }
  return undefined;
}

/** psql counts the lines of what it reads; people count those of the dump. */
function inLinesOfTheDump(text: string, linesBefore: number): string {
  return text.replace(/psql:<stdin>:(\d+):/g, (_, line: string) => {
    const number = Number(line) - linesBefore;
    return number > 0 ? `line ${number}:` : 'before the first line:';
  });
}

function explainLoadFailure(
  failure: ProgramFailure,
  request: LoadRequest,
  linesBefore: number,
  error: ServerError | undefined,
): PgarkError {
  const { connection, dumpMajor, serverMajor } = request;
  return new PgarkError(
    'restore-failed',
    `loading into ${describeConnection(connection)} failed: ${inLinesOfTheDump(failure.message, linesBefore)}`,
    {
      cause: failure,
      ...(error === undefined ? {} : { details: detailsOf(error) }),
      hint:
        hintFor(failure.stderrLines, error) ??
        (dumpMajor !== undefined && dumpMajor > serverMajor
          ? `nothing was kept; the dump is of PostgreSQL ${dumpMajor}, and the target, of ${serverMajor}, may not know all that it holds: restore into ${dumpMajor} or newer`
          : 'nothing was kept; correct the cause and restore again'),
    },
  );
}
