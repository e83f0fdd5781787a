import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { PgarkError } from '../../src/common/errors.ts';
import { type Logger, silentLogger } from '../../src/common/log.ts';
import { connect, type Session } from '../../src/postgres/client/connect.ts';
import type { ConnectionParameters } from '../../src/postgres/client/connection-parameters.ts';
import { readServerFacts } from '../../src/postgres/client/preflight.ts';
import { chooseProgram, findPrograms } from '../../src/postgres/client/programs.ts';
import { connectForReplication } from '../../src/postgres/replication/replication-session.ts';
import { readDumpToc } from '../../src/formats/directory/dump-toc.ts';
import { CatalogueChanged, TablesChanged } from '../../src/formats/directory/lock-tables.ts';
import { inEnglish } from '../../src/postgres/client/in-english.ts';
import { loadScript } from '../../src/formats/plain/load.ts';
import { restoreInto } from '../support/archive-restoring.ts';
import { Cluster } from '../support/cluster.ts';
import { backUp, fileDestination } from '../support/destinations.ts';
import { openDatabase } from '../support/postgres.ts';
import { drillIn, workFolder } from '../support/drills.ts';

/**
 * A server whose messages are in German: all that pgark makes of them has to hold. Where its package has brought no translations it
 * speaks English, which these tests tell of; those of its words alone are beside the code.
 */
let german: Cluster;
const databases: string[] = [];

beforeAll(async () => {
  german = await Cluster.start({ language: 'de' });
  const words = await german.sql('select 1/0').then(
    () => 'nothing',
    (error: Error) => error.message,
  );
  if (words !== 'Division durch Null') {
    process.stderr.write(`the server has no German messages (it says "${words}"): English is tested again\n`);
  }
  await german.sql(`CREATE ROLE loader LOGIN CREATEDB; CREATE ROLE reader LOGIN; CREATE ROLE keeper`);
});
afterAll(() => german[Symbol.asyncDispose]());

const as = (user: string, database = 'postgres'): ConnectionParameters => ({ ...german.connection, user, database });

const login = { applicationName: 'test' };

async function within<T>(connection: ConnectionParameters, work: (session: Session) => Promise<T>): Promise<T> {
  const session = await connect(connection, login);
  try {
    return await work(session);
  } finally {
    await session.close();
  }
}

async function madeDatabase(sql: string, clauses = ''): Promise<string> {
  const name = `db${databases.push('')}`;
  await german.sql(`CREATE DATABASE ${name} ${clauses}`);
  await within(as('postgres', name), (session) => session.query(sql));
  return name;
}

const failureOf = (work: Promise<unknown>): Promise<PgarkError> =>
  work.then(
    () => expect.unreachable(),
    (error: unknown) => (error instanceof PgarkError ? error : Promise.reject(error)),
  );

function listening() {
  const told: string[] = [];
  const note = (event: string, message: string): void => void told.push(`${event}: ${message}`);
  const logger: Logger = { ...silentLogger, warning: note, child: () => logger };
  return { told, logger };
}

/** A backup of the database by a superuser, and its restore by another role. */
async function restoredBy(
  user: string,
  database: string,
  format: 'plain' | 'directory',
  between = '',
  logger: Logger = silentLogger,
) {
  await using place = await fileDestination('place');
  const source = openDatabase(database);
  await backUp(source, [place], { format, connection: as('postgres', database) });
  if (between !== '') await german.sql(between);
  const target = { kind: 'database', connection: as(user, `${database}_again`), clean: false } as const;
  const leaveOut = { owners: true, privileges: false };
  return await restoreInto(source, place.store, { target, leaveOut, analyse: false, context: { logger } });
}

