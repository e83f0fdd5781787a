import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { PgarkError } from '../../src/common/errors.ts';
import { type Logger, silentLogger } from '../../src/common/log.ts';
import type { ArchiveContents } from '../../src/formats/directory/contents.ts';
import { operationContext } from '../../src/operations/context.ts';
import { verify } from '../../src/operations/verify.ts';
import { dataFolderOf } from '../../src/repository/repository.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { filePlace, linesOf, NO_KEYS, restoreInto } from '../support/archive-restoring.ts';
import { postgresFacts } from '../support/facts.ts';
import { impatientClock } from '../support/impatient-clock.ts';
import { createDatabase, createRole, type TestDatabase } from '../support/postgres.ts';
import { databaseNames, futureDatabase } from '../support/restoring.ts';
import { makeStockArchive } from '../support/stock-archive.ts';
import { bytesOf } from '../support/streams.ts';
import { type Cut, startTcpProxy } from '../support/tcp-proxy.ts';

const SQL = `CREATE TABLE numbers AS SELECT i, md5(i::text) AS h FROM generate_series(1, 20000) i;
  CREATE TABLE few AS SELECT generate_series(1, 5) AS a;
  SELECT lo_from_bytea(4711, 'the content of a large object')`;

const DEFAULT_PRIVILEGES = `SELECT defaclobjtype, defaclnamespace::regnamespace, a.* FROM pg_default_acl, aclexplode(defaclacl) a
  ORDER BY 1, 2, grantee, privilege_type, is_grantable`;

async function verified(store: ObjectStore, deep: boolean) {
  const request = { store, filter: {}, selector: undefined, deep, keys: NO_KEYS };
  const { backups } = await verify(request, operationContext());
  return backups[0];
}

async function replace(store: ObjectStore, key: string, change: (bytes: Buffer) => Buffer | undefined): Promise<void> {
  const bytes = await bytesOf((await store.get(key)).body);
  const changed = change(bytes);
  await store.delete(key);
  if (changed !== undefined) await store.putSmall(key, changed);
}

function flipped(bytes: Buffer): Buffer {
  const copy = Buffer.from(bytes);
  const middle = Math.floor(copy.length / 2);
  copy[middle] = (copy[middle] ?? 0) ^ 0x10;
  return copy;
}

const DAMAGES = {
  'has a changed byte': flipped,
  'is truncated': (bytes: Buffer) => bytes.subarray(0, -1),
  'is missing': () => undefined,
};

