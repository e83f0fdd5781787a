import {
  type ConnectionParts,
  ConnectionStringError,
  DEFAULT_PORT,
  parseConnectionString,
  requiredParts,
} from './connection.ts';
import type { Said, SetVariables } from './environment-reader.ts';
import type { Problems } from './problems.ts';

type Field = 'host' | 'port' | 'user' | 'password' | 'database';
const fields: readonly Field[] = ['host', 'port', 'user', 'password', 'database'];

/** One way of naming a database. `said` holds text; a port that an URL leaves out is not said. */
interface Group {
  readonly said: ReadonlyMap<Field, Said>;
  /** The variable of a whole URL. */
  readonly url?: Said;
  /** The variable that would say a field in this group. */
  readonly variableOf: (field: Field) => string;
}

interface EnvironmentDatabase {
  /** Name of the source if no other is given: the database's. */
  readonly name: string;
  /** Keys of the file's `databases.NAME`. */
  readonly section: Readonly<Record<string, string>>;
  readonly variables: Readonly<Record<string, string>>;
}

const POSTGRES_NAMES: Readonly<Record<Field, string>> = {
  host: 'POSTGRES_HOST',
  port: 'POSTGRES_PORT',
  user: 'POSTGRES_USER',
  password: 'POSTGRES_PASSWORD',
  database: 'POSTGRES_DB',
};
const LIBPQ_NAMES: Readonly<Record<Field, string>> = {
  host: 'PGHOST',
  port: 'PGPORT',
  user: 'PGUSER',
  password: 'PGPASSWORD',
  database: 'PGDATABASE',
};
/** What libpq's variables add to whichever group names the database. */
const FILLERS = {
  sslMode: 'PGSSLMODE',
  sslRootCert: 'PGSSLROOTCERT',
  sslCert: 'PGSSLCERT',
  sslKey: 'PGSSLKEY',
  passFile: 'PGPASSFILE',
} as const;

const ALTERNATIVES =
  'set DATABASE_URL; or POSTGRES_HOST, POSTGRES_USER, POSTGRES_PASSWORD and POSTGRES_DB; or PGHOST, PGUSER, PGPASSWORD and PGDATABASE';

/**
 * The database that the environment names: by the first group that is complete, of DATABASE_URL,
 * POSTGRES_CONNECTION_STRING, POSTGRES_* and PG*. The others may repeat it, never contradict or complete it; only PG*
 * fills what an URL leaves unsaid, as libpq does.
 */
export function readDatabase(variables: SetVariables, problems: Problems): EnvironmentDatabase | undefined {
  const libpq = namedGroup(variables, LIBPQ_NAMES, readLibpqPassword(variables, problems));
  const urls = ['DATABASE_URL', 'POSTGRES_CONNECTION_STRING'].map((name) => urlGroup(variables, name, libpq, problems));
  if (urls.includes('broken')) return undefined;
  const groups = [...urls, namedGroup(variables, POSTGRES_NAMES), libpq].filter(
    (group) => group !== undefined && group !== 'broken',
  );
  const speaking = groups.filter((group) => (group === libpq ? identifies(group) : group.said.size > 0));
  const chosen = speaking.find((group) => requiredParts.every((field) => group.said.has(field))) ?? speaking[0];
  if (chosen === undefined) {
    problems.add({
      code: 'config-missing',
      where: 'DATABASE_URL',
      message: `no database is named (or POSTGRES_HOST, POSTGRES_USER, POSTGRES_PASSWORD, POSTGRES_DB; or PGHOST, PGUSER, PGPASSWORD, PGDATABASE)`,
      hint: ALTERNATIVES,
      need: 'database',
    });
    return undefined;
  }
  for (const group of groups) {
    if (group !== chosen) reportContradictions(chosen, group, group === libpq, problems);
  }
  const missing = requiredParts.filter((field) => !chosen.said.has(field));
  for (const field of missing) {
    const where = chosen.variableOf(field);
    const message = where === chosen.url?.variable ? `names no ${field}` : `is required for the ${field}`;
    problems.add({ code: 'config-missing', where, message, hint: ALTERNATIVES, need: 'database' });
  }
  return problems.has('database') ? undefined : toSection(chosen, libpq, variables);
}

/** Whether PG* names a database by itself; a lone PGPASSWORD or PGPORT only fills. */
function identifies(group: Group): boolean {
  return group.said.has('host') || group.said.has('database') || group.said.has('user');
}

