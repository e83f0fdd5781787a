import { PgarkError } from '../common/errors.ts';
import type { Config, SourceConfig } from '../config/model.ts';
import type { RestoreRequest } from '../operations/restore.ts';
import type { RestoreTarget } from '../operations/restore-into.ts';
import { selectNames } from '../service/database-patterns.ts';
import type { CliWorld } from './command.ts';
import { connectionFromUrl } from './connection-url.ts';
import { text } from './option-text.ts';

type Options = Readonly<Record<string, unknown>>;

/**
 * The database that the command line names to restore into. Errors: `usage`, and `confirmation-needed` where something would be
 * replaced that has to be named once more.
 */
export function restoreTarget(
  source: SourceConfig | undefined,
  config: Config,
  options: Options,
  environment: CliWorld['environment'],
): RestoreTarget {
  const target = actingAs(text(options.role), targetOf(source, config, options, environment));
  if (target.clean && options.inPlace !== true) confirmProduction(target.connection, config, options.yes);
  return target;
}

function targetOf(
  source: SourceConfig | undefined,
  config: Config,
  options: Options,
  environment: CliWorld['environment'],
): RestoreTarget {
  const clean = options.clean === true;
  const url = text(options.toUrl);
  if (url !== undefined) {
    const connection = connectionFromUrl(url, '--to-url', environment);
    checkDatabaseName('--to-url', connection.database);
    return { kind: 'database', connection, clean };
  }
  if (source === undefined) {
    throw new PgarkError('usage', `the configuration has ${config.databases.size} databases`, {
      hint: 'say which one: pgark restore DATABASE BACKUP …',
    });
  }
  const connection = source.connection;
  const name = text(options.toDb);
  if (name !== undefined) return { kind: 'database', connection: { ...connection, database: name }, clean };
  if (options.yes !== connection.database) {
    throw new PgarkError(
      'confirmation-needed',
      options.yes === undefined
        ? `--in-place replaces database "${connection.database}" on ${connection.host}`
        : `--yes ${text(options.yes) ?? ''} is not the database that would be replaced: "${connection.database}"`,
      { hint: `repeat it with --in-place --yes ${quoteForShell(connection.database)}` },
    );
  }
  return {
    kind: 'in-place',
    connection,
    clean,
    dropOld: options.dropOld === true,
    fromOtherServer: options.fromOtherServer === true,
  };
}

/** What is not taken over from the old server. */
export function leftOutOf({ owner, privileges, tablespaces }: Options): NonNullable<RestoreRequest['leaveOut']> {
  return { owners: owner === false, privileges: privileges === false, tablespaces: tablespaces === false };
}

function actingAs(role: string | undefined, target: RestoreTarget): RestoreTarget {
  if (role === '') {
    throw new PgarkError('usage', '--role needs the name of a role, and was given an empty one', {
      hint: 'if the name comes from a variable of your shell, see whether it is set',
    });
  }
  return role === undefined ? target : { ...target, connection: { ...target.connection, role } };
}

function quoteForShell(name: string): string {
  return /^[\w.-]+$/.test(name) ? name : `'${name.replaceAll("'", `'\\''`)}'`;
}

type Place = Pick<RestoreTarget['connection'], 'host' | 'port' | 'database'>;

/** Whatever empties a protected database needs its name once more, however it is reached. */
function confirmProduction(target: Place, config: Config, confirmed: unknown): void {
  const isProtected = [...config.databases.values()].some(
    (source) => source.protection === 'production' && holds(source, target),
  );
  if (!isProtected || confirmed === target.database) return;
  throw new PgarkError(
    'confirmation-needed',
    confirmed === undefined
      ? `--clean empties database "${target.database}" on ${target.host}, which has protection: production`
      : `--yes ${text(confirmed) ?? ''} is not the database that would be emptied: "${target.database}"`,
    { hint: `repeat it with --clean --yes ${quoteForShell(target.database)}` },
  );
}

/** Whether the source is that database, or its patterns choose it. */
function holds({ connection, databases }: SourceConfig, { host, port, database }: Place): boolean {
  const isSameServer = connection.host.toLowerCase() === host.toLowerCase() && connection.port === port;
  if (!isSameServer) return false;
  return databases === undefined
    ? connection.database === database
    : selectNames(databases, [database]).includes(database);
}

/** PostgreSQL's NAMEDATALEN, less the zero at the end; it cuts longer names without a word. */
const DATABASE_NAME_BYTES_MAX = 63;

/** Error: `usage` if PostgreSQL would not take the name as it is. */
export function checkDatabaseName(option: string, name: string): void {
  if (name === '') {
    throw new PgarkError('usage', `${option} needs the name of a database, and was given an empty one`, {
      hint: 'if the name comes from a variable of your shell, see whether it is set',
    });
  }
  const bytes = Buffer.byteLength(name);
  if (bytes > DATABASE_NAME_BYTES_MAX) {
    throw new PgarkError(
      'usage',
      `${option} names a database by ${bytes} bytes; PostgreSQL takes ${DATABASE_NAME_BYTES_MAX} at most`,
      { hint: 'choose a shorter name; letters beyond ASCII take two to four bytes each' },
    );
  }
}