describe('a file of an archive that is not what was written', () => {
  test.each([
    ['the rows of a table', /\/\d+_1\.dat$/, false],
    ['a large object', /\/blob_4711\.dat$/, false],
    ['the list of large objects', /\/blobs\.toc$/, true],
    ['what pg_restore reads', /\/toc\.dat$/, true],
    ['the table of contents', /\/pg_dump\.toc$/, false],
    ['the list of contents', /\/contents\.json$/, false],
    ['the sums', /\/SHA256SUMS$/, true],
  ])('is found, and nothing of it is kept: %s', async (_what, pattern, isForOthers) => {
    await using place = await filePlace();
    await using source = await createDatabase({ name: 'src', sql: SQL });
    const restored = futureDatabase('never');
    const manifest = await makeStockArchive(source, place.store, { pieceRows: 5_000 });
    const names: string[] = [];
    for await (const { key } of place.store.list(dataFolderOf(manifest) ?? '')) names.push(key);
    const key = names.find((each) => pattern.test(each)) ?? '';
    const original = await bytesOf((await place.store.get(key)).body);
    for (const [how, damage] of Object.entries(DAMAGES)) {
      await replace(place.store, key, damage);
      // What our own restore does not need, and has its length, is found by whoever reads all.
      const ways = isForOthers && how === 'has a changed byte' ? [true] : [true, false];
      for (const verifyFirst of ways) {
        const error = await restoreInto(restored, place.store, { verifyFirst }).catch((thrown: unknown) => thrown);
        expect(error, `${key} ${how}`).toMatchObject({ code: expect.stringMatching(/^(corrupt|object-not-found)$/) });
        expect((error as PgarkError).message).toContain(key.slice(key.lastIndexOf('/') + 1));
      }
      expect((await verified(place.store, true))?.failure?.code).toMatch(/^(corrupt|object-not-found)$/);
      const seen = (await verified(place.store, false))?.failure;
      if (how !== 'has a changed byte') expect(seen?.code).toMatch(/^(corrupt|object-not-found)$/);
      await place.store.delete(key);
      await place.store.putSmall(key, original);
    }
    expect(await databaseNames(restored.name.slice(0, 15))).toEqual([]);
    expect((await verified(place.store, true))?.failure).toBeUndefined();
  });

  test.each<[what: string, falsify: (contents: ArchiveContents) => ArchiveContents, words: RegExp]>([
    [
      'one row more than its file has',
      ({ files, tables, ...rest }) => ({
        ...rest,
        files: files.map((file) =>
          file.piece?.rows === 5 ? { ...file, piece: { ...file.piece, rows: file.piece.rows + 1 } } : file,
        ),
        tables: tables.map((table) => (table.name === 'few' ? { ...table, rows: table.rows + 1 } : table)),
      }),
      /5 rows.*and 6 were recorded/,
    ],
    [
      'other rows than its pieces have together',
      ({ tables, ...rest }) => ({
        ...rest,
        tables: tables.map((table) => (table.name === 'numbers' ? { ...table, rows: table.rows - 1 } : table)),
      }),
      /numbers has 20000 rows in its files, and 19999 recorded/,
    ],
    [
      'no file',
      ({ files, ...rest }) => ({ ...rest, files: files.filter(({ piece }) => piece?.rows !== 5) }),
      /few has no rows in its files, and 5 recorded/,
    ],
    [
      'a large object that is not listed',
      ({ files, ...rest }) => ({ ...rest, files: files.filter(({ role }) => role !== 'large-object') }),
      /large objects of entry \d+ are not there/,
    ],
  ])('is found by what was recorded: a table with %s', async (_what, falsify, words) => {
    await using place = await filePlace();
    await using source = await createDatabase({ name: 'src', sql: SQL });
    const restored = futureDatabase('never');
    await makeStockArchive(source, place.store, { pieceRows: 5_000, falsify });
    const failure = { code: 'corrupt', message: expect.stringMatching(words) };
    await expect(restoreInto(restored, place.store)).rejects.toMatchObject(failure);
    expect((await verified(place.store, true))?.failure).toMatchObject(failure);
    expect(await databaseNames(restored.name.slice(0, 15))).toEqual([]);
  });
});

describe('a restore that does not go through', () => {
  test('leaves a database empty that was empty before', async () => {
    await using place = await filePlace();
    await using source = await createDatabase({ sql: `CREATE EXTENSION hstore; CREATE SCHEMA s; ${SQL}` });
    await using empty = await createDatabase({ createOptions: 'TEMPLATE template0' });
    const before = await linesOf(empty);
    await makeStockArchive(source, place.store, { pieceRows: 5_000, falsify: oneRowMore });
    await expect(restoreInto(empty, place.store)).rejects.toMatchObject({ code: 'corrupt' });
    expect(await linesOf(empty)).toEqual(before);
  });

  test('leaves the default privileges that were there before', async () => {
    await using place = await filePlace();
    await using role = await createRole();
    const grantee = `"${role.user.replaceAll('"', '""')}"`;
    await using source = await createDatabase({ sql: SQL });
    await using empty = await createDatabase({
      sql: `ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC; ALTER DEFAULT PRIVILEGES GRANT USAGE ON TYPES TO ${grantee} WITH GRANT OPTION;
        ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT, INSERT ON TABLES TO ${grantee}`,
    });
    const before = await empty.query(DEFAULT_PRIVILEGES);
    expect(before).toHaveLength(6);
    await makeStockArchive(source, place.store, { pieceRows: 5_000, falsify: oneRowMore });
    await expect(restoreInto(empty, place.store)).rejects.toMatchObject({ code: 'corrupt' });
    expect(await empty.query(`SELECT FROM pg_class WHERE relnamespace = 'public'::regnamespace`)).toEqual([]);
    expect(await empty.query(DEFAULT_PRIVILEGES)).toEqual(before);
  });

  test('leaves nothing behind when it is interrupted', async () => {
    await using place = await filePlace();
    await using source = await createDatabase({ name: 'src', sql: SQL });
    const restored = futureDatabase('never');
    await makeStockArchive(source, place.store, { pieceRows: 100 });
    const interrupt = new AbortController();
    const onProgress = ({ phase, bytes }: { readonly phase: string; readonly bytes: number }): void => {
      if (phase === 'loading' && bytes > 0) interrupt.abort(new Error('enough'));
    };
    const restoring = restoreInto(restored, place.store, { context: { signal: interrupt.signal, onProgress } });
    await expect(restoring).rejects.toMatchObject({ code: 'interrupted' });
    expect(await databaseNames(restored.name.slice(0, 15))).toEqual([]);
  });
});

