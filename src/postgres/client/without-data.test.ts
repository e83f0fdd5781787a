import { describe, expect, test } from 'vitest';
import { LastServerError, withoutData, withoutValues } from './without-data.ts';

/** What is left of what a program says. */
function leftOf(said: string): readonly string[] {
  const filter = withoutData();
  return said.split('\n').flatMap((line) => filter(line) ?? []);
}

describe('what a client program says', () => {
  test('names a statement that failed, and has no password of it, on however many lines', () => {
    const said = String.raw`pg_restore: while PROCESSING TOC:
pg_restore: from TOC entry 3412; 1418 16420 USER MAPPING USER MAPPING app SERVER s postgres
pg_restore: error: could not execute query: ERROR:  role "app" does not exist
Command was: CREATE USER MAPPING FOR app SERVER s OPTIONS (
    password 'hunter2
HINT: hunter3',
    "user" 'x'
);


pg_restore: error: could not execute query: ERROR:  permission denied
Command was: CREATE SUBSCRIPTION "my sub" CONNECTION 'host=x password=hunter4' PUBLICATION p;
pg_restore: warning: errors ignored on restore: 2`;
    expect(leftOf(said)).toEqual([
      'pg_restore: while PROCESSING TOC:',
      'pg_restore: from TOC entry 3412; 1418 16420 USER MAPPING USER MAPPING app SERVER s postgres',
      'pg_restore: error: could not execute query: ERROR:  role "app" does not exist',
      'Command was: CREATE USER MAPPING FOR app …',
      'pg_restore: error: could not execute query: ERROR:  permission denied',
      'Command was: CREATE SUBSCRIPTION "my sub" …',
      'pg_restore: warning: errors ignored on restore: 2',
    ]);
  });

  test.each([
    ["ALTER ROLE app PASSWORD 'hunter2'", 'ALTER ROLE app …'],
    ["SELECT 'hunter2'", 'SELECT …'],
    ["SELECT E'hunter2'", 'SELECT …'],
    ['DO $hunter2$', 'DO …'],
    ['INSERT INTO public.t VALUES (1);', 'INSERT INTO public.t …'],
    ['LOCK TABLE public.t IN ACCESS SHARE MODE', 'LOCK TABLE public.t …'],
    ['CREATE FUNCTION public.f(a text) RETURNS', 'CREATE FUNCTION public.f …'],
    ['', ' …'],
  ])('has what %s does, and to what', (sql, left) => {
    expect(leftOf(`pg_dump: detail: Query was: ${sql}`)).toEqual([`pg_dump: detail: Query was: ${left}`]);
  });

  test('says where a row was refused, and nothing of the row', () => {
    const said = `psql:<stdin>:12: ERROR:  new row for relation "t" violates check constraint "t_check"
DETAIL:  Failing row contains (7, secret
HINT:  more of it
DETAIL:  and more
CONTEXT:  COPY t, line 7: "7	secret\\nHINT: more of it"
psql:<stdin>:13: ERROR:  invalid input syntax for type integer: "a
secret"
CONTEXT:  COPY t, line 8, column c: "a\\nsecret"
ERROR:  of the row
psql:<stdin>:14: ERROR:  duplicate key value violates unique constraint "t_key"
DETAIL:  Key (mail, lower(name))=(secret, secret) already exists.
psql:<stdin>:15: ERROR:  permission denied to create role
DETAIL:  Only roles with the CREATEROLE attribute may create roles.
HINT:  Ask for it.`;
    expect(leftOf(said)).toEqual([
      'psql:<stdin>:12: ERROR:  new row for relation "t" violates check constraint "t_check"',
      'DETAIL:  Failing row contains …',
      'CONTEXT:  COPY t, line 7',
      'psql:<stdin>:13: ERROR:  invalid input syntax for type integer: …',
      'CONTEXT:  COPY t, line 8, column c',
      'psql:<stdin>:14: ERROR:  duplicate key value violates unique constraint "t_key"',
      'DETAIL:  Key (mail, lower(name))=…',
      'psql:<stdin>:15: ERROR:  permission denied to create role',
      'DETAIL:  Only roles with the CREATEROLE attribute may create roles.',
      'HINT:  Ask for it.',
    ]);
  });

  test('shows no excerpt, no query and no statement', () => {
    const said = `psql:<stdin>:5: ERROR:  function nope(unknown) does not exist
LINE 1: SELECT nope('secret');
               ^
HINT:  No function matches.
QUERY:  SELECT nope('secret
more of it')
CONTEXT:  PL/pgSQL function public.f(integer) line 2 at PERFORM
SQL statement "SELECT f('secret')"
psql:<stdin>:5: STATEMENT:  SELECT f('secret
more of it')`;
    expect(leftOf(said)).toEqual([
      'psql:<stdin>:5: ERROR:  function nope(unknown) does not exist',
      'HINT:  No function matches.',
      'CONTEXT:  PL/pgSQL function public.f(integer) line 2 at PERFORM',
    ]);
  });

  test('says no value where the server speaks another language', () => {
    const said = `psql:<stdin>:9: FEHLER:  ungültige Eingabesyntax für Typ integer: »geheim«
CONTEXT:  COPY t, Zeile 1, Spalte a: »geheim«
psql:<stdin>:12: FEHLER:  neue Zeile für Relation »t« verletzt Check-Constraint »t_check«
DETAIL:  Fehlgeschlagene Zeile enthält (7, geheim).
psql:<stdin>:13: FEHLER:  doppelter Schlüsselwert verletzt Unique-Constraint »t_key«
DETAIL:  Schlüssel »(mail)=(geheim)« existiert bereits.`;
    expect(leftOf(said)).toEqual([
      'psql:<stdin>:9: FEHLER:  ungültige Eingabesyntax für Typ integer: …',
      'psql:<stdin>:12: FEHLER:  neue Zeile für Relation »t« verletzt Check-Constraint »t_check«',
      'DETAIL:  Fehlgeschlagene Zeile enthält …',
      'psql:<stdin>:13: FEHLER:  doppelter Schlüsselwert verletzt Unique-Constraint »t_key«',
      'DETAIL:  Schlüssel …',
    ]);
  });

  test('by psql with VERBOSITY verbose reads as without, and tells the SQLSTATE and who said it', () => {
    const error = new LastServerError();
    const filter = withoutData(error);
    const said = `psql:<stdin>:9: HINWEIS:  00000: nur so
LOCATION:  exec_stmt_raise, pl_exec.c:3912
psql:<stdin>:10: WARNUNG:  25P01: keine Transaktion offen
LOCATION:  EndTransactionBlock, xact.c:4035
psql:<stdin>:11: FEHLER:  22003: Wert »12
geheim« ist außerhalb des gültigen Bereichs für Typ integer
LOCATION:  secret, secret.c:1
psql:<stdin>:12: FEHLER:  42704: Rolle »no»body« existiert nicht
DETAIL:  Das ist so.
SCHEMA NAME:  public
TABLE NAME:  t
CONSTRAINT NAME:  t_key
LOCATION:  get_role_oid, acl.c:5180`;
    const left = said.split('\n').flatMap((line) => filter(line) ?? []);
    expect(left).toEqual([
      'psql:<stdin>:9: NOTICE:  nur so',
      'psql:<stdin>:10: WARNUNG:  keine Transaktion offen',
      'psql:<stdin>:11: FEHLER:  Wert …',
      'psql:<stdin>:12: FEHLER:  Rolle »no»body« existiert nicht',
      'DETAIL:  Das ist so.',
    ]);
    expect(error.last).toEqual({ sqlState: '42704', routine: 'get_role_oid' });
  });

  test.each([
    ['nothing', 'HINWEIS:  00000: nur so', undefined],
    ['a warning', 'WARNUNG:  01000: nur so', undefined],
    ['a notice that is known', 'NOTICE:  42P07: relation "t" already exists, skipping', undefined],
    ['an error', 'FEHLER:  42P07: Relation »t« existiert bereits', '42P07'],
  ])('tells no SQLSTATE but that of an error: %s', (_, said, expected) => {
    const error = new LastServerError();
    const filter = withoutData(error);
    filter(`psql:<stdin>:8: ${said}`);
    filter('LOCATION:  heap_create_with_catalog, heap.c:1132');
    expect(error.last?.sqlState).toBe(expected);
  });

  test.each([
    ['a notice', 'HINWEIS:  42P07: Relation »t« existiert bereits, wird übersprungen', undefined],
    ['what ended the session', 'PANIK:  53100: konnte nicht in Datei »pg_wal/xlogtemp.7« schreiben', '53100'],
    [
      'what ended the session',
      'FATAL:  57P01: breche Verbindung ab aufgrund von Anweisung des Administrators',
      '57P01',
    ],
  ])('tells of a connection that was lost whether the server has said why: %s', (_, said, expected) => {
    const error = new LastServerError();
    const filter = withoutData(error);
    const lines = [`psql:<stdin>:8: ${said}`, 'psql:<stdin>:9: error: connection to server was lost'];
    for (const line of lines) filter(line);
    expect(error.last?.sqlState).toBe(expected);
  });

  test('is passed on where it quotes nothing', () => {
    const said = `Error: You must install at least one postgresql-client package
psql: error: connection to server at "localhost" (127.0.0.1), port 5432 failed: Connection refused
	Is the server running on that host and accepting TCP/IP connections?
WARNING:  database "shop" has a collation version mismatch
DETAIL:  The database was created using another collation version.
HINT:  Rebuild all objects.
pg_dump: warning: there are circular foreign-key constraints on this table:
pg_dump: detail: film`;
    expect(leftOf(said)).toEqual(said.split('\n'));
  });
});

