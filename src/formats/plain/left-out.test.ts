import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { editsLeavingOut, type LeftOut, optionsLeavingOut } from './left-out.ts';
import { withStatementsEdited } from './sql-script.ts';

async function without(leftOut: LeftOut, script: string, chunkBytes = script.length): Promise<string> {
  const bytes = Buffer.from(script);
  async function* chunks() {
    for (let at = 0; at < bytes.length; at += chunkBytes) yield Uint8Array.from(bytes.subarray(at, at + chunkBytes));
  }
  const out: Uint8Array[] = [];
  for await (const piece of withStatementsEdited(editsLeavingOut(leftOut))(chunks())) out.push(Buffer.from(piece));
  return Buffer.concat(out).toString();
}

const OWNERS = [
  'ALTER TABLE public.t OWNER TO bob;',
  'ALTER FUNCTION m.f(a integer, b "x;y") OWNER TO "O\'Brien; ""the"" boss";',
  'ALTER EVENT TRIGGER "on\nDDL" OWNER TO bob;',
  'ALTER LARGE OBJECT 5 OWNER TO bob;',
  'ALTER OPERATOR public.=== (integer, integer) OWNER TO "Ö";',
];
const PRIVILEGES = [
  'GRANT SELECT,INSERT ON TABLE public.t TO "a;b";',
  'REVOKE ALL ON SCHEMA public FROM PUBLIC;',
  'ALTER DEFAULT PRIVILEGES FOR ROLE bob IN SCHEMA m GRANT SELECT ON TABLES TO alice;',
];
const SESSION = ['SET SESSION AUTHORIZATION bob;', 'RESET SESSION AUTHORIZATION;'];
/** What only reads alike. */
const KEPT = [
  'CREATE TABLE public.t (a int);',
  "ALTER TABLE ONLY t ALTER COLUMN c SET DEFAULT ' OWNER TO bob';",
  'ALTER TABLE t RENAME TO " OWNER TO bob";',
  'CREATE FUNCTION f() RETURNS void LANGUAGE sql AS $_$\nALTER TABLE t OWNER TO bob;\nGRANT ALL ON t TO bob;\n$_$;',
  'COPY t (a) FROM stdin;\nALTER TABLE t OWNER TO bob;\nGRANT ALL ON t TO bob;\n\\.',
  "SELECT '\nGRANT ALL ON t TO bob;\n';",
  '-- GRANT ALL ON t TO bob;',
  'CREATE POLICY p ON t TO bob;',
  "SET default_tablespace = '';",
];
const ALL = [...KEPT.slice(0, 3), ...OWNERS, ...KEPT.slice(3, 6), ...SESSION, ...PRIVILEGES, ...KEPT.slice(6)].join(
  '\n',
);
const BOTH = { owners: true, privileges: true };

describe('a dump without its owners and grants', () => {
  test('lacks exactly those statements, and keeps its lines', async () => {
    const result = await without(BOTH, ALL);
    expect(result.split('\n').filter((line) => line !== '')).toEqual(KEPT.join('\n').split('\n'));
    expect(result.split('\n')).toHaveLength(ALL.split('\n').length);
  });

  test('may lack one of both only', async () => {
    const owners = await without({ owners: true, privileges: false }, ALL);
    for (const statement of PRIVILEGES) expect(owners).toContain(statement);
    expect(owners).not.toContain('LARGE OBJECT 5');
    const privileges = await without({ owners: false, privileges: true }, ALL);
    for (const statement of OWNERS) expect(privileges).toContain(statement);
    expect(privileges).not.toContain('REVOKE');
    expect(await without({ owners: false, privileges: false }, ALL)).toBe(ALL);
  });

  test('may lie in other tablespaces than it did', async () => {
    const tablespaces = ['SET default_tablespace = "fa;st";', 'SET default_tablespace = fast;'];
    const script = [...KEPT.slice(0, 8), ...tablespaces, ...OWNERS].join('\n');
    const result = await without({ owners: false, privileges: false, tablespaces: true }, script);
    expect(result.split('\n').filter((line) => line !== '')).toEqual(
      [...KEPT.slice(0, 8), ...OWNERS].join('\n').split('\n'),
    );
    expect(optionsLeavingOut({ owners: false, privileges: false, tablespaces: true })).toEqual(['--no-tablespaces']);
  });

  test('is the same wherever its blocks end', async () => {
    const whole = await without(BOTH, ALL);
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: 120 }), async (chunkBytes) => {
        expect(await without(BOTH, ALL, chunkBytes)).toBe(whole);
      }),
    );
  });

  test('is asked of pg_restore by its own options', () => {
    expect(optionsLeavingOut(BOTH)).toEqual(['--no-owner', '--no-privileges']);
    expect(optionsLeavingOut(undefined)).toEqual([]);
  });
});