describe('a restore into a server whose messages are in another language', () => {
  test.each([
    ['plain', 'loader'],
    ['plain', 'postgres'],
    ['directory', 'postgres'],
  ] as const)('says which role is missing and what to do about it: format %s, by %s', async (format, user) => {
    await german.sql('CREATE ROLE "no»body"');
    const database = await madeDatabase(`CREATE TABLE t (a int); GRANT SELECT ON t TO "no»body"`);
    const gone = `REVOKE ALL ON DATABASE ${database} FROM "no»body"; ALTER ROLE "no»body" RENAME TO away`;
    try {
      const { message, hint } = await failureOf(restoredBy(user, database, format, gone));
      expect(hint).toContain('the dump names role no»body: create it on the target first');
      expect(message).not.toContain('42704');
    } finally {
      await within(as('postgres', database), (session) => session.query('DROP OWNED BY away; DROP ROLE away'));
    }
  });

  test.each([
    ['names a role that is missing', 'ALTER TABLE t OWNER TO "no»body"', 'the dump names role no»body: create it'],
    [
      'gives things to others',
      'ALTER TABLE t OWNER TO keeper',
      'the dump gives things to role keeper: GRANT "keeper" TO',
    ],
    ['wants an extension', 'CREATE EXTENSION nope', 'the package that brings the extension nope on'],
    ['knows another setting', 'SET nope_setting = 1', 'the dump was made for a newer PostgreSQL than the target'],
    ['wants a superuser', 'CREATE ROLE new', 'restore with a role that owns the target database'],
    ['is just wrong', 'CREATE TABLE t (a int)', 'nothing was kept; correct the cause'],
  ])('helps a role without rights with text that %s', async (_, statement, hint) => {
    const database = await madeDatabase('', 'OWNER loader');
    const failure = await failureOf(load(`CREATE TABLE t (a int);\n${statement};\n`, as('loader', database)));
    expect(failure.hint).toContain(hint);
    expect(failure.message).toMatch(/failed: psql exited with 3: line 2: (?:FEHLER|ERROR): {2}\D/);
    expect(failure.message).not.toMatch(/LOCATION|\.c:|\b\d[0-9A-Z]{4}: /);
  });

  test('passes on as warnings what the server warns of, and not what it only tells', async () => {
    const { told, logger } = listening();
    const database = await madeDatabase('', 'OWNER loader');
    const talk = `DO $$ BEGIN RAISE NOTICE 'not this'; RAISE INFO 'not this';
      RAISE WARNING 'mind this'; RAISE WARNING USING MESSAGE = 'and this', ERRCODE = '25P01'; END $$;`;
    await load(talk, as('loader', database), logger);
    expect(told).toEqual(['load.warning: mind this', 'load.warning: and this']);
  });

  test.each([
    ['a number', `SELECT '99999999999hunter2'::text::int`],
    ['a number out of range', `SELECT '987654321098765'::int`],
    ['a value out of range', `SELECT ('98765432' || '1098765')::smallint`],
    ['a date', `SELECT '2026-13-45 987654321098765'::date`],
    ['a value of two lines', `SELECT E'1"\n987654321098765'::int`],
    ['an enum', `CREATE TYPE mood AS ENUM ('ok'); SELECT '987654321098765'::mood`],
    ['a row', `CREATE TABLE r (a int CHECK (a = 0), b text); INSERT INTO r VALUES (1, '987654321098765')`],
    ['a key', `CREATE TABLE k (b text UNIQUE); INSERT INTO k VALUES ('987654321098765'), ('987654321098765')`],
  ])('says nothing of %s that was refused', async (_, statement) => {
    const { told, logger } = listening();
    const database = await madeDatabase('', 'OWNER loader');
    const failure = await failureOf(load(`${statement};\n`, as('loader', database), logger));
    const sql = await failureOf(within(as('loader', database), (session) => session.query(statement)));
    for (const text of [failure.message, failure.hint, sql.message, ...told]) {
      expect(text).not.toMatch(/987654321098765|hunter2|98765432|1098765/);
    }
  });
});

function majorOf(connection: ConnectionParameters): Promise<number> {
  return within(connection, async (session) => (await readServerFacts(session)).major);
}