function readLibpqPassword(variables: SetVariables, problems: Problems): Said | undefined {
  const password = variables.get('PGPASSWORD');
  const alias = variables.get('PG_PASSWORD');
  if (password !== undefined && alias !== undefined && password.value !== alias.value) {
    contradiction(problems, alias.variable, `contradicts ${password.variable}`);
  }
  return password ?? alias;
}

function namedGroup(variables: SetVariables, names: Readonly<Record<Field, string>>, password?: Said): Group {
  const said = new Map<Field, Said>();
  for (const field of fields) {
    const value = field === 'password' && password !== undefined ? password : variables.get(names[field]);
    if (value !== undefined) said.set(field, value);
  }
  return { said, variableOf: (field) => names[field] };
}

function urlGroup(
  variables: SetVariables,
  name: string,
  libpq: Group,
  problems: Problems,
): Group | 'broken' | undefined {
  const url = variables.get(name);
  if (url === undefined) return undefined;
  let parts: ConnectionParts;
  try {
    parts = parseConnectionString(url.value);
  } catch (error) {
    if (!(error instanceof ConnectionStringError)) throw error;
    const message = `is no connection URL: ${error.message}`;
    problems.add({ code: 'config-invalid', where: url.variable, message, need: 'database' });
    return 'broken';
  }
  const said = new Map<Field, Said>();
  for (const field of fields) {
    const value = parts[field];
    const text = value === undefined || typeof value === 'string' ? value : fieldText(value);
    if (text !== undefined) said.set(field, { value: text, variable: url.variable });
  }
  for (const field of fields) {
    const fill = libpq.said.get(field);
    // A host without a port means the usual port; another one from elsewhere is a contradiction, not a completion.
    if (said.has(field) || fill === undefined || (field === 'port' && parts.host !== undefined)) continue;
    said.set(field, fill);
  }
  return { said, url, variableOf: () => url.variable };
}

function fieldText(value: number | { reveal(): string }): string {
  return typeof value === 'number' ? String(value) : value.reveal();
}

function reportContradictions(chosen: Group, other: Group, isFiller: boolean, problems: Problems): void {
  for (const field of fields) {
    const theirs = other.said.get(field);
    const ours = chosen.said.get(field) ?? impliedPort(chosen, field);
    if (theirs === undefined) continue;
    if (ours === undefined) {
      // A password from elsewhere would be a half of another group, unless it is libpq's.
      if (field !== 'password' || isFiller) continue;
      const variable = chosen.variableOf(field);
      contradiction(problems, theirs.variable, `would complete ${variable}, which belongs to another group of names`);
    } else if (normal(field, ours.value) !== normal(field, theirs.value)) {
      const values = field === 'password' ? '' : ` ("${theirs.value}" against "${ours.value}")`;
      contradiction(problems, theirs.variable, `names another ${field} than ${ours.variable}${values}`);
    }
  }
}

function contradiction(problems: Problems, where: string, message: string): void {
  const hint = 'keep one of the two groups of names';
  problems.add({ code: 'config-conflict', where, message, hint, need: 'database' });
}

function impliedPort(group: Group, field: Field): Said | undefined {
  const host = group.said.get('host');
  return field === 'port' && host !== undefined ? { value: String(DEFAULT_PORT), variable: host.variable } : undefined;
}

function normal(field: Field, value: string): string {
  if (field === 'host') return value.toLowerCase();
  return field === 'port' ? value.replace(/^0+(?=\d)/, '') : value;
}

function toSection(chosen: Group, libpq: Group, variables: SetVariables): EnvironmentDatabase {
  const section: Record<string, string> = {};
  const sources: Record<string, string> = {};
  const put = (key: string, said: Said | undefined): void => {
    if (said === undefined) return;
    section[key] = said.value;
    sources[key] = said.variable;
  };
  put('url', chosen.url);
  for (const field of fields) {
    const said = chosen.said.get(field) ?? (field === 'password' ? libpq.said.get(field) : undefined);
    if (said !== undefined && said.variable !== chosen.url?.variable) put(field, said);
  }
  const inUrl: ConnectionParts = chosen.url === undefined ? {} : parseConnectionString(chosen.url.value);
  for (const [key, name] of Object.entries(FILLERS)) {
    if (inUrl[key as keyof typeof FILLERS] === undefined) put(key.toLowerCase(), variables.get(name));
  }
  return { name: chosen.said.get('database')?.value ?? '', section, variables: sources };
}
