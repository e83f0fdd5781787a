import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { editsAtDump, editsAtLoad, preambleFor } from './server-fit.ts';
import { withStatementsEdited } from './sql-script.ts';

/** The text as it is loaded into a server of this major version, handed over in chunks. */
async function fitted(script: string, serverMajor = 18, chunkBytes = script.length): Promise<string> {
  const bytes = Buffer.from(script);
  async function* chunks() {
    for (let at = 0; at < bytes.length; at += chunkBytes) yield Uint8Array.from(bytes.subarray(at, at + chunkBytes));
  }
  const out: Uint8Array[] = [];
  for await (const piece of withStatementsEdited(editsAtLoad(serverMajor))(chunks())) out.push(Buffer.from(piece));
  return Buffer.concat(out).toString();
}

const VERSIONED = `CREATE TABLE m.a (
    id integer NOT NULL
);
ALTER TABLE ONLY m.a ALTER COLUMN id SET (pg_attver=28791064);
ALTER FOREIGN TABLE ONLY "Ö "";'s"."t
x" ALTER COLUMN " ALTER COLUMN c SET (pg_attver=1);" SET (pg_attver=28880464);
ALTER TABLE ONLY m.typed ALTER COLUMN b SET (pg_attver=28666088, n_distinct=-0.5);
ALTER TABLE ONLY m.typed ALTER COLUMN b SET (n_distinct=-0.5, pg_attver=28666088, n_distinct_inherited=1);
ALTER TABLE ONLY m.typed ALTER COLUMN b SET STATISTICS 77;
`;
const UNVERSIONED = `CREATE TABLE m.a (
    id integer NOT NULL
);



ALTER TABLE ONLY m.typed ALTER COLUMN b SET (n_distinct=-0.5);
ALTER TABLE ONLY m.typed ALTER COLUMN b SET (n_distinct=-0.5, n_distinct_inherited=1);
ALTER TABLE ONLY m.typed ALTER COLUMN b SET STATISTICS 77;
`;

/** Nothing of this is a statement with a version of a column. */
const ALIKE = `COPY t (a) FROM stdin;
ALTER TABLE ONLY m.a ALTER COLUMN id SET (pg_attver=1);
\\.
-- ALTER TABLE ONLY m.a ALTER COLUMN id SET (pg_attver=1);
SELECT '
ALTER TABLE ONLY m.a ALTER COLUMN id SET (pg_attver=1);';
CREATE FUNCTION f() RETURNS void LANGUAGE sql AS $_$
ALTER TABLE ONLY m.a ALTER COLUMN id SET (pg_attver=1);
CREATE SUBSCRIPTION s CONNECTION '' PUBLICATION p WITH (connect = false, run_as_owner = true);
$_$;
ALTER TABLE ONLY t ALTER COLUMN c SET DEFAULT ' SET (pg_attver=1)';
ALTER TABLE ONLY t ADD CONSTRAINT c CHECK ((x <> 'ALTER COLUMN c SET (pg_attver=1);'));
ALTER TABLE ONLY t ALTER COLUMN c SET (pg_attver_of_mine=1);
`;

const SUBSCRIPTION = (options: string, name = '"s; s"'): string =>
  `CREATE SUBSCRIPTION ${name} CONNECTION 'host=x password=''; , run_as_owner = true' PUBLICATION ", streaming = off" WITH (connect = false, slot_name = 'a'${options});\n`;

describe('a dump made fit for a server', () => {
  test('also in statements that lie across several long blocks', async () => {
    const name = 'n'.repeat(5_000);
    const script = (options: string): string => `${SUBSCRIPTION(options, name)}${SUBSCRIPTION(options, name)}`;
    for (const chunkBytes of [1_500, 2_000, 4_000, 6_000]) {
      const result = await fitted(script(', run_as_owner = true'), 15, chunkBytes);
      expect(result === script('')).toBe(true);
    }
  });

  test('has no versions of columns, and the same lines', async () => {
    const result = await fitted(VERSIONED);
    expect(result).toBe(UNVERSIONED);
    expect(result.split('\n')).toHaveLength(VERSIONED.split('\n').length);
  });

  test('is the same wherever its blocks end', async () => {
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: 200 }), async (chunkBytes) => {
        expect(await fitted(VERSIONED, 18, chunkBytes)).toBe(UNVERSIONED);
        expect(await fitted(ALIKE, 13, chunkBytes)).toBe(ALIKE);
      }),
    );
  });

  test('keeps what only looks like one: rows, strings, comments, bodies, other settings', async () => {
    expect(await fitted(ALIKE, 13)).toBe(ALIKE);
  });

  test('passes a statement too long to be looked at as it is', async () => {
    const long = `ALTER TABLE ONLY t ALTER COLUMN c SET DEFAULT '${'x'.repeat(20_000)}';\n`;
    expect(await fitted(long + VERSIONED, 18, 1_000)).toBe(long + UNVERSIONED);
  });

  test.each([
    [13, ''],
    [14, ', streaming = off'],
    [15, ', streaming = off'],
    [16, ', streaming = off, run_as_owner = true'],
    [18, ', streaming = off, run_as_owner = true'],
  ])('says of subscriptions what a server of %i knows', async (serverMajor, kept) => {
    const given = SUBSCRIPTION(', streaming = off, run_as_owner = true, binary = true');
    expect(await fitted(given, serverMajor)).toBe(SUBSCRIPTION(`${kept}, binary = true`));
  });

  test('is edited at the dump only where pg_dump is out of step with its server', () => {
    const release = (major: number, minor: number) => ({ major, minor });
    const edits = (server: ReturnType<typeof release>, writtenBy: ReturnType<typeof release>) =>
      editsAtDump({ kind: 'sql', server, writtenBy }).length;
    expect(edits(release(15, 20), release(15, 20))).toBe(0);
    expect(edits(release(15, 18), release(15, 20))).toBe(0);
    expect(edits(release(15, 20), release(15, 18))).toBe(1);
    expect(edits(release(15, 20), release(18, 6))).toBe(1);
    expect(editsAtDump({ kind: 'sql' })).toEqual([]);
  });
});

describe('what is done before a dump is loaded', () => {
  test('takes CREATE on schema public away where pg_dump took that for granted and the server grants it', () => {
    const preamble = (writtenBy: number, serverMajor: number) =>
      preambleFor({ kind: 'sql', writtenBy: { major: writtenBy, minor: 1 } }, serverMajor);
    expect(preamble(15, 14)).toContain('REVOKE CREATE ON SCHEMA public FROM PUBLIC');
    expect(preamble(18, 13)).toMatch(/^DO .*;\n$/);
    expect(preamble(14, 14)).toBe('');
    expect(preamble(18, 15)).toBe('');
    expect(preambleFor({ kind: 'sql' }, 13)).toBe('');
  });
});