describe('the words of the server', () => {
  test.each([
    ['invalid input syntax for type integer: "secret"', 'invalid input syntax for type integer: …'],
    ['invalid input value for enum "Mood": "secret"', 'invalid input value for enum "Mood": …'],
    ['value "999999999999" is out of range for type integer', 'value …'],
    ['"1e400" is out of range for type double precision', '… is out of range for type double precision'],
    ['"s" is not a valid binary digit', '… is not a valid binary digit'],
    ['time zone "secret" not recognized', 'time zone …'],
    [`unterminated quoted string at or near "'secret"`, 'unterminated quoted string at or near …'],
    [`Syntaxfehler bei »'secret'«`, 'Syntaxfehler bei …'],
    [`Syntaxfehler bei »E'secret'«`, 'Syntaxfehler bei …'],
    ['Syntaxfehler bei »$tag$secret$tag$«', 'Syntaxfehler bei …'],
    [`nicht abgeschlossene Zeichenkette bei »'a\nsecret«`, 'nicht abgeschlossene Zeichenkette bei …'],
    [`erreur de syntaxe sur ou près de « 'secret' »`, 'erreur de syntaxe sur ou près de …'],
    [`"'secret'"またはその近辺で構文エラー`, '…'],
    [`Syntaxfehler bei >>U&'secret'<<`, 'Syntaxfehler bei …'],
    ['invalid input syntax for type integer: "a\nsecret"', 'invalid input syntax for type integer: …'],
    ['value "a\nsecret" is out of range for type x', 'value …'],
    ['"a\nsecret" is out of range for type x', '… is out of range for type x'],
  ])('quote no value: %s', (words, left) => {
    expect(withoutValues(words)).toBe(left);
  });

  test.each([
    ['22003', 'Wert »1« ist außerhalb des gültigen Bereichs für Typ integer', 'Wert …'],
    ['22003', 'la valeur « 1 » est en dehors des limites pour le type integer', 'la valeur …'],
    ['22003', 'el valor «1» está fuera de rango para el tipo integer', 'el valor …'],
    ['22P02', '型"x"の値"1"は範囲外です', '型…'],
    ['22003', 'Wert >>1<< ist ausserhalb', 'Wert …'],
    ['22023', 'ungültiger Wert für Parameter »work_mem«', 'ungültiger Wert für Parameter »work_mem«'],
    ['42704', 'Rolle »x« existiert nicht', 'Rolle »x« existiert nicht'],
  ])('quote no value in any language where %s says that it is one: %s', (sqlState, words, left) => {
    expect(withoutValues(words, sqlState)).toBe(left);
  });

  test('are cut where there are too many, such as a function of a user may raise', () => {
    const row = '{"a":"b",'.repeat(100_000);
    const left = withoutValues(`bad row ${row}`);
    expect(left.length).toBeLessThanOrEqual(2_001);
  });

  test.each([
    'role "app" does not exist',
    'relation "t" already exists',
    '"t" is not a table',
    'syntax error at or near "NULLS"',
    'Syntaxfehler bei »NULLS«',
    'could not access file "$libdir/postgis-3": No such file or directory',
    'konnte nicht auf Datei »$libdir/postgis-3« zugreifen',
    'invalid locale name: "de_DE.utf8"',
    'invalid value for parameter "default_table_access_method": "heap2"',
    'null value in column "c" of relation "t" violates not-null constraint',
    'could not open file "base/1/2": Permission denied',
  ])('keep the names of things: %s', (words) => {
    expect(withoutValues(words)).toBe(words);
  });
});
