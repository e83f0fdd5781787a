import { escapeIdentifier } from 'pg';
import { describe, expect, test } from 'vitest';
import { Secret } from '../../src/common/secret.ts';
import { loadScript } from '../../src/formats/plain/load.ts';
import { silentLogger } from '../../src/common/log.ts';
import { chooseProgram, findPrograms } from '../../src/postgres/client/programs.ts';
import { expectExit, fileStorage, SHORT_LEASE, startPgark, untilActivity } from '../support/backups.ts';
import { postgresFacts } from '../support/facts.ts';
import { createDatabase, createRole, openDatabase, runAsSuperuser, type TestDatabase } from '../support/postgres.ts';
import { connected, dumpOf } from '../support/restoring.ts';

const LIMITS = ['idle_session_timeout', 'idle_in_transaction_session_timeout', 'statement_timeout', 'lock_timeout'];

/** Every session in the database that does not say otherwise is ended for whatever takes a second. */
async function limit(database: TestDatabase): Promise<void> {
  const name = escapeIdentifier(database.name);
  await runAsSuperuser(LIMITS.map((setting) => `ALTER DATABASE ${name} SET ${setting} TO '1s'`).join(';'));
}

function connectionTo(database: string): Parameters<typeof loadScript>[1]['connection'] {
  const { password, ...server } = postgresFacts();
  return { ...server, password: new Secret(password), database, sslMode: 'disable' };
}

describe.concurrent('timeouts of a role or database', { timeout: 300_000 }, () => {
  test('do not end a backup that takes longer', async () => {
    await using role = await createRole(`SUPERUSER`);
    await using storage = await fileStorage();
    await using database = await createDatabase({ name: 'limited', owner: role, sql: 'CREATE TABLE t (a int)' });
    const name = escapeIdentifier(role.user);
    await runAsSuperuser(LIMITS.map((setting) => `ALTER ROLE ${name} SET ${setting} TO '1s'`).join(';'));
    await connected(openDatabase(database.name), async (client) => {
      await client.query('BEGIN; LOCK TABLE t');
      const env = { ...storage.env, ...SHORT_LEASE, DATABASE_URL: database.url };
      const backup = startPgark(['backup'], { env });
      await untilActivity(
        openDatabase(database.name),
        `application_name LIKE 'pgark backup%' AND wait_event_type = 'Lock'`,
      );
      // Several times the second, while the dump waits.
      await client.query('SELECT pg_sleep(5)');
      await client.query('COMMIT');
      expectExit(await backup.result, 0);
    });
  });

  test('do not end the load of a dump that comes slowly', async () => {
    await using source = await createDatabase({ name: 'source', sql: 'CREATE TABLE t AS SELECT 1 AS a' });
    await using target = await createDatabase({ name: 'target' });
    await limit(target);
    const dump = Buffer.from(await dumpOf(source));
    const [row] = await target.query<{ major: number }>(
      `SELECT current_setting('server_version_num')::int / 10000 AS major`,
    );
    const serverMajor = row?.major ?? 0;
    async function* slowly(): AsyncGenerator<Uint8Array> {
      yield dump.subarray(0, -200);
      await runAsSuperuser('SELECT pg_sleep(3)');
      yield dump.subarray(-200);
    }
    await loadScript(slowly(), {
      connection: connectionTo(target.name),
      program: chooseProgram('psql', await findPrograms('psql'), serverMajor),
      serverMajor,
      singleTransaction: false,
      applicationName: 'pgark test',
      logger: silentLogger,
    });
    expect(await target.query('SELECT a FROM t')).toEqual([{ a: 1 }]);
  });
});
