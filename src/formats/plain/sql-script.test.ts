import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { isPgarkError } from '../../common/errors.ts';
import type { Transform } from '../../pipeline/transform.ts';
import { refuseTruncatedScript, withoutTransactionCommands } from './sql-script.ts';

async function run(transform: Transform, script: string, chunkBytes = 7): Promise<string> {
  const bytes = Buffer.from(script);
  async function* chunks(): AsyncGenerator<Uint8Array> {
    for (let start = 0; start < bytes.length; start += chunkBytes) {
      yield Uint8Array.from(bytes.subarray(start, start + chunkBytes));
    }
  }
  const out: Uint8Array[] = [];
  for await (const block of transform(chunks())) out.push(block);
  return Buffer.concat(out).toString();
}

const transacted = (script: string, chunkBytes?: number): Promise<string> =>
  run(withoutTransactionCommands(), script, chunkBytes);
const checked = (script: string, chunkBytes?: number): Promise<string> =>
  run(refuseTruncatedScript('old.sql'), script, chunkBytes);

/** Statements whose text holds what looks like an end or a transaction command and is none. */
const STATEMENTS = [
  `SELECT 'it''s; COMMIT;' ;`,
  `SELECT E'it\\'s; \\\\' , 'COMMIT;\nBEGIN;\n';`,
  `SELECT E'a'\n  'b\\'; COMMIT;';`,
  `SELECT 1 AS "semi;colon ""COMMIT;""";`,
  `CREATE FUNCTION f() RETURNS void LANGUAGE plpgsql AS $$\nBEGIN\n  COMMIT;\nEND;\n$$;`,
  `CREATE FUNCTION f() RETURNS text LANGUAGE sql AS $_x1$ SELECT $$COMMIT;$$; $y$ $_x1$;`,
  `CREATE OR REPLACE FUNCTION f(a int) RETURNS int BEGIN ATOMIC\nSELECT CASE WHEN true THEN 1 ELSE 2 END;\nSELECT 2;\nEND;`,
  `CREATE PROCEDURE p() BEGIN ATOMIC\nINSERT INTO t VALUES (1);\nEND;`,
  `CREATE RULE r AS ON INSERT TO t DO ALSO (SELECT 1; SELECT 2);`,
  `/* COMMIT; /* nested */ ; */ SELECT 1;`,
  `SELECT 1 -- COMMIT;\n;`,
  `SELECT 5 * /* ; */ 3 - -2 / $1;`,
  `SELECT begin$not$a$quote FROM "end";`,
  `COPY public.t (a) FROM stdin;\nCOMMIT;\n\\\\.\n\\N\n'$$"/*\n\\.\n`,
  `COPY public.empty (a) FROM stdin;\n\\.\n`,
  `COPY t FROM stdin WITH (FORMAT csv);\r\n"COMMIT;"\r\n\\.\r\n`,
  `COPY t (${Array.from({ length: 90 }, (_, index) => `c${index}`).join(', ')}) FROM stdin;\nCOMMIT;\n\\.\n`,
  `COPY (SELECT 1 FROM stdin_like) TO STDOUT;`,
  `SET standard_conforming_strings = on;`,
  `SET x = 'BEGIN;';`,
  `SAVEPOINT a;`,
  `ROLLBACK TO SAVEPOINT a;`,
  `PREPARE q AS SELECT 1;`,
  `INSERT INTO t VALUES ('Ünïcödé 日本語 🐘;', 'x');`,
  `ALTER TABLE ü ADD COLUMN commit int;`,
];
const scripts = fc.array(fc.constantFrom(...STATEMENTS), { maxLength: 12 });

