import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { quoteIdentifier, quoteLiteral } from '../../postgres/client/quote.ts';
import { sqlStatements } from './sql-statements.ts';
import { readStoredGlobals } from './stored-globals.ts';

const EMPTY = { memberships: [], parameterGrants: [], tablespaces: [], databases: [], unread: [] };
const ROLE = { flags: new Set(), connectionLimit: -1, labels: [], settings: [] };

describe('the SQL text of globals', () => {
  test('is read: roles with their attributes, comments, labels and settings', () => {
    const { roles, ...rest } = readStoredGlobals(`--
-- Roles
--

\\restrict abc'def
SET client_encoding = 'UTF8';
CREATE ROLE app;
ALTER ROLE app WITH NOSUPERUSER INHERIT NOCREATEROLE CREATEDB LOGIN NOREPLICATION NOBYPASSRLS CONNECTION LIMIT 7 PASSWORD 'md5''x' VALID UNTIL '2030-01-02 02:04:05+00';
COMMENT ON ROLE app IS E'it''s -- \\\\no\\\\ comment;
DROP ROLE app;';
SECURITY LABEL FOR anon ON ROLE app IS 'MASKED';
CREATE ROLE "we""ird; 'na/me";
ALTER ROLE "we""ird; 'na/me" WITH SUPERUSER NOINHERIT CONNECTION LIMIT -1;
ALTER ROLE app SET search_path TO 'app', '$user', 'A b';
ALTER ROLE app SET "my.thing" TO E'back \\\\ slash';
`);
    expect(rest).toEqual(EMPTY);
    expect(roles).toEqual([
      {
        name: 'app',
        flags: new Set(['INHERIT', 'CREATEDB', 'LOGIN']),
        connectionLimit: 7,
        password: expect.objectContaining({}),
        validUntil: '2030-01-02 02:04:05+00',
        comment: "it's -- \\no\\ comment;\nDROP ROLE app;",
        labels: [{ provider: 'anon', label: 'MASKED' }],
        settings: [
          { name: 'search_path', values: ['app', '$user', 'A b'] },
          { name: 'my.thing', values: ['back \\ slash'] },
        ],
      },
      { ...ROLE, name: `we"ird; 'na/me`, flags: new Set(['SUPERUSER']) },
    ]);
    expect(roles[0]?.password?.reveal()).toBe("md5'x");
    expect(JSON.stringify(roles)).not.toContain('md5');
  });

  test('is read: memberships of servers before and since PostgreSQL 16, of roles of any name', () => {
    const { memberships, unread } = readStoredGlobals(`
GRANT app TO reader;
GRANT app TO "we ird" WITH ADMIN OPTION GRANTED BY postgres;
GRANT "all" TO "public" WITH ADMIN OPTION, INHERIT FALSE, SET FALSE GRANTED BY "we ird";
GRANT set TO reader WITH INHERIT TRUE GRANTED BY postgres;
`);
    expect(unread).toEqual([]);
    expect(memberships).toEqual([
      { role: 'app', member: 'reader', admin: false, set: true },
      { role: 'app', member: 'we ird', admin: true, set: true, grantor: 'postgres' },
      { role: 'all', member: 'public', admin: true, inherit: false, set: false, grantor: 'we ird' },
      { role: 'set', member: 'reader', admin: false, inherit: true, set: true, grantor: 'postgres' },
    ]);
  });

  test('is read: tablespaces with all that belongs to them, and rights on parameters', () => {
    const { tablespaces, parameterGrants, databases, unread } = readStoredGlobals(`
CREATE TABLESPACE "fa st" OWNER app LOCATION '/srv/it''s';
ALTER TABLESPACE "fa st" SET (seq_page_cost=3, random_page_cost='1.5');
REVOKE ALL ON TABLESPACE "fa st" FROM app;
SET SESSION AUTHORIZATION app;
GRANT ALL ON TABLESPACE "fa st" TO PUBLIC;
RESET SESSION AUTHORIZATION;
GRANT CREATE ON TABLESPACE "fa st" TO reader WITH GRANT OPTION;
COMMENT ON TABLESPACE "fa st" IS 'quick';
GRANT SET ON PARAMETER "my.x" TO PUBLIC;
GRANT ALTER SYSTEM ON PARAMETER work_mem TO reader WITH GRANT OPTION;
DO $pgark$
BEGIN
  IF EXISTS (SELECT FROM pg_catalog.pg_database WHERE datname = 'shop') THEN
    ALTER DATABASE "shop" OWNER TO "app";
  END IF;
END
$pgark$;
`);
    expect(unread).toEqual([]);
    expect(tablespaces).toEqual([
      {
        name: 'fa st',
        owner: 'app',
        location: "/srv/it's",
        options: "(seq_page_cost=3, random_page_cost='1.5')",
        revokedFrom: ['app'],
        grants: [
          { privilege: 'ALL', grantable: false },
          { privilege: 'CREATE', grantee: 'reader', grantable: true },
        ],
        comment: 'quick',
        labels: [],
      },
    ]);
    expect(databases).toEqual([
      {
        name: 'shop',
        settings: [],
        statements: [{ what: 'the owner', sql: 'ALTER DATABASE "shop" OWNER TO "app"' }],
      },
    ]);
    expect(parameterGrants).toEqual([
      { parameter: 'my.x', privilege: 'SET', grantable: false },
      { parameter: 'work_mem', privilege: 'ALTER SYSTEM', grantee: 'reader', grantable: true },
    ]);
  });

  test.each([
    ["ALTER ROLE app WITH LOGIN PASSWORD 'secret' UNKNOWN;", 'ALTER ROLE'],
    ["CREATE ROLE app PASSWORD 'secret';", 'CREATE ROLE'],
    ["SELECT 'secret';", 'SELECT'],
    ['ALTER TABLESPACE t SET (a=1); DROP ROLE x;', 'ALTER TABLESPACE'],
    ["CREATE TABLESPACE t OWNER o LOCATION '/x'; ALTER TABLESPACE t SET (a=b); DROP ROLE x;", 'DROP ROLE'],
    ["CREATE TABLESPACE t OWNER o LOCATION '/x'; ALTER TABLESPACE t SET (a=1) SET (b=f(1));", 'ALTER TABLESPACE'],
    ['GRANT app TO reader WITH SOMETHING TRUE;', 'GRANT'],
  ])('of which a part is not known is read to there, and told of by its first words: %s', (sql, words) => {
    expect(readStoredGlobals(sql).unread).toContain(words);
  });

  test.each([
    ["COMMENT ON ROLE a IS 'x", 'a quoted text'],
    ['CREATE ROLE a', 'a statement'],
  ])('that ends too early is refused: %s', (sql, where) => {
    expect(() => readStoredGlobals(sql)).toThrow(`ends within ${where}`);
  });

  test('is read whatever roles and their values are called', () => {
    const anyText = fc.string({ unit: 'grapheme', minLength: 1 }).filter((text) => !text.includes('\0'));
    fc.assert(
      fc.property(anyText, anyText, anyText, (name, member, value) => {
        const [role, to] = [quoteIdentifier(name), quoteIdentifier(member)];
        const text = [
          `CREATE ROLE ${role}`,
          `ALTER ROLE ${role} WITH LOGIN PASSWORD ${quoteLiteral(value)}`,
          `COMMENT ON ROLE ${role} IS ${quoteLiteral(value)}`,
          `ALTER ROLE ${role} SET x TO ${quoteLiteral(value)}, ${quoteLiteral(name)}`,
          `GRANT ${role} TO ${to} GRANTED BY ${to}`,
        ];
        const read = readStoredGlobals(text.map((each) => `${each};\n`).join(''));
        expect(read.unread).toEqual([]);
        expect(read.roles[0]?.password?.reveal()).toBe(value);
        expect(read.roles).toMatchObject([
          { name, comment: value, settings: [{ name: 'x', values: [value, name] }], flags: new Set(['LOGIN']) },
        ]);
        expect(read.memberships).toMatchObject([{ role: name, member, grantor: member }]);
      }),
    );
  });

  test('which is none ends with an error or is told of, and never hangs', () => {
    const piece = fc.constantFrom(
      'CREATE ROLE ',
      "'",
      '"',
      '$x$',
      '$',
      ';',
      '--',
      '\n',
      "E'",
      '\\',
      'a',
      ' ',
      '(',
      'é',
    );
    fc.assert(
      fc.property(fc.array(piece), (pieces) => {
        try {
          expect(sqlStatements(pieces.join('')).every((tokens) => tokens.length > 0)).toBe(true);
        } catch (error) {
          expect(error).toMatchObject({ code: 'restore-failed' });
        }
      }),
    );
  });
});
