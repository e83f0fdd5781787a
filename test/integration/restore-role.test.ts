import { escapeIdentifier } from 'pg';
import { describe, expect, test } from 'vitest';
import { type Logger, silentLogger } from '../../src/common/log.ts';
import { Secret } from '../../src/common/secret.ts';
import type { RestoreTarget } from '../../src/operations/restore-into.ts';
import { filePlace, linesOf, restoreInto } from '../support/archive-restoring.ts';
import { backUp, fileDestination } from '../support/destinations.ts';
import { postgresFacts } from '../support/facts.ts';
import {
  createDatabase,
  createRole,
  type Login,
  openDatabase,
  runAsSuperuser,
  type TestDatabase,
} from '../support/postgres.ts';
import { databaseNames, futureDatabase } from '../support/restoring.ts';
import { makeStockArchive } from '../support/stock-archive.ts';
import { startTcpProxy } from '../support/tcp-proxy.ts';

const SQL = `CREATE TABLE numbers AS SELECT i, md5(i::text) AS h FROM generate_series(1, 2000) i;
  CREATE VIEW few AS SELECT i FROM numbers WHERE i < 10; CREATE INDEX ON numbers (i);`;
const NO_OWNERS = { owners: true, privileges: true };

/** A target on the tests' server, as a login that has no rights of its own. */
function targetOf(database: TestDatabase, login: Login, role?: string, port = postgresFacts().port): RestoreTarget {
  const { host } = postgresFacts();
  const connection = {
    host,
    port,
    user: login.user,
    password: new Secret(login.password),
    database: database.name,
    sslMode: 'disable' as const,
    ...(role === undefined ? {} : { role }),
  };
  return { kind: 'database', connection, clean: false };
}

/** A login, and a role that may make databases, which the login has to take on to use its rights. */
async function loginAndRole() {
  const stack = new AsyncDisposableStack();
  const role = stack.use(await createRole('CREATEDB'));
  const login = stack.use(await createRole('NOINHERIT'));
  await runAsSuperuser(`GRANT ${escapeIdentifier(role.user)} TO ${escapeIdentifier(login.user)}`);
  return { login, role: role.user, [Symbol.asyncDispose]: () => stack.disposeAsync() };
}

async function ownerlessLinesOf(database: TestDatabase): Promise<readonly string[]> {
  return (await linesOf(database)).filter((line) => !/; Owner: | OWNER TO /.test(line));
}

const OWNERS_SQL = `SELECT DISTINCT pg_get_userbyid(owner) AS owner FROM (
  SELECT relowner FROM pg_class WHERE relnamespace = 'public'::regnamespace
  UNION SELECT datdba FROM pg_database WHERE datname = current_database()) AS all_of_it (owner)`;