describe('a script in one transaction', () => {
  test('statements pass unchanged, however the blocks are cut', async () => {
    await fc.assert(
      fc.asyncProperty(scripts, fc.integer({ min: 1, max: 80 }), async (statements, chunkBytes) => {
        const script = statements.map((each) => `${each}\n`).join('\n');
        expect(await transacted(script, chunkBytes)).toBe(script);
      }),
      { numRuns: 300 },
    );
  });

  test('also where blocks are long, and cut anywhere', async () => {
    const long = fc.array(fc.constantFrom(...STATEMENTS), { minLength: 30, maxLength: 90 });
    await fc.assert(
      fc.asyncProperty(long, fc.integer({ min: 500, max: 5_000 }), async (statements, chunkBytes) => {
        const script = statements.map((each) => `${each}\nCOMMIT;\n`).join('');
        expect(await transacted(script, chunkBytes)).toBe(statements.map((each) => `${each}\n\n`).join(''));
      }),
      { numRuns: 200 },
    );
  });

  test('commands that begin or commit a transaction are left out, however the blocks are cut', async () => {
    const commands = fc.constantFrom(
      'BEGIN;',
      'COMMIT;',
      'begin transaction;',
      'START TRANSACTION READ WRITE;',
      'END;',
    );
    const pieces = fc.array(fc.tuple(fc.constantFrom(...STATEMENTS), commands), { maxLength: 8 });
    await fc.assert(
      fc.asyncProperty(pieces, fc.integer({ min: 1, max: 80 }), async (pairs, chunkBytes) => {
        const script = pairs.map(([statement, command]) => `${statement}\n${command}\n`).join('');
        const expected = pairs.map(([statement]) => `${statement}\n\n`).join('');
        expect(await transacted(script, chunkBytes)).toBe(expected);
      }),
      { numRuns: 300 },
    );
  });

  test('large objects as pg_dump writes them lose their own transaction', async () => {
    const dump = `BEGIN;\n\nSELECT pg_catalog.lo_open('7', 131072);\nSELECT pg_catalog.lowrite(0, '\\x00ff');\nSELECT pg_catalog.lo_close(0);\n\nCOMMIT;\n`;
    expect(await transacted(dump)).toBe(dump.replace('BEGIN;', '').replace('COMMIT;', ''));
  });

  test.each(['ROLLBACK;', 'ABORT;', `PREPARE TRANSACTION 'x';`, `COMMIT PREPARED 'x';`])(
    '%s is refused, since it would undo what was loaded',
    async (command) => {
      const error = await transacted(`SELECT 1;\n${command}\n`).catch((thrown: unknown) => thrown);
      expect(error).toMatchObject({ code: 'restore-failed' });
      expect(String(error)).toContain(command);
    },
  );

  test('backslashes are escapes where the script says so', async () => {
    const script = `SET standard_conforming_strings = off;\nSELECT 'a\\';\nCOMMIT;\n';\n`;
    expect(await transacted(script)).toBe(script);
    const standard = `SELECT 'a\\';\nCOMMIT;\nSELECT 2;\n`;
    expect(await transacted(standard)).toBe(`SELECT 'a\\';\n\nSELECT 2;\n`);
  });

  test('a script that breaks off is refused, so that the COMMIT behind it cannot become a row', async () => {
    await expect(transacted('COPY t FROM stdin;\n1\n')).rejects.toMatchObject({ code: 'corrupt' });
    await expect(transacted('INSERT INTO t VALUES (1')).rejects.toMatchObject({ code: 'corrupt' });
  });
});

describe('a script of another tool', () => {
  test('wherever it is cut inside a statement or its rows, it is refused', async () => {
    await fc.assert(
      fc.asyncProperty(
        scripts,
        fc.constantFrom(...STATEMENTS),
        fc.double({ min: 0, max: 1, noNaN: true }),
        fc.integer({ min: 1, max: 80 }),
        async (before, statement, share, chunkBytes) => {
          const bytes = Buffer.from(statement);
          const start = statement.startsWith('/*') ? statement.indexOf('SELECT') : 0;
          // The newline behind `\.` may be missing.
          const end = statement.trimEnd().length - 1 - (statement.includes('\\.') ? 1 : 0);
          const cut = start + 1 + Math.floor(share * (Buffer.byteLength(statement.slice(0, end)) - start - 1));
          const script = `${before.map((each) => `${each}\n`).join('')}${bytes.subarray(0, cut).toString('latin1')}`;
          const error = await checked(script, chunkBytes).catch((thrown: unknown) => thrown);
          expect(isPgarkError(error, 'corrupt')).toBe(true);
        },
      ),
      { numRuns: 500 },
    );
  });

  test('a whole one passes unchanged', async () => {
    const script = `--\n-- PostgreSQL database dump\n--\n\n${STATEMENTS.join('\n')}\n-- ${'x'.repeat(9000)}\n\n--\n-- PostgreSQL database dump complete\n--\n\n`;
    for (const chunkBytes of [1, 100, 5000, 100_000]) expect(await checked(script, chunkBytes)).toBe(script);
    expect(await checked('SELECT 1;')).toBe('SELECT 1;');
    expect(await checked('COPY t FROM stdin;\n1\n\\.')).toBe('COPY t FROM stdin;\n1\n\\.');
  });

  test('one that begins as pg_dump’s and lacks its closing line is refused, although it ends between statements', async () => {
    const script = '--\n-- PostgreSQL database dump\n--\n\nSELECT 1;\n\n';
    await expect(checked(script)).rejects.toMatchObject({ code: 'corrupt' });
    await expect(checked(script)).rejects.toThrow('old.sql is truncated');
    expect(await checked(script.replace('--\n-- PostgreSQL', '--\n-- Somebody’s'))).toContain('SELECT 1;');
  });

  test('what is no script at all is not called a truncated one', async () => {
    const text = 'Read me first.\n\nThese are the backups of the shop, made every night.\n';
    for (const chunkBytes of [1, 1000]) {
      await expect(checked(text, chunkBytes)).rejects.toThrow('old.sql does not look like a dump');
    }
    await expect(checked('\n  create table a (x int)')).rejects.toThrow('old.sql is truncated');
  });

  test('the message says where it broke off', async () => {
    await expect(checked('COPY t FROM stdin;\n1\n')).rejects.toThrow(
      'old.sql is truncated: it ends in the middle of the rows of a table',
    );
    await expect(checked('SELECT 1')).rejects.toThrow('old.sql is truncated: it ends in the middle of a statement');
  });
});
