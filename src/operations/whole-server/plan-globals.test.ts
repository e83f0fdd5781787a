import { describe, expect, test } from 'vitest';
import { readStoredGlobals } from '../../formats/globals/stored-globals.ts';
import { Secret } from '../../common/secret.ts';
import type { ServerGlobals, ServerRole } from '../../postgres/client/server-globals.ts';
import { planGlobals } from './plan-globals.ts';
import type { GlobalsChoice, PlannedObject } from './planned-object.ts';

const CHOICE: GlobalsChoice = { withPasswords: true, withTablespaces: true, overwrites: false, databases: 'none' };

function serverRole(name: string, change: Partial<ServerRole> = {}): ServerRole {
  const flags = new Set(['INHERIT'] as const);
  return { name, flags, connectionLimit: -1, password: null, comment: undefined, settings: new Map(), ...change };
}

function server(change: Partial<ServerGlobals> = {}, ...roles: readonly ServerRole[]): ServerGlobals {
  const all = [serverRole('postgres', { flags: new Set(['SUPERUSER', 'INHERIT']) }), ...roles];
  return {
    major: 18,
    self: 'postgres',
    isSuperuser: true,
    mayCreateRoles: true,
    bootstrap: 'postgres',
    roles: new Map(all.map((role) => [role.name, role])),
    memberships: [],
    parameterGrants: [],
    tablespaces: new Map(),
    tablespaceGrants: [],
    databases: new Set(['shop']),
    ...change,
  };
}

interface Situation {
  readonly on?: ServerGlobals;
  readonly otherValidity?: readonly string[];
  readonly missing?: readonly string[];
  readonly choice?: Partial<GlobalsChoice>;
}

function plan(sql: string, situation: Situation = {}): readonly PlannedObject[] {
  const { on = server(), otherValidity = [], missing = [], choice } = situation;
  const looks = { server: on, otherValidity: new Set(otherValidity), missingDirectories: new Set(missing) };
  return planGlobals(readStoredGlobals(sql), looks, { ...CHOICE, ...choice });
}

function sqlOf(objects: readonly PlannedObject[]): readonly string[] {
  return objects.flatMap(({ statements }) => statements.map(({ sql }) => sql.reveal()));
}

const APP = `CREATE ROLE app;
ALTER ROLE app WITH NOSUPERUSER NOINHERIT NOCREATEROLE CREATEDB LOGIN NOREPLICATION NOBYPASSRLS CONNECTION LIMIT 7 PASSWORD 'digest' VALID UNTIL '2030-01-01';
COMMENT ON ROLE app IS 'it''s';
ALTER ROLE app SET search_path TO 'app', 'A b';
`;

describe('a role that the server does not have', () => {
  test('is made by one statement, then what belongs to it', () => {
    expect(sqlOf(plan(APP))).toEqual([
      `CREATE ROLE "app" CREATEDB LOGIN NOINHERIT CONNECTION LIMIT 7 PASSWORD 'digest' VALID UNTIL '2030-01-01'`,
      `COMMENT ON ROLE "app" IS 'it''s'`,
      `ALTER ROLE "app" SET "search_path" TO 'app', 'A b'`,
    ]);
  });

  test('is made without its password where that is wanted', () => {
    expect(sqlOf(plan(APP, { choice: { withPasswords: false } }))[0]).not.toContain('PASSWORD');
  });

  test.each([
    ['02/01/2039 03:04:05 CET', 1],
    ['Sun 02 Jan 03:04:05 2039 CET', 1],
    ['2039-01-02 03:04:05+01', 0],
    ['2039-01-02 00:00:00+00 BC', 0],
    ['infinity', 0],
  ])('is told of where its end may be read as another day: %s', (until, count) => {
    const [role] = plan(`CREATE ROLE app; ALTER ROLE app WITH LOGIN VALID UNTIL '${until}';`);
    expect(role?.notes).toHaveLength(count);
  });

  test('of whose name the encoding is not known is not made under another one', () => {
    expect(plan('CREATE ROLE "a\ufffdb";')).toMatchObject([{ action: 'refuse', statements: [] }]);
  });
});

