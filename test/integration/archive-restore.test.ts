import { generateX25519Identity, identityToRecipient } from 'age-encryption';
import { describe, expect, test } from 'vitest';
import { Secret } from '../../src/common/secret.ts';
import { operationContext } from '../../src/operations/context.ts';
import { verify } from '../../src/operations/verify.ts';
import { ageSealer } from '../../src/pipeline/encryption/age-sealer.ts';
import { opensslSealer } from '../../src/pipeline/encryption/openssl-sealer.ts';
import { filePlace, linesOf, NO_KEYS, restoreInto } from '../support/archive-restoring.ts';
import { warningsTo } from '../support/archives.ts';
import { makeConfigExtension } from '../support/config-extension.ts';
import { createDatabase, createRole } from '../support/postgres.ts';
import { futureDatabase } from '../support/restoring.ts';
import { RICH_SQL } from '../support/rich-database.ts';
import { makeStockArchive } from '../support/stock-archive.ts';

describe('a backup of format directory', () => {
  test('of a rich database comes back the same, with one connection and with four, in pieces and whole', async () => {
    await using place = await filePlace();
    await using source = await createDatabase({ sql: RICH_SQL });
    const expected = await linesOf(source);
    for (const options of [{ pieceRows: 7, jobs: 4 }, { jobs: 1 }]) {
      await using restored = futureDatabase();
      await makeStockArchive(source, place.store, {
        ...options,
        seal: { compression: { algorithm: 'zstd', level: 3 } },
      });
      await restoreInto(restored, place.store, { jobs: options.jobs });
      expect(await linesOf(restored)).toEqual(expected);
    }
  });

  test.each(['age', 'openssl'] as const)(
    'that %s has encrypted opens with the key, and with no other',
    async (scheme) => {
      await using place = await filePlace();
      await using source = await createDatabase({ sql: 'CREATE TABLE t AS SELECT generate_series(1, 1000) AS a' });
      await using restored = futureDatabase();
      const identity = await generateX25519Identity();
      const passphrase = new Secret('a passphrase of more than thirty-two characters');
      const sealer =
        scheme === 'age'
          ? await ageSealer({ recipients: [await identityToRecipient(identity)] })
          : await opensslSealer({ passphrase });
      await makeStockArchive(source, place.store, { seal: { compression: { algorithm: 'gzip', level: 1 }, sealer } });
      await expect(restoreInto(restored, place.store)).rejects.toMatchObject({ code: 'key-missing' });
      const wrong =
        scheme === 'age'
          ? { identities: [new Secret(await generateX25519Identity())], passphrases: [] }
          : { identities: [], passphrases: [new Secret('another one of more than thirty-two characters')] };
      await expect(restoreInto(restored, place.store, { keys: wrong })).rejects.toMatchObject({ code: 'wrong-key' });
      const keys = { identities: [new Secret(identity)], passphrases: [passphrase] };
      await restoreInto(restored, place.store, { keys });
      expect(await linesOf(restored)).toEqual(await linesOf(source));
      // Without a key the stored bytes are proven all the same.
      const request = { store: place.store, filter: {}, selector: undefined, deep: true };
      const context = operationContext();
      expect((await verify({ ...request, keys }, context)).backups).toMatchObject([
        { depth: 'read', failure: undefined },
      ]);
      const locked = await verify({ ...request, keys: NO_KEYS }, context);
      expect(locked.backups).toMatchObject([{ depth: 'stored', failure: undefined }]);
    },
  );

  test('of another encoding keeps every character, also in names', async () => {
    await using place = await filePlace();
    await using source = await createDatabase({
      createOptions: `TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'`,
      sql: `CREATE TABLE "Größe" ("Maß" text); INSERT INTO "Größe" SELECT chr(i) FROM generate_series(1, 255) i`,
    });
    await using restored = futureDatabase();
    await makeStockArchive(source, place.store);
    await restoreInto(restored, place.store);
    expect(await linesOf(restored)).toEqual(await linesOf(source));
  });

  test('of a database whose owner is not there says to whom the new one belongs', async () => {
    await using place = await filePlace();
    const owner = await createRole();
    await using source = await createDatabase({ name: 'src', sql: 'CREATE TABLE t AS SELECT 1 AS a' });
    const name = (identifier: string): string => `"${identifier.replaceAll('"', '""')}"`;
    await source.query(`ALTER DATABASE ${name(source.name)} OWNER TO ${name(owner.user)}`);
    await makeStockArchive(source, place.store);
    const warnings: string[] = [];
    const context = { logger: warningsTo(warnings) };
    await using like = futureDatabase();
    await restoreInto(like, place.store, { context });
    expect(warnings).toEqual([]);
    await source.query(`ALTER DATABASE ${name(source.name)} OWNER TO CURRENT_USER`);
    await like.drop();
    await owner.drop();
    await using restored = futureDatabase();
    await restoreInto(restored, place.store, { context });
    expect(warnings).toEqual(['restore.owner']);
  });

  test('of no encoding brings no bytes into a database that are none of its text', async () => {
    const noEncoding = `TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'`;
    await using place = await filePlace();
    await using source = await createDatabase({
      createOptions: noEncoding,
      sql: `CREATE TABLE t AS SELECT 'größe'::text AS a`,
    });
    await makeStockArchive(source, place.store);
    await using fit = await createDatabase({ createOptions: `TEMPLATE template0 ENCODING 'UTF8'` });
    await restoreInto(fit, place.store, { verifyRows: true });
    expect(await fit.query('SELECT a, length(a) FROM t')).toEqual([{ a: 'größe', length: 5 }]);

    await source.query('INSERT INTO t VALUES (chr(228))');
    await makeStockArchive(source, place.store);
    await using unfit = await createDatabase({ createOptions: `TEMPLATE template0 ENCODING 'UTF8'` });
    await expect(restoreInto(unfit, place.store)).rejects.toMatchObject({
      code: 'restore-failed',
      message: expect.stringContaining('invalid byte sequence for encoding "UTF8"'),
      hint: expect.stringContaining(`ENCODING 'SQL_ASCII'`),
    });
    await using alike = await createDatabase({ createOptions: noEncoding });
    await restoreInto(alike, place.store, { verifyRows: true });
    const bytes = `SELECT string_agg(encode(convert_to(a, 'SQL_ASCII'), 'hex'), ' ' ORDER BY a) AS bytes FROM t`;
    expect(await alike.query(bytes)).toEqual(await source.query(bytes));
  });

  test('is loaded into an existing database that is empty; one that is not is left alone', async () => {
    await using place = await filePlace();
    await using source = await createDatabase({ sql: 'CREATE TABLE t AS SELECT generate_series(1, 1000) AS a' });
    await using empty = await createDatabase({ createOptions: 'TEMPLATE template0' });
    await makeStockArchive(source, place.store);
    const planned = await restoreInto(empty, place.store, { planOnly: true });
    expect(planned.plan.join('\n')).toContain('on several connections; if that fails, drop all of it again');
    await restoreInto(empty, place.store);
    expect(await linesOf(empty)).toEqual(await linesOf(source));
    await expect(restoreInto(empty, place.store)).rejects.toMatchObject({ code: 'target-not-empty' });
  });

  test('loads tables of an extension after those that their foreign keys refer to, however large they are', async (context) => {
    await using place = await filePlace();
    await using extension = await makeConfigExtension(context);
    await using source = await createDatabase({
      sql: `CREATE EXTENSION ${extension.name};
        INSERT INTO parent SELECT i, 'p' FROM generate_series(1, 100) i;
        INSERT INTO child SELECT i, i, repeat('x', 10000) FROM generate_series(1, 100) i;
        CREATE TABLE t AS SELECT generate_series(1, 1000) AS a`,
    });
    const expected = await linesOf(source);
    for (const options of [{ jobs: 1 }, { jobs: 4, pieceRows: 30 }]) {
      await using restored = futureDatabase();
      await makeStockArchive(source, place.store, options);
      await restoreInto(restored, place.store, options);
      expect(await linesOf(restored)).toEqual(expected);
    }
  });

  test('gives one table, with its indexes, rights and partitions, to a database of its own', async () => {
    await using place = await filePlace();
    await using source = await createDatabase({ sql: RICH_SQL });
    await using restored = futureDatabase();
    await makeStockArchive(source, place.store);
    const selection = { tables: ['measure', 'public.lines'], schemas: [], sections: [] };
    await restoreInto(restored, place.store, { selection });
    const tables = `SELECT oid::regclass::text AS name FROM pg_class
      WHERE relkind IN ('r', 'p', 'm', 'v') AND relnamespace = 'public'::regnamespace ORDER BY 1`;
    expect((await restored.query<{ name: string }>(tables)).map(({ name }) => name)).toEqual([
      'lines',
      'measure',
      'measure_25',
      'measure_25_0',
      'measure_25_1',
      'measure_rest',
    ]);
    for (const sql of [
      'SELECT at, v, tableoid::regclass FROM measure ORDER BY 1, 2',
      'SELECT line FROM lines ORDER BY 1',
      `SELECT indexdef FROM pg_indexes WHERE tablename ~ '^(lines|measure)' ORDER BY 1`,
      `SELECT polname, pg_get_expr(polqual, polrelid) FROM pg_policy`,
    ]) {
      expect({ sql, rows: await restored.query(sql) }).toEqual({ sql, rows: await source.query(sql) });
    }
    const sections = { tables: [], schemas: [], sections: ['data'] as const };
    await expect(restoreInto(futureDatabase(), place.store, { selection: sections })).rejects.toMatchObject({
      code: 'usage',
    });
  });
});
