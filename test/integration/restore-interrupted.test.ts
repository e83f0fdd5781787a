import { setTimeout as delay } from 'node:timers/promises';
import { type Client, escapeIdentifier } from 'pg';
import { describe, expect, test } from 'vitest';
import { runProgram, type RunResult } from '../support/cli.ts';
import { connected, databaseNames, dumpOf, futureDatabase, pgark, said } from '../support/restoring.ts';
import { createDatabase, createRole, openDatabase, runAsSuperuser, type TestDatabase } from '../support/postgres.ts';
import { fileStorage, type TestStorage } from '../support/storage.ts';

/**
 * A dump whose load stops in the middle, in whatever database it runs: it comments on a role that the test has locked.
 * What comes behind is more than psql can have taken in by then.
 */
const rows = Array.from({ length: 200_000 }, (_, index) => `${index}\tsome text of a row\n`).join('');
const slowDump = (role: string): string => `CREATE TABLE early AS SELECT 1 AS a;
COPY early (a) FROM stdin;
2
\\.
COMMENT ON ROLE ${escapeIdentifier(role)} IS 'waited for';
CREATE TABLE late (a int, t text);
COPY late (a, t) FROM stdin;
${rows}\\.
`;

interface Running {
  readonly pid: number;
  kill(signal: NodeJS.Signals): void;
}

/** Runs a restore, acts while its load waits, lets the load go on, and gives the outcome. */
async function interrupted(
  place: { readonly database: TestDatabase; readonly storage: TestStorage; readonly role: string },
  args: readonly string[],
  act: (pgarkProcess: Running, loading: { readonly pid: number; readonly database: string }) => Promise<void>,
): Promise<RunResult> {
  return connected(openDatabase('postgres'), async (holder) => {
    await holder.query(`BEGIN; COMMENT ON ROLE ${escapeIdentifier(place.role)} IS 'held'`);
    const seen: { running?: Running } = {};
    let ended = false;
    const restoring = pgark(place, args, { onStarted: (program) => void (seen.running = program) }).finally(() => {
      ended = true;
    });
    for (;;) {
      const [loading] = await runAsSuperuser<{ pid: number; database: string }>(
        `SELECT pid, datname AS database FROM pg_stat_activity
          WHERE application_name LIKE 'pgark restore %' AND strpos(query, $1) > 0 AND wait_event_type = 'Lock'`,
        [escapeIdentifier(place.role)],
      );
      if (loading && seen.running) {
        await act(seen.running, loading);
        break;
      }
      if (ended) throw new Error(`the restore ended before its middle: ${(await restoring).stderr}`);
      await delay(2);
    }
    await holder.query('ROLLBACK');
    return restoring;
  });
}

/** Waits until nobody is connected to databases whose names begin so. */
async function untilUnused(prefix: string): Promise<void> {
  const rest = 'SELECT 1 FROM pg_stat_activity WHERE starts_with(datname, $1)';
  while ((await runAsSuperuser(rest, [prefix])).length > 0) await delay(2);
}

async function setUp() {
  const storage = await fileStorage();
  const role = await createRole();
  const database = await createDatabase({ name: 'busy', sql: 'CREATE TABLE old AS SELECT 1 AS a' });
  await storage.put('slow.sql', slowDump(role.user));
  return {
    storage,
    database,
    place: { storage, database, role: role.user },
    [Symbol.asyncDispose]: async () => {
      await database.drop();
      await role.drop();
      await storage[Symbol.asyncDispose]();
    },
  };
}

const inPlace = (name: string) => ['restore', 'slow.sql', '--in-place', '--yes', name];