describe('a role that the server has', () => {
  const there = serverRole('app', {
    flags: new Set(['NOLOGIN' as never, 'SUPERUSER', 'INHERIT']),
    password: new Secret('another'),
    settings: new Map([['search_path', 'elsewhere']]),
  });
  const differing = { on: server({}, there), otherValidity: ['app'] };

  test('stays as it is, and is told of with what differs; it gets a comment where it has none', () => {
    const [role] = plan(APP, differing);
    expect(role).toMatchObject({
      action: 'extend',
      notes: [
        'SUPERUSER',
        'INHERIT',
        'CREATEDB',
        'LOGIN',
        'CONNECTION LIMIT',
        'PASSWORD',
        'VALID UNTIL',
        'the setting search_path',
      ],
    });
    expect(sqlOf(plan(APP, differing))).toEqual([`COMMENT ON ROLE "app" IS 'it''s'`]);
  });

  test('gets no settings unasked, by which who logs in could be locked out', () => {
    const on = server({}, { ...there, comment: "it's", settings: new Map() });
    expect(plan(APP, { on })).toMatchObject([
      { action: 'leave', notes: expect.arrayContaining(['the setting search_path']), statements: [] },
    ]);
    expect(sqlOf(plan(APP, { on, choice: { overwrites: true } })).at(-1)).toContain('SET "search_path"');
  });

  test('keeps a password that cannot be compared, and that is said where it was to be overwritten', () => {
    const on = server({}, { ...there, password: undefined });
    const [role] = plan(APP, { on, choice: { overwrites: true } });
    expect(role?.notes).toContainEqual(expect.stringMatching(/^PASSWORD stays/));
    expect(sqlOf(role === undefined ? [] : [role])[0]).not.toContain('PASSWORD');
    expect(plan(APP, { on, choice: { overwrites: true, withPasswords: false } })[0]?.notes.join(' ')).not.toContain(
      'PASSWORD',
    );
  });

  test('becomes as it was stored where that is asked for, by what differs', () => {
    expect(sqlOf(plan(APP, { ...differing, choice: { overwrites: true } }))).toEqual([
      `ALTER ROLE "app" NOSUPERUSER NOINHERIT CREATEDB LOGIN CONNECTION LIMIT 7 PASSWORD 'digest' VALID UNTIL '2030-01-01'`,
      `COMMENT ON ROLE "app" IS 'it''s'`,
      `ALTER ROLE "app" SET "search_path" TO 'app', 'A b'`,
    ]);
  });

  test('is the same whatever way its settings are written', () => {
    const same = serverRole('app', {
      flags: new Set(['CREATEDB', 'LOGIN']),
      connectionLimit: 7,
      password: new Secret('digest'),
      comment: "it's",
      settings: new Map([['search_path', 'app, "A b"']]),
    });
    expect(plan(APP, { on: server({}, same) })).toMatchObject([{ action: 'leave', notes: [], statements: [] }]);
    const { password: _, ...unreadable } = same;
    expect(plan(APP, { on: server({}, { ...unreadable, password: undefined }) })).toMatchObject([{ notes: [] }]);
  });

  test.each(['self', 'bootstrap'] as const)(
    'stays as it is whatever is asked for where it is the server’s %s',
    (which) => {
      const on = server({ [which]: 'app' }, there);
      expect(plan(APP, { on, choice: { overwrites: true } })).toMatchObject([
        { action: 'leave', notes: expect.arrayContaining(['SUPERUSER']), statements: [] },
      ]);
    },
  );
});

