import { expect, test } from 'vitest';
import { escapeIdentifier } from 'pg';
import { fileStorage } from '../support/storage.ts';
import { done, factsOf } from './matrix-place.ts';
import { readMatrixFolders, startMatrixServer } from './matrix-servers.ts';

const folders = await readMatrixFolders();
const newest = [...folders.clients.values()].at(-1);
if (newest === undefined) throw new Error('no client');

interface Making {
  readonly since: number;
  readonly options: string;
  /** What the encoding can hold. */
  readonly text: string;
}

const MAKINGS: readonly Making[] = [
  { since: 13, options: `ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'`, text: `'Ü'` },
  { since: 13, options: `ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'`, text: `E'\\xff\\xfe'` },
  { since: 13, options: `ENCODING 'EUC_JP' LC_COLLATE 'C' LC_CTYPE 'C'`, text: `'日本'` },
  { since: 13, options: `ENCODING 'UTF8' LC_COLLATE 'POSIX' LC_CTYPE 'POSIX'`, text: `'日本'` },
  { since: 13, options: 'TABLESPACE "matrix space"', text: `'elsewhere'` },
  { since: 15, options: `LOCALE_PROVIDER icu ICU_LOCALE 'de-u-co-phonebk'`, text: `'Ä'` },
  { since: 16, options: `LOCALE_PROVIDER icu ICU_LOCALE 'en-US' ICU_RULES '&a < g'`, text: `'g'` },
  { since: 17, options: `LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8'`, text: `'Ä'` },
  { since: 18, options: `LOCALE_PROVIDER builtin BUILTIN_LOCALE 'PG_UNICODE_FAST'`, text: `'Ä'` },
];

test.each([...folders.servers])(
  'PostgreSQL %i: encoding, locale, provider and tablespace stay as they were',
  { timeout: 300_000 },
  async (major, binDir) => {
    await using server = await startMatrixServer(major, binDir);
    await server.query('ALTER SYSTEM SET allow_in_place_tablespaces = on');
    await server.query('SELECT pg_reload_conf()');
    await server.query(`CREATE TABLESPACE "matrix space" LOCATION ''`);
    for (const [index, { since, options, text }] of MAKINGS.entries()) {
      if (major < since) continue;
      await using storage = await fileStorage();
      const database = `made ${index} ${options}`.slice(0, 40);
      await server.createDatabase(database, options);
      await server.query(
        `CREATE TABLE t AS SELECT ${text}::text AS t; ALTER DATABASE ${escapeIdentifier(database)} SET work_mem TO '7MB'`,
        database,
      );
      const place = { server, database, storage };
      const [facts, rows] = [
        await factsOf(server, database),
        await server.query('SELECT t::bytea AS t FROM t', database),
      ];
      await done(place, newest, ['backup']);
      await done(place, newest, ['restore', 'latest', '--in-place', '--yes', database, '--drop-old']);
      expect(await factsOf(server, database)).toEqual(facts);
      expect(await server.query('SELECT t::bytea AS t FROM t', database)).toEqual(rows);
      await done(place, newest, ['restore', 'latest', '--to-db', 'copy']);
      const kept = ['encoding', 'datcollate', 'datctype', 'datlocprovider', 'locale', 'daticurules'] as const;
      const pick = (all: unknown) => (all as Record<string, unknown>[]).map((row) => kept.map((name) => row[name]));
      expect(pick(await factsOf(server, 'copy'))).toEqual(pick(facts));
      await server.query('DROP DATABASE copy');
    }
  },
);

const [oldest, latest] = [[...folders.servers][0], [...folders.servers].at(-1)];

test.runIf(oldest !== undefined && latest !== undefined && oldest[0] < 15 && latest[0] >= 17)(
  'a database of a locale provider that an older server lacks is made with libc’s locale, with a warning',
  { timeout: 300_000 },
  async () => {
    if (oldest === undefined || latest === undefined) return;
    await using source = await startMatrixServer(...latest);
    await using target = await startMatrixServer(...oldest);
    for (const [provider, options] of [
      ['icu', `LOCALE_PROVIDER icu ICU_LOCALE 'de'`],
      ['builtin', `LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8'`],
    ] as const) {
      await using storage = await fileStorage();
      await source.createDatabase(provider, options);
      await source.query(`CREATE TABLE t AS SELECT 'Ä'::text AS t`, provider);
      await done({ server: source, database: provider, storage }, newest, ['backup']);
      const restored = await done({ server: target, database: 'postgres', storage }, newest, [
        'restore',
        provider,
        'latest',
        '--to-url',
        target.url(provider),
      ]);
      expect(restored.stderr).toContain(`has no databases of locale provider ${provider}`);
      expect(await target.query('SELECT t FROM t', provider)).toEqual([{ t: 'Ä' }]);
    }
  },
);