describe('a restore as a role', () => {
  test.each(['directory', 'plain'] as const)(
    'that the login takes on has the rights of the role alone, for the database and all that is in it: format %s',
    async (format) => {
      await using roles = await loginAndRole();
      await using place = await fileDestination('place');
      await using source = await createDatabase({ name: 'src', sql: SQL });
      await using restored = futureDatabase();
      await backUp(source, [place], { format, pieceBytes: 32 * 1024 });
      const { login, role } = roles;
      const restoreAs = (taken?: string) =>
        restoreInto(restored, place.store, { target: targetOf(restored, login, taken), leaveOut: NO_OWNERS });
      await expect(restoreAs()).rejects.toMatchObject({ code: 'postgres-privileges' });
      await restoreAs(role);
      expect(await restored.query(OWNERS_SQL)).toEqual([{ owner: role }]);
      expect(await ownerlessLinesOf(restored)).toEqual(await ownerlessLinesOf(source));
      // What it owns goes before the role does.
      await restored.drop();
    },
  );

  test('goes on with as many connections as the role may have', async () => {
    await using place = await filePlace();
    await using source = await createDatabase({ name: 'src', sql: SQL });
    await using login = await createRole('CREATEDB CONNECTION LIMIT 3');
    await using restored = futureDatabase();
    await makeStockArchive(source, place.store, { pieceRows: 500 });
    const warnings: string[] = [];
    const logger: Logger = { ...silentLogger, warning: (event) => void warnings.push(event), child: () => logger };
    await restoreInto(restored, place.store, {
      target: targetOf(restored, login),
      leaveOut: NO_OWNERS,
      jobs: 4,
      verifyRows: true,
      context: { logger },
    });
    // One of the three guards the new database.
    expect(warnings.filter((event) => event === 'load.fewer_connections')).toHaveLength(2);
    expect(await ownerlessLinesOf(restored)).toEqual(await ownerlessLinesOf(source));
    await restored.drop();
  });

  test('compares rows that their own owner could not read any more', async () => {
    await using place = await fileDestination('place');
    await using owner = await createRole('CREATEDB');
    await using source = await createDatabase({ name: 'src', sql: SQL });
    const name = escapeIdentifier(owner.user);
    await source.query(`
      CREATE TABLE secrets AS SELECT i FROM generate_series(1, 100) i;
      CREATE TABLE unreadable AS SELECT i FROM generate_series(1, 100) i;
      ALTER TABLE secrets ENABLE ROW LEVEL SECURITY; ALTER TABLE secrets FORCE ROW LEVEL SECURITY;
      CREATE POLICY few ON secrets USING (i < 10);
      ALTER TABLE secrets OWNER TO ${name}; ALTER TABLE unreadable OWNER TO ${name};
      REVOKE ALL ON unreadable FROM ${name}`);
    await backUp(source, [place], { format: 'directory' });
    await using restored = futureDatabase();
    const target = targetOf(restored, owner);
    const leaveOut = { owners: true, privileges: false };
    await restoreInto(restored, place.store, { target, leaveOut, verifyRows: true });
    const rows = 'SELECT (SELECT count(*)::int FROM secrets) AS s, (SELECT count(*)::int FROM unreadable) AS u';
    expect(await restored.query(rows)).toEqual([{ s: 100, u: 100 }]);
    expect(
      await restored.query(`SELECT relforcerowsecurity AS forced FROM pg_class WHERE relname = 'secrets'`),
    ).toEqual([{ forced: true }]);
    // What it owns goes before the role does.
    await restored.drop();
    await source.drop();
  });

  test('is refused before anything is touched where the login may not take it on, or it is not there', async () => {
    await using place = await filePlace();
    await using source = await createDatabase({ name: 'src', sql: SQL });
    await using login = await createRole();
    const restored = futureDatabase('never');
    await makeStockArchive(source, place.store);
    for (const role of [postgresFacts().user, 'nobody of this name']) {
      const target = targetOf(restored, login, role);
      await expect(restoreInto(restored, place.store, { target })).rejects.toMatchObject({
        code: 'postgres-privileges',
        message: expect.stringContaining(`cannot work as role ${role}`),
      });
    }
    expect(await databaseNames(restored.name.slice(0, 15))).toEqual([]);
  });

  test('in place ends sessions that only the login may end', async () => {
    await using owner = await createRole('CREATEDB');
    await using application = await createRole();
    await using place = await filePlace();
    await using current = await createDatabase({ name: 'owned', owner, sql: SQL });
    await makeStockArchive(current, place.store);
    const used = await openDatabase(current.name, application).connect();
    const { connection } = targetOf(current, postgresFacts(), owner.user);
    const target = { kind: 'in-place', connection, clean: false, dropOld: true } as const;
    await restoreInto(current, place.store, { target, leaveOut: NO_OWNERS });
    await expect(used.query('SELECT 1')).rejects.toThrow();
    expect(await current.query(OWNERS_SQL)).toEqual([{ owner: owner.user }]);
    await current.drop();
  });

  test('ends what is left of a broken connection, which is the login’s and not the role’s', async () => {
    await using roles = await loginAndRole();
    await using place = await filePlace();
    await using source = await createDatabase({ name: 'src', sql: SQL });
    await using restored = futureDatabase();
    await using proxy = await startTcpProxy(postgresFacts());
    await makeStockArchive(source, place.store, { pieceRows: 500 });
    // The server goes on holding the transaction and its locks.
    proxy.cutAt('COMMIT\0', 'unnoticed');
    const target = targetOf(restored, roles.login, roles.role, proxy.port);
    await restoreInto(restored, place.store, { target, leaveOut: NO_OWNERS });
    expect(proxy.hasCut).toBe(true);
    expect(await ownerlessLinesOf(restored)).toEqual(await ownerlessLinesOf(source));
    await restored.drop();
  });
});