describe('a restore that is cut off', { timeout: 300_000 }, () => {
  test.each(['SIGTERM', 'SIGINT'] as const)('%s ends it with 130, and nothing is left', async (signal) => {
    await using made = await setUp();
    const { place, database } = made;
    const before = await dumpOf(database);
    for (const clean of [[], ['--clean']]) {
      const result = await interrupted(place, [...inPlace(database.name), ...clean], async (running) => {
        running.kill(signal);
        // Only when pgark has cleaned up may the load go on.
        await untilEnded(running);
      });
      expect(result.exitCode).toBe(130);
      expect(said(result)).toContain('interrupted');
      await untilUnused(database.name);
      expect(await dumpOf(database)).toBe(before);
      expect(await databaseNames(database.name.slice(5))).toEqual([database.name]);
    }
  });

  test('SIGKILL of pgark leaves the target as it was, and the next restore clears up', async () => {
    await using made = await setUp();
    const { place, database, storage } = made;
    const before = await dumpOf(database);
    const killed = await interrupted(place, inPlace(database.name), async (running) => running.kill('SIGKILL'));
    expect(killed.signal).toBe('SIGKILL');
    const [left, ...others] = await databaseNames(database.name).then((names) =>
      names.filter((name) => name.includes('_restoring_')),
    );
    expect(left).toBeDefined();
    expect(others).toEqual([]);
    await untilUnused(left ?? '');
    expect(await dumpOf(database)).toBe(before);
    await storage.put('good.sql', 'CREATE TABLE good (a int);\n');
    const next = await pgark(place, ['restore', 'good.sql', '--in-place', '--yes', database.name, '--drop-old']);
    expect(next).toMatchObject({ exitCode: 0 });
    expect((await databaseNames(database.name)).filter((name) => name.includes('_restoring_'))).toEqual([]);
  });

  test('what was made and not marked yet is cleared up if it is empty, and nobody makes it', async () => {
    await using made = await setUp();
    const { place, database, storage } = made;
    await storage.put('good.sql', 'CREATE TABLE good (a int);\n');
    const named = (run: string): TestDatabase => openDatabase(`${database.name}_restoring_01KB${run.repeat(22)}`);
    await using empty = named('A');
    await using filled = named('B');
    await using other = openDatabase(`${database.name}_restoring_mine`);
    await using claimed = named('C');
    const all = [empty, filled, other, claimed];
    for (const { name } of all) await runAsSuperuser(`CREATE DATABASE ${escapeIdentifier(name)}`);
    await filled.query('CREATE TABLE t (a int)');
    await connected(openDatabase('postgres'), async (holder) => {
      await holder.query('SELECT pg_advisory_lock(hashtextextended($1, 0))', [claimed.name.slice(-26)]);
      const restored = await pgark(place, ['restore', 'good.sql', '--in-place', '--yes', database.name, '--drop-old']);
      expect(restored).toMatchObject({ exitCode: 0 });
    });
    const left = (await databaseNames(database.name)).filter((name) => name.includes('_restoring_'));
    expect(left.toSorted()).toEqual([filled, other, claimed].map(({ name }) => name).toSorted());
  });

  test.each([
    ['a new database', false],
    ['one in place', true],
  ])(
    'SIGKILL of pgark when all is loaded, and %s waits for its name, leaves what the next restore clears up',
    async (_what, replaces) => {
      await using made = await setUp();
      const { place, database, storage } = made;
      const name = replaces ? database.name : `${database.name} anew`;
      const into = replaces ? ['--in-place', '--yes', name] : ['--to-db', name];
      await using target = openDatabase(name);
      const seen: { running?: Running; loaded?: string } = {};
      await connected(openDatabase('postgres'), async (holder) => {
        const restoring = interrupted(place, ['restore', 'slow.sql', ...into], async (running, loading) => {
          Object.assign(seen, { running, loaded: loading.database });
          await keepName(holder, loading.database, place.role);
        });
        const renaming = await untilRenaming(() => seen.loaded);
        seen.running?.kill('SIGKILL');
        expect(await restoring).toMatchObject({ signal: 'SIGKILL' });
        // As if the server's end were gone, too: it would look for its client only when it has its lock.
        await runAsSuperuser('SELECT pg_terminate_backend($1)', [renaming]);
        await holder.query('ROLLBACK');
      });
      await untilUnused(seen.loaded ?? '');
      expect(await databaseNames(seen.loaded ?? '')).toEqual([seen.loaded]);
      await storage.put('good.sql', 'CREATE TABLE good (a int);\n');
      expect(await pgark(place, ['restore', 'good.sql', ...into])).toMatchObject({ exitCode: 0 });
      expect(await databaseNames(seen.loaded ?? '')).toEqual([]);
      expect(await target.query('SELECT count(*)::int AS count FROM good')).toEqual([{ count: 0 }]);
      for (const kept of await databaseNames(`${name}_before_`)) await openDatabase(kept).drop();
    },
  );

  test('its lock is held until it has its name, although the session that took it was cut while all was loaded', async () => {
    await using made = await setUp();
    const { place } = made;
    await using target = futureDatabase('held');
    const seen: { loaded?: string } = {};
    await connected(openDatabase('postgres'), async (holder) => {
      const restoring = interrupted(place, ['restore', 'slow.sql', '--to-db', target.name], async (_, loading) => {
        seen.loaded = loading.database;
        await keepName(holder, loading.database, place.role);
        const cut = `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1 AND datname = 'postgres'`;
        expect(await runAsSuperuser(cut, [`pgark restore ${runOf(loading.database)}`])).toHaveLength(1);
      });
      await untilRenaming(() => seen.loaded);
      const free = 'SELECT pg_try_advisory_lock(hashtextextended($1, 0)) AS free';
      expect(await runAsSuperuser(free, [runOf(seen.loaded ?? '')])).toEqual([{ free: false }]);
      await holder.query('ROLLBACK');
      expect(await restoring).toMatchObject({ exitCode: 0 });
    });
  });

  test.each([
    ['an empty database', [], ''],
    ['a database that is emptied for it', ['--clean'], 'CREATE TABLE old AS SELECT 1 AS a'],
  ])('SIGKILL of pgark commits nothing in %s, although psql meets the end of its input', async (_what, clean, sql) => {
    await using made = await setUp();
    await using target = await createDatabase({ name: 'within', sql });
    const before = await dumpOf(target);
    const killed = await interrupted(
      made.place,
      ['restore', 'slow.sql', '--to-db', target.name, ...clean],
      async (running) => {
        running.kill('SIGKILL');
        await untilEnded(running);
      },
    );
    expect(killed.signal).toBe('SIGKILL');
    await untilUnused(target.name);
    expect(await dumpOf(target)).toBe(before);
  });

  test.each([
    ['psql is killed', 'psql was killed by SIGKILL'],
    ['the server ends its session', 'terminating connection due to administrator command'],
  ])('when %s, it fails with those words and leaves nothing', async (how, words) => {
    await using made = await setUp();
    const { place, database } = made;
    const before = await dumpOf(database);
    for (const clean of [[], ['--clean']]) {
      const result = await interrupted(place, [...inPlace(database.name), ...clean], async (running, loading) => {
        if (how === 'psql is killed') {
          const psql = await runProgram('pgrep', ['-P', String(running.pid), 'psql']);
          process.kill(Number(psql.stdout.trim()), 'SIGKILL');
        } else await runAsSuperuser('SELECT pg_terminate_backend($1)', [loading.pid]);
        await untilEnded(running);
      });
      expect(result.exitCode).toBe(1);
      expect(said(result)).toContain(words);
      expect(await dumpOf(database)).toBe(before);
      expect(await databaseNames(database.name.slice(5))).toEqual([database.name]);
    }
  });

  test('a database that somebody made meanwhile under the name is not replaced', async () => {
    await using made = await setUp();
    await using restored = futureDatabase('taken');
    const result = await interrupted(made.place, ['restore', 'slow.sql', '--to-db', restored.name], async () => {
      await runAsSuperuser(`CREATE DATABASE "${restored.name}"`);
    });
    expect(result.exitCode).toBe(1);
    expect(said(result)).toContain(`"${restored.name}"`);
    expect(said(result)).toContain('was made by somebody else');
    expect(said(result)).toContain('restore under another name');
    expect(await databaseNames(restored.name.slice(0, 12))).toEqual([restored.name]);
  });

  test('whoever has looked into a new database while it was loaded is sent away before it gets its name', async () => {
    await using made = await setUp();
    await using restored = futureDatabase('watched');
    const result = await interrupted(
      made.place,
      ['restore', 'slow.sql', '--to-db', restored.name],
      async (_, loading) => {
        await openDatabase(loading.database).connect();
      },
    );
    expect(result).toMatchObject({ exitCode: 0 });
    expect(await restored.query('SELECT count(*)::int AS count FROM late')).toEqual([{ count: 200_000 }]);
  });

  test('in place has the settings that the old one has at last, and not those that it had before', async () => {
    await using made = await setUp();
    const { place, database } = made;
    const name = escapeIdentifier(database.name);
    await runAsSuperuser(`ALTER DATABASE ${name} SET app.gone = 'a'; ALTER DATABASE ${name} SET app.kept = 'a'`);
    const result = await interrupted(place, [...inPlace(database.name), '--drop-old'], async () => {
      await runAsSuperuser(`ALTER DATABASE ${name} RESET app.gone; ALTER DATABASE ${name} SET app.kept = 'b'`);
    });
    expect(result).toMatchObject({ exitCode: 0 });
    const settings =
      'SELECT setconfig FROM pg_db_role_setting, pg_database d WHERE d.oid = setdatabase AND datname = $1';
    expect(await runAsSuperuser(settings, [database.name])).toEqual([{ setconfig: ['app.kept=b'] }]);
  });

  test('two restores of one database at once do not take each other’s half-loaded one', async () => {
    await using made = await setUp();
    const { place, database, storage } = made;
    await storage.put('good.sql', 'CREATE TABLE good (a int);\n');
    const result = await interrupted(place, [...inPlace(database.name), '--drop-old'], async () => {
      const second = await pgark(place, ['restore', 'good.sql', '--in-place', '--yes', database.name, '--drop-old']);
      expect(second).toMatchObject({ exitCode: 0 });
      expect(await database.query('SELECT count(*)::int AS count FROM good')).toEqual([{ count: 0 }]);
    });
    expect(result).toMatchObject({ exitCode: 0 });
    expect(await database.query('SELECT count(*)::int AS count FROM late')).toEqual([{ count: 200_000 }]);
  });
});

/** Holds a lock on the database that keeps others from renaming it, and from nothing else that a restore does. */
async function keepName(holder: Client, database: string, role: string): Promise<void> {
  const [name, of] = [database, role].map(escapeIdentifier);
  await holder.query('BEGIN');
  await holder.query(`ALTER ROLE ${of} IN DATABASE ${name} SET work_mem = '5MB'`);
}

/** The run that has made it. */
function runOf(loading: string): string {
  return loading.slice(loading.lastIndexOf('_') + 1);
}

/** The number of the server's process that waits for its lock to rename the database, once it is known which. */
async function untilRenaming(database: () => string | undefined): Promise<number> {
  for (;;) {
    const [row] = await runAsSuperuser<{ pid: number }>(
      `SELECT pid FROM pg_stat_activity WHERE starts_with(query, $1) AND wait_event_type = 'Lock'`,
      [`ALTER DATABASE ${escapeIdentifier(database() ?? '')} RENAME`],
    );
    if (row) return row.pid;
    await delay(5);
  }
}

async function untilEnded(running: Running): Promise<void> {
  while ((await runProgram('sh', ['-c', `kill -0 ${running.pid}`])).exitCode === 0) await delay(5);
}