describe('a membership', () => {
  const roles = ['a', 'b', 'c', 'd'].map((name) => `CREATE ROLE ${name};\nALTER ROLE ${name} WITH INHERIT;\n`).join('');
  const grants = (sql: string, situation: Situation = {}): readonly string[] =>
    sqlOf(plan(roles + sql, situation)).filter((each) => each.startsWith('GRANT'));

  test('comes after the one that gives the right to give it', () => {
    expect(grants('GRANT a TO c GRANTED BY b; GRANT a TO b WITH ADMIN OPTION GRANTED BY postgres;')).toEqual([
      'GRANT "a" TO "b" WITH ADMIN OPTION GRANTED BY "postgres"',
      'GRANT "a" TO "c" GRANTED BY "b"',
    ]);
  });

  test('that nobody could give by that right any more is given by who works here', () => {
    expect(
      grants('GRANT a TO d GRANTED BY c; GRANT a TO c WITH ADMIN OPTION GRANTED BY old; GRANT a TO b GRANTED BY b;'),
    ).toEqual(['GRANT "a" TO "c" WITH ADMIN OPTION', 'GRANT "a" TO "d" GRANTED BY "c"', 'GRANT "a" TO "b"']);
  });

  test('is given by nobody else where the role is no superuser', () => {
    expect(grants('GRANT a TO b GRANTED BY postgres;', { on: server({ isSuperuser: false }) })).toEqual([
      'GRANT "a" TO "b"',
    ]);
  });

  test('has its options where the server knows them', () => {
    const sql = 'GRANT a TO b WITH ADMIN OPTION, INHERIT FALSE, SET FALSE GRANTED BY postgres;';
    expect(grants(sql)).toEqual(['GRANT "a" TO "b" WITH ADMIN OPTION, INHERIT FALSE, SET FALSE GRANTED BY "postgres"']);
    expect(grants('GRANT a TO b WITH INHERIT TRUE GRANTED BY postgres;', { on: server({ major: 15 }) })).toEqual([
      'GRANT "a" TO "b" GRANTED BY "postgres"',
    ]);
  });

  test.each(['SET FALSE', 'INHERIT FALSE'])(
    'is not given where an older server would give more by it: %s',
    (option) => {
      const objects = plan(`${roles}GRANT a TO b WITH ${option} GRANTED BY postgres;`, { on: server({ major: 15 }) });
      expect(objects.at(-1)).toMatchObject({ kind: 'membership', action: 'refuse', statements: [] });
    },
  );

  test('that is there is left, with less than was stored, or is given it where that is asked for', () => {
    const on = server({ memberships: [{ role: 'a', member: 'b', admin: false, inherit: true, set: true }] });
    const sql = 'GRANT a TO b WITH ADMIN OPTION GRANTED BY postgres;';
    expect(plan(roles + sql, { on }).at(-1)).toMatchObject({ action: 'leave', notes: ['ADMIN'] });
    expect(grants(sql, { on, choice: { overwrites: true } })).toHaveLength(1);
    expect(plan(`${roles}GRANT a TO b;`, { on }).at(-1)).toMatchObject({ action: 'leave', notes: [] });
  });
});