const BREAKS: readonly [what: string, said: string, when: Cut][] = [
  ['in the midst of rows', '\t98f13708210194c475687be6106a3b84\n', 'unheard'],
  ['before the server hears of the end', 'COMMIT\0', 'unheard'],
  ['that the server does not notice before the end', 'COMMIT\0', 'unnoticed'],
  ['before the server’s word that all is done arrives', 'COMMIT\0', 'unanswered'],
];

describe('a connection that breaks while rows are loaded', () => {
  let place: Awaited<ReturnType<typeof filePlace>>;
  let source: TestDatabase;
  beforeAll(async () => {
    place = await filePlace();
    source = await createDatabase({ name: 'src', sql: SQL });
    await makeStockArchive(source, place.store, { pieceRows: 5_000 });
  });
  afterAll(async () => {
    await source?.drop();
    await place?.[Symbol.asyncDispose]();
  });

  test.each(BREAKS)('%s costs a second try, and no row comes twice or not at all', async (_what, said, when) => {
    await using restored = futureDatabase();
    await using proxy = await startTcpProxy(postgresFacts());
    proxy.cutAt(said, when);
    const { logger, warnings } = listeningLogger();
    await restoreInto(restored, place.store, { port: proxy.port, context: { logger } });
    expect(warnings).toEqual(['load.retried']);
    expect(proxy.hasCut).toBe(true);
    expect(await linesOf(restored)).toEqual(await linesOf(source));
  });

  test.each(BREAKS)('%s, and is the last that the server takes: the others do its share', async (_what, said, when) => {
    await using restored = futureDatabase();
    await using proxy = await startTcpProxy(postgresFacts());
    proxy.cutAt(said, when, { refusesNew: true });
    const { logger, warnings } = listeningLogger((event) => {
      if (event === 'load.fewer_connections') proxy.takeNew();
    });
    // Long pauses are none of what is tried here.
    const clock = impatientClock(20);
    await restoreInto(restored, place.store, { port: proxy.port, jobs: 2, context: { logger, clock } });
    expect(warnings.filter((event) => event !== 'load.retried')).toEqual(['load.fewer_connections']);
    expect(await linesOf(restored)).toEqual(await linesOf(source));
  });
});

function listeningLogger(onWarning: (event: string) => void = () => {}) {
  const warnings: string[] = [];
  const logger: Logger = {
    ...silentLogger,
    warning(event) {
      warnings.push(event);
      onWarning(event);
    },
    child: () => logger,
  };
  return { logger, warnings };
}

function oneRowMore({ files, tables, ...rest }: ArchiveContents): ArchiveContents {
  return {
    ...rest,
    files: files.map((file) => (file.piece?.rows === 5 ? { ...file, piece: { ...file.piece, rows: 6 } } : file)),
    tables: tables.map((table) => (table.name === 'few' ? { ...table, rows: 6 } : table)),
  };
}
