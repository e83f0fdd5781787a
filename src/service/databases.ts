import { PgarkError } from '../common/errors.ts';
import type { ConnectionConfig } from '../config/connection.ts';
import type { SourceConfig } from '../config/model.ts';
import type { OperationContext } from '../operations/context.ts';
import { withinStall } from '../operations/within-stall.ts';
import { listDatabases } from '../postgres/client/list-databases.ts';
import { checkPlainNameTemplate } from '../repository/plain-name.ts';
import { type CandidateDatabase, type DatabaseChoice, mayChooseSeveral, selectDatabases } from './database-patterns.ts';

/** One database of a source, and how to reach it. */
export interface ResolvedDatabase {
  readonly name: string;
  readonly connection: ConnectionConfig;
}

const NAMES_SHOWN_MAX = 5;

/**
 * The databases of a source as the server has them now: to be asked at each run, so that new ones are found. A source
 * without patterns is its connection's own database, and the server is not asked. What the role may not connect to is
 * named in a warning. Errors: `config-invalid` for a name template that cannot tell them apart, `postgres-database-missing`
 * where no database matches, `postgres-privileges` where the role may connect to none of those that do, `stalled`, `postgres-…`.
 */
export async function resolveDatabases(
  source: SourceConfig,
  context: Pick<OperationContext, 'clock' | 'logger' | 'signal'>,
): Promise<readonly ResolvedDatabase[]> {
  const { connection, databases: patterns } = source;
  if (patterns === undefined) return [{ name: connection.database, connection }];
  checkNamesOfSource(source);
  const { names, notPermitted, unmatched } = await withinStall({ ...context, connection }, (signal) =>
    chooseDatabases(source, patterns, { applicationName: 'pgark databases', signal }),
  );
  if (notPermitted.length > 0) {
    context.logger.warning(
      'databases.not_permitted',
      `source ${source.name}: role ${connection.user} may not connect to ${quoteAll(notPermitted)}, so that no backup is made of ${notPermitted.length === 1 ? 'it' : 'them'}; grant CONNECT, or exclude with "!"`,
      { source: source.name, databases: notPermitted },
    );
  }
  for (const pattern of unmatched) {
    context.logger.warning('databases.unmatched', `source ${source.name}: no database matches "${pattern}"`, {
      source: source.name,
      pattern,
    });
  }
  return names.map((name) => ({ name, connection: { ...connection, database: name } }));
}

/**
 * What a source's patterns choose on its server now: at least one database that the role may connect to. Errors:
 * `postgres-database-missing`, `postgres-privileges`, `postgres-…`, as above.
 */
export async function chooseDatabases(
  source: SourceConfig,
  patterns: readonly string[],
  options: { readonly applicationName: string; readonly signal: AbortSignal },
): Promise<DatabaseChoice> {
  const found = await listDatabases(source.connection, options);
  const choice = selectDatabases(patterns, found);
  if (choice.names.length === 0) throw nothingChosen(source, patterns, found, choice.notPermitted);
  return choice;
}

/**
 * Several databases of one source need `{database}` in the names of their plain backups, or they would be told apart by
 * chance. Looks at the settings alone, also where there is only one database yet. Error: `config-invalid`.
 */
function checkNamesOfSource({ databases, jobs }: SourceConfig): void {
  const severalOfOneSource = databases !== undefined && mayChooseSeveral(databases);
  for (const { filename } of jobs.values()) {
    if (filename === undefined) continue;
    checkPlainNameTemplate(filename, { severalDatabases: severalOfOneSource, severalOfOneSource });
  }
}

function nothingChosen(
  { name, connection }: SourceConfig,
  patterns: readonly string[],
  found: readonly CandidateDatabase[],
  notPermitted: readonly string[],
): PgarkError {
  const server = `${connection.host}:${connection.port}`;
  if (notPermitted.length > 0) {
    return new PgarkError(
      'postgres-privileges',
      `source ${name}: role ${connection.user} may connect to none of the databases of ${server} that are chosen: ${shorten(notPermitted)}`,
      { hint: `GRANT CONNECT ON DATABASE … TO the role, for each of them` },
    );
  }
  const ordinary = found.filter(({ isTemplate, allowsConnections }) => !isTemplate && allowsConnections);
  return new PgarkError(
    'postgres-database-missing',
    `source ${name}: no database of ${server} matches ${quoteAll(patterns)}`,
    {
      hint: `the server has ${shorten(ordinary.map((each) => each.name))}; upper and lower case differ, and a later "!" wins`,
    },
  );
}

function quoteAll(names: readonly string[]): string {
  return names.map((name) => `"${name}"`).join(', ');
}

function shorten(names: readonly string[]): string {
  if (names.length === 0) return 'no database of users';
  const more = names.length > NAMES_SHOWN_MAX ? ` and ${names.length - NAMES_SHOWN_MAX} more` : '';
  return `${quoteAll(names.slice(0, NAMES_SHOWN_MAX))}${more}`;
}