async function load(text: string, connection: ConnectionParameters, logger: Logger = silentLogger): Promise<void> {
  const serverMajor = await majorOf(connection);
  const body = async function* (): AsyncGenerator<Uint8Array> {
    yield Buffer.from(text);
  };
  await loadScript(body(), {
    connection,
    program: chooseProgram('psql', await findPrograms('psql'), serverMajor),
    serverMajor,
    singleTransaction: false,
    applicationName: 'pgark test',
    logger,
  });
}

describe('a login on a server whose messages are in another language', () => {
  const failedLogin = (connection: ConnectionParameters): Promise<PgarkError> =>
    failureOf(within(connection, (session) => session.query('select')));

  test('says what to grant where the role may not connect, and not where it may not do something else', async () => {
    const database = await madeDatabase('SELECT');
    await german.sql(`REVOKE CONNECT ON DATABASE ${database} FROM PUBLIC`);
    const refused = await failedLogin(as('reader', database));
    expect(refused).toMatchObject({
      code: 'postgres-privileges',
      hint: `GRANT CONNECT ON DATABASE "${database}" TO "reader"`,
    });
    const creating = await failureOf(within(as('reader'), (session) => session.query('CREATE SCHEMA s')));
    expect(creating.code).toBe('postgres-privileges');
    expect(creating.hint).not.toContain('GRANT CONNECT');
  });

  test('says how a database that is closed is opened', async () => {
    const database = await madeDatabase('SELECT');
    await german.sql(`ALTER DATABASE ${database} ALLOW_CONNECTIONS false`);
    const closed = await failedLogin(as('loader', database));
    expect(closed.hint).toContain(`ALTER DATABASE "${database}" ALLOW_CONNECTIONS true opens it`);
  });

  test('for replication says which right is missing, and that somebody else has the slot', async () => {
    const refused = await failureOf(connectForReplication(as('reader'), login));
    expect(refused).toMatchObject({ code: 'postgres-privileges', hint: 'ALTER ROLE "reader" REPLICATION' });
    const [first, second] = await Promise.all([1, 2].map(() => connectForReplication(as('postgres'), login)));
    await first?.query('CREATE_REPLICATION_SLOT "held" TEMPORARY PHYSICAL');
    const held = await failureOf(second?.query('DROP_REPLICATION_SLOT "held"') ?? Promise.resolve());
    expect(held.hint).toContain('somebody else receives over this slot');
    await first?.close();
    await second?.close();
  });
});

