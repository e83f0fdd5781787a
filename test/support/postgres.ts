import { randomBytes } from 'node:crypto';
import { Client, escapeIdentifier, type QueryResultRow } from 'pg';
import { postgresFacts } from './facts.ts';

export interface TestDatabaseOptions {
  /** What the name holds besides a random part. The default has everything that names get wrong. */
  readonly name?: string;
  /** Statements to run in the new database. */
  readonly sql?: string;
  /** Role to connect as and to own the database; the server's superuser by default. */
  readonly owner?: { readonly user: string; readonly password: string };
  /** What follows CREATE DATABASE name, such as `TEMPLATE template0 ENCODING 'LATIN1'`. */
  readonly createOptions?: string;
}

/** A database of the test's own; `await using` drops it, whoever is still connected. */
export interface TestDatabase extends AsyncDisposable {
  readonly name: string;
  /** `postgresql://…` with the password. */
  readonly url: string;
  /** PGHOST, PGPORT, PGUSER, PGPASSWORD, PGDATABASE: for stock tools such as psql. */
  readonly env: Readonly<Record<string, string>>;
  query<Row extends QueryResultRow = QueryResultRow>(sql: string, values?: readonly unknown[]): Promise<Row[]>;
  /** A connection for tests that need one to last; the test ends it. */
  connect(): Promise<Client>;
  drop(): Promise<void>;
}

export interface Login {
  readonly user: string;
  readonly password: string;
}

/** Upper case, blank, quotes of both kinds, slash, backslash, percent, letters beyond ASCII. */
const AWKWARD_NAME = `we"ird/na me-Ü'\\%`;

function randomSuffix(): string {
  return randomBytes(5).toString('hex');
}

/** Creates a database with a name that no other test uses. */
export async function createDatabase(options: TestDatabaseOptions = {}): Promise<TestDatabase> {
  const name = `${options.name ?? AWKWARD_NAME} ${randomSuffix()}`;
  const owner = options.owner === undefined ? '' : ` OWNER ${escapeIdentifier(options.owner.user)}`;
  await runAsSuperuser(`CREATE DATABASE ${escapeIdentifier(name)}${owner} ${options.createOptions ?? ''}`);
  const database = openDatabase(name, options.owner);
  try {
    if (options.sql !== undefined) await database.query(options.sql);
  } catch (error) {
    await database.drop();
    throw error;
  }
  return database;
}

/** Gives a database that something else creates, or has created, the same treatment. */
export function openDatabase(name: string, login?: Login): TestDatabase {
  const { host, port, ...superuser } = postgresFacts();
  const { user, password } = login ?? superuser;
  const connect = async () => {
    const client = new Client({ host, port, user, password, database: name });
    // Dropping the database ends connections that tests forgot.
    client.on('error', () => {});
    await client.connect();
    return client;
  };
  const drop = async () => {
    await runAsSuperuser(`DROP DATABASE IF EXISTS ${escapeIdentifier(name)} WITH (FORCE)`);
  };
  return {
    name,
    url: `postgresql://${encodeURIComponent(user)}:${encodeURIComponent(password)}@${host}:${port}/${encodeURIComponent(name)}`,
    env: { PGHOST: host, PGPORT: String(port), PGUSER: user, PGPASSWORD: password, PGDATABASE: name },
    connect,
    query: (sql, values) => runOnce(connect, sql, values),
    drop,
    [Symbol.asyncDispose]: drop,
  };
}

/** One statement, or several without values, in the server's own database `postgres`. */
export async function runAsSuperuser<Row extends QueryResultRow>(
  sql: string,
  values?: readonly unknown[],
): Promise<Row[]> {
  const client = new Client({ ...postgresFacts(), database: 'postgres' });
  const connect = async () => {
    await client.connect();
    return client;
  };
  return runOnce(connect, sql, values);
}

/** A role that may log in, with a name that no other test uses. Drop its databases before it. */
export async function createRole(attributes = ''): Promise<Login & AsyncDisposable & { drop(): Promise<void> }> {
  const user = `role "Ü" ${randomSuffix()}`;
  const password = randomBytes(12).toString('hex');
  const name = escapeIdentifier(user);
  await runAsSuperuser(`CREATE ROLE ${name} LOGIN PASSWORD '${password}' ${attributes}`);
  const drop = async () => {
    await runAsSuperuser(`DROP ROLE IF EXISTS ${name}`);
  };
  return { user, password, drop, [Symbol.asyncDispose]: drop };
}

async function runOnce<Row extends QueryResultRow>(
  connect: () => Promise<Client>,
  sql: string,
  values: readonly unknown[] = [],
): Promise<Row[]> {
  const client = await connect();
  try {
    // Without values pg uses the simple protocol, which takes several statements.
    const result = values.length === 0 ? await client.query<Row>(sql) : await client.query<Row>(sql, [...values]);
    return result.rows;
  } finally {
    await client.end();
  }
}