describe('a role that was there before', () => {
  const role = (name: string, flags = ''): string =>
    `CREATE ROLE ${name};\nALTER ROLE ${name} WITH INHERIT ${flags};\n`;
  const on = server({}, serverRole('deploy'), serverRole('owner'));
  const memberships = (sql: string, choice: Partial<GlobalsChoice> = {}): readonly unknown[] =>
    plan(sql, { on, choice })
      .filter(({ kind }) => kind === 'membership')
      .map(({ name, action, notes, statements }) => [name, action, notes.length, statements.length]);

  test.each([
    ['one that was there too', 'GRANT postgres TO deploy;'],
    ['one that owns something', 'GRANT owner TO deploy;'],
    ['a superuser that is made', `${role('root', 'SUPERUSER')}GRANT root TO deploy;`],
    ['one that may make roles', `${role('root', 'CREATEROLE')}GRANT root TO deploy;`],
    ['one that may set parameters', `${role('root')}GRANT ALTER SYSTEM ON PARAMETER x TO root; GRANT root TO deploy;`],
    ['one that is a member of another', `GRANT root TO deploy;${role('root')}`, 'GRANT postgres TO root;'],
  ])('is made a member of nothing that gives it more, unasked: %s', (_, sql, before = '') => {
    expect(memberships(role('deploy') + sql + before)).toContainEqual([
      expect.stringMatching(/^deploy in /),
      'leave',
      1,
      0,
    ]);
    expect(memberships(role('deploy') + sql + before, { overwrites: true })).toContainEqual([
      expect.stringMatching(/^deploy in /),
      'create',
      0,
      1,
    ]);
  });

  test('is made a member of a new one that can do nothing by itself, and a new one of any', () => {
    const sql = role('group') + role('new') + role('root', 'SUPERUSER');
    expect(memberships(`${sql}GRANT "group" TO deploy; GRANT owner TO new; GRANT root TO new;`)).toEqual([
      ['deploy in group', 'create', 0, 1],
      ['new in owner', 'create', 0, 1],
      ['new in root', 'create', 0, 1],
    ]);
  });

  test.each(['self', 'bootstrap'])('is never made a member of anything where it is the server’s %s', (which) => {
    const sql = `${role('group')}GRANT "group" TO deploy;`;
    const objects = plan(sql, { on: { ...on, [which]: 'deploy' }, choice: { overwrites: true } });
    expect(objects.at(-1)).toMatchObject({
      kind: 'membership',
      action: 'leave',
      notes: [expect.stringContaining('never')],
      statements: [],
    });
  });

  test('gets no right on parameters and tablespaces unasked, nor PUBLIC beside it', () => {
    const parameter = 'GRANT ALTER SYSTEM ON PARAMETER x TO deploy; GRANT SET ON PARAMETER x TO PUBLIC;';
    expect(plan(parameter, { on }).map(({ action }) => action)).toEqual(['leave', 'leave']);
    expect(sqlOf(plan(parameter, { on, choice: { overwrites: true } }))).toHaveLength(2);
    const tablespace = `CREATE TABLESPACE fast OWNER owner LOCATION '/x'; GRANT ALL ON TABLESPACE fast TO deploy;`;
    const there = { name: 'fast', owner: 'owner', location: '/x', comment: undefined };
    const withIt = { ...on, tablespaces: new Map([['fast', there]]) };
    expect(plan(tablespace, { on: withIt })).toMatchObject([
      { action: 'leave', notes: [expect.stringContaining('right of deploy missing')] },
    ]);
    expect(sqlOf(plan(tablespace, { on: withIt, choice: { overwrites: true } }))).toHaveLength(1);
  });

  test('that is left without its right to give a membership gives none', () => {
    const sql = `${role('a')}${role('b')}GRANT owner TO deploy WITH ADMIN OPTION GRANTED BY postgres; GRANT owner TO b GRANTED BY deploy;`;
    expect(sqlOf(plan(role('owner') + sql, { on })).at(-1)).toBe('GRANT "owner" TO "b"');
  });
});

describe('a tablespace', () => {
  const sql = `CREATE TABLESPACE fast OWNER app LOCATION '/srv/fast';
ALTER TABLESPACE fast SET (seq_page_cost=3);
REVOKE ALL ON TABLESPACE fast FROM PUBLIC;
GRANT ALL ON TABLESPACE fast TO reader WITH GRANT OPTION;
COMMENT ON TABLESPACE fast IS 'quick';`;

  test('is made with all that belongs to it', () => {
    expect(sqlOf(plan(sql))).toEqual([
      `CREATE TABLESPACE "fast" OWNER "app" LOCATION '/srv/fast'`,
      'ALTER TABLESPACE "fast" SET (seq_page_cost=3)',
      'REVOKE ALL ON TABLESPACE "fast" FROM PUBLIC',
      'GRANT CREATE ON TABLESPACE "fast" TO "reader" WITH GRANT OPTION',
      `COMMENT ON TABLESPACE "fast" IS 'quick'`,
    ]);
  });

  test('that is there is given the rights that it lacks, wherever it lies', () => {
    const on = server({
      tablespaces: new Map([['fast', { name: 'fast', owner: 'app', location: '/mnt', comment: undefined }]]),
    });
    const [, tablespace] = plan(`CREATE ROLE reader;${sql}`, { on });
    expect(tablespace).toMatchObject({ action: 'extend', notes: ['lies in /mnt'] });
    expect(sqlOf(tablespace === undefined ? [] : [tablespace])).toEqual([
      'GRANT CREATE ON TABLESPACE "fast" TO "reader" WITH GRANT OPTION',
    ]);
    const given = { on: 'fast', privilege: 'CREATE', grantee: 'reader', grantable: true };
    expect(plan(sql, { on: { ...on, tablespaceGrants: [given] } })).toMatchObject([{ action: 'leave' }]);
  });

  test('is not made without its directory, or where none are wanted', () => {
    expect(plan(sql, { missing: ['/srv/fast'] })).toMatchObject([
      { action: 'refuse', notes: [expect.stringContaining('/srv/fast')] },
    ]);
    expect(plan(sql, { choice: { withTablespaces: false } })).toMatchObject([{ action: 'leave-out', statements: [] }]);
  });
});