describe('a dump of a server whose messages are in another language', () => {
  beforeAll(() =>
    german.sql(
      'CREATE ROLE chooser LOGIN; GRANT SET ON PARAMETER lc_messages TO chooser; CREATE ROLE deputy LOGIN IN ROLE postgres',
    ),
  );

  test.each(['postgres', 'chooser', 'deputy'])('is in English where its user, %s, may choose that', async (user) => {
    await within(as(user), async (session) => {
      expect(await inEnglish(session, as(user), login)).toEqual({ ...as(user), options: '-c lc_messages=C' });
      const own = { ...as(user), options: '-c work_mem=8MB' };
      expect((await inEnglish(session, own, login)).options).toBe('-c lc_messages=C -c work_mem=8MB');
    });
    // Whoever may set a thing in a session may set it at the login.
    const spoken = { ...as(user), options: '-c lc_messages=C' };
    const { message } = await failureOf(within(spoken, (session) => session.query('select 1/0')));
    expect(message).toContain('division by zero');
  });

  test('is left alone where its user may not, also as a role that may', async () => {
    await german.sql('CREATE ROLE boss SUPERUSER; GRANT boss TO reader');
    const connection = { ...as('reader'), role: 'boss' };
    await within(connection, async (session) => expect(await inEnglish(session, connection, login)).toBe(connection));
    await german.sql('REVOKE boss FROM reader');
  });

  test('is in English where options of the login name a role that may not choose that', async () => {
    await german.sql('GRANT keeper TO chooser');
    const own = { ...as('chooser'), options: '-c role=keeper' };
    const spoken = await within(own, (session) => inEnglish(session, own, login));
    expect(spoken.options).toBe('-c lc_messages=C -c role=keeper');
    const { message } = await failureOf(within(spoken, (session) => session.query('select 1/0')));
    expect(message).toContain('division by zero');
  });

  test('is left alone where a login that asks for another language is refused', async () => {
    const connection = as('reader');
    await within(as('chooser'), async (session) =>
      expect(await inEnglish(session, connection, login)).toBe(connection),
    );
  });

  test.each(['plain', 'directory'] as const)('tells a superuser why it failed: format %s', async (format) => {
    const database = await madeDatabase('CREATE TABLE t AS SELECT 1 AS a; CREATE VIEW v AS SELECT a FROM t');
    // As a damaged catalogue has it; pg_dump asks for the view's definition.
    await within(as('postgres', database), (session) =>
      session.query(`SET allow_system_table_mods = on; DELETE FROM pg_class WHERE relname = 't'`),
    );
    await using place = await fileDestination('place');
    const backed = backUp(openDatabase(database), [place], {
      format,
      connection: as('postgres', database),
      haste: 100,
    });
    const { message } = await failureOf(backed);
    expect(message).toMatch(/failed: pg_dump exited with 1: pg_dump: error: .*[a-z]/);
    expect(message).not.toMatch(/FEHLER|existiert nicht|konnte nicht/);
  });

  /** pg_dump is kept from a lock, or misses a type that the snapshot has. */
  async function tocBy(user: string, work: (session: Session) => Promise<unknown>): Promise<unknown> {
    const database = await madeDatabase(`CREATE TABLE t (a int); GRANT SELECT ON t TO PUBLIC`);
    return within(as('postgres', database), async (other) =>
      within(as(user, database), async (session) => {
        await session.query('BEGIN ISOLATION LEVEL REPEATABLE READ');
        const [row] = await session.query<{ snapshot: string }>('select pg_export_snapshot() as snapshot');
        await work(other);
        const connection = await inEnglish(session, as(user, database), login);
        return readDumpToc({
          connection,
          session,
          pgDump: chooseProgram('pg_dump', await findPrograms('pg_dump'), await majorOf(connection)),
          snapshot: row?.snapshot ?? '',
          lockWaitMs: 100,
          excludeTableData: [],
          applicationName: 'test',
          logger: silentLogger,
          signal: new AbortController().signal,
        }).catch((error: unknown) => error);
      }),
    );
  }

  test.each(['postgres', 'chooser', 'reader'])('begins anew if %s was kept from a lock', async (user) => {
    const outcome = await tocBy(user, (other) => other.query('BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE'));
    expect(outcome).toSatisfy((error) => error instanceof CatalogueChanged || error instanceof TablesChanged);
  });

  test.each(['postgres', 'chooser', 'reader'])('begins anew if %s misses what it has just seen', async (user) => {
    const outcome = await tocBy(user, (other) => other.query('DROP TABLE t'));
    expect(outcome).toSatisfy((error) => error instanceof CatalogueChanged || error instanceof TablesChanged);
  });
});

describe('a drill in a given server whose messages are in another language', () => {
  test('that lacks a right says nothing of the backup', async () => {
    await using place = await fileDestination('place');
    await using work = await workFolder();
    const database = await madeDatabase('CREATE TABLE t (a int); ALTER TABLE t OWNER TO keeper');
    await backUp(openDatabase(database), [place], { format: 'plain', connection: as('postgres', database) });
    const scratch = { kind: 'given', connection: as('loader') } as const;
    const failure = await failureOf(drillIn(place.store, work, { scratch }));
    expect(failure.code).toBe('drill-impossible');
    expect(failure.hint).toContain('drill with a role that is a member of the roles that the backup names');
  });
});