describe('a right on a parameter', () => {
  const sql = 'GRANT ALL ON PARAMETER "my.X" TO PUBLIC;';

  test('is given where it is not there, and the server has such rights', () => {
    expect(sqlOf(plan(sql))).toEqual(['GRANT ALL ON PARAMETER "my"."X" TO PUBLIC']);
    const given = ['SET', 'ALTER SYSTEM'].map((privilege) => ({
      on: 'my.x',
      privilege,
      grantee: undefined,
      grantable: false,
    }));
    expect(plan(sql, { on: server({ parameterGrants: given }) })).toMatchObject([{ action: 'leave' }]);
    expect(plan(sql, { on: server({ parameterGrants: given.slice(1) }) })).toMatchObject([{ action: 'create' }]);
    expect(plan(sql, { on: server({ major: 14 }) })).toMatchObject([{ action: 'refuse' }]);
  });
});

describe('what belongs to databases', () => {
  const block = (name: string): string => `DO $pgark$
BEGIN
  IF EXISTS (SELECT FROM pg_catalog.pg_database WHERE datname = '${name}') THEN
    ALTER DATABASE "${name}" OWNER TO "app";
    ALTER DATABASE "${name}" CONNECTION LIMIT 3;
    COMMENT ON DATABASE "${name}" IS 'sells; END IF;';
    REVOKE ALL ON DATABASE "${name}" FROM PUBLIC, "app";
    GRANT CONNECT ON DATABASE "${name}" TO PUBLIC;
    ALTER DATABASE "${name}" SET "my"."thing" TO 'x';
    ALTER ROLE "app" IN DATABASE "${name}" SET "search_path" TO 'a', 'b';
  END IF;
END
$pgark$;
`;
  const sql = APP + block('shop') + block('other');

  test('is given to those that are there, where that is asked for', () => {
    expect(plan(sql).map(({ kind }) => kind)).toEqual(['role']);
    const [, shop, ...more] = plan(sql, { choice: { databases: 'existing' } });
    expect(more).toEqual([]);
    expect(shop).toMatchObject({
      kind: 'database',
      name: 'shop',
      notes: [
        'the owner',
        'the connection limit',
        'the comment',
        'the revoked rights',
        'the right CONNECT of PUBLIC',
        'the setting my.thing',
        'the setting search_path of role app',
      ],
    });
    expect(sqlOf(shop === undefined ? [] : [shop]).at(-1)).toBe(
      `ALTER ROLE "app" IN DATABASE "shop" SET "search_path" TO 'a', 'b'`,
    );
  });

  test('is given to some alone, and nothing else', () => {
    expect(plan(sql, { choice: { databases: new Set(['shop', 'other']) } }).map(({ name }) => name)).toEqual(['shop']);
  });

  test('is given to no other database than the one that is looked for', () => {
    const foul = block('shop').replace('ALTER DATABASE "shop" OWNER', 'ALTER DATABASE "bank" OWNER');
    expect(plan(foul, { choice: { databases: 'existing' } })).toMatchObject([{ kind: 'statement', action: 'refuse' }]);
  });
});
