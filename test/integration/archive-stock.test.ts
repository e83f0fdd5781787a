import { Decrypter, generateX25519Identity, identityToRecipient } from 'age-encryption';
import { readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { expect, test } from 'vitest';
import { Secret } from '../../src/common/secret.ts';
import { ageSealer } from '../../src/pipeline/encryption/age-sealer.ts';
import type { Sealer } from '../../src/pipeline/encryption/sealer.ts';
import type { Manifest } from '../../src/repository/manifest.ts';
import { contentsOf, copyFolder, shell, type StockWay, stockRestore, unorderedDumpOf } from '../support/archives.ts';
import {
  backUp,
  type BackUpOptions,
  fileDestination,
  keysOf,
  outcomesOf,
  s3Destination,
  type TestDestination,
} from '../support/destinations.ts';
import { createDatabase, type TestDatabase } from '../support/postgres.ts';
import { RICH_SQL } from '../support/rich-database.ts';
import { makeTempDirectory } from '../support/temp.ts';

/** Every table of more than a few pages is cut into many pieces. */
const IN_PIECES = { format: 'directory', pieceBytes: 64 * 1024, jobs: 4 } as const;

/** Tables that pieces get wrong: a dropped column, user triggers, rows beside the table, partitions, no rows at all. */
const CUT_SQL = `
CREATE TABLE wide AS SELECT n, repeat(md5(n::text), 8) AS text FROM generate_series(1, 8000) n;
ALTER TABLE wide ADD PRIMARY KEY (n);
DELETE FROM wide WHERE n % 3 = 0;
UPDATE wide SET text = 'changed' WHERE n % 7 = 0;
CREATE TABLE refers (n int REFERENCES wide, m int);
INSERT INTO refers SELECT n, n FROM wide WHERE n % 2 = 0;
CREATE TABLE dropped (a int, b int, c text);
ALTER TABLE dropped DROP COLUMN b;
INSERT INTO dropped SELECT n, E'tab\\t' || n FROM generate_series(1, 8000) n;
CREATE TABLE touchy (a int);
INSERT INTO touchy SELECT generate_series(1, 8000);
CREATE TRIGGER touch BEFORE INSERT ON touchy FOR EACH ROW EXECUTE FUNCTION touched();
CREATE TABLE toasted AS SELECT n, (SELECT string_agg(md5((n * 1000 + m)::text), '') FROM generate_series(1, 400) m) AS text
  FROM generate_series(1, 40) n;
CREATE UNLOGGED TABLE unlogged AS SELECT 1 AS one;
CREATE TABLE columnless ();
INSERT INTO columnless SELECT FROM generate_series(1, 3);
CREATE TABLE parted (kind text, n int) PARTITION BY LIST (kind);
CREATE TABLE parted_a PARTITION OF parted FOR VALUES IN ('a');
CREATE TABLE parted_b PARTITION OF parted FOR VALUES IN ('b');
INSERT INTO parted SELECT CASE WHEN n % 2 = 0 THEN 'a' ELSE 'b' END, n FROM generate_series(1, 8000) n;
CREATE MATERIALIZED VIEW summed AS SELECT count(*) FROM wide;
`;

async function backedUp(
  database: TestDatabase,
  place: Pick<TestDestination, 'destination'>,
  options: BackUpOptions = {},
): Promise<Manifest> {
  const outcomes = outcomesOf(await backUp(database, [place], { ...IN_PIECES, ...options }));
  const { manifest, error } = outcomes[place.destination.name] ?? {};
  expect(error).toBeUndefined();
  if (manifest === undefined) throw new Error('there is no manifest');
  return manifest;
}

test.each<[algorithm: 'none' | 'gzip', place: string, ways: readonly StockWay[]]>([
  ['gzip', 'a directory', ['serial', 'four at once', 'as SQL']],
  ['none', 'a bucket', ['four at once']],
])(
  'a rich database in pieces, compression %s, in %s, comes back the same by pg_restore alone',
  async (algorithm, place, ways) => {
    await using directory = await makeTempDirectory();
    await using database = await createDatabase({ sql: RICH_SQL });
    await database.query(CUT_SQL);
    await using destination = await (place === 'a bucket' ? s3Destination(place) : fileDestination(place));
    const level = algorithm === 'none' ? 0 : 1;
    const manifest = await backedUp(database, destination, { seal: { compression: { algorithm, level } } });

    const folder = path.join(directory.path, 'archive');
    await copyFolder(destination.store, manifest, folder);
    await shell('sha256sum --check --strict --quiet SHA256SUMS', folder);
    const expected = await unorderedDumpOf(database);
    for (const way of ways) {
      await using restored = await createDatabase({ createOptions: 'TEMPLATE template0' });
      await stockRestore(way, folder, restored);
      expect(await unorderedDumpOf(restored)).toEqual(expected);
    }
  },
);

const PASSPHRASE = 'correct horse battery staple';

/** What encrypts, and what makes a file `../key` for `age -d -i` of it, in the folder of the archive. */
const AGE_KEYS: Readonly<Record<string, () => Promise<{ sealer: Sealer; writeKey(folder: string): Promise<void> }>>> = {
  recipients: async () => {
    const identity = await generateX25519Identity();
    return {
      sealer: await ageSealer({ recipients: [await identityToRecipient(identity)] }),
      writeKey: (folder) => writeFile(`${folder}/../key`, `${identity}\n`, { mode: 0o600 }),
    };
  },
  // age itself asks for it at the terminal; it opens one file, which opens the others.
  'a passphrase': async () => ({
    sealer: await ageSealer({ passphrase: new Secret(PASSPHRASE), workFactor: 4 }),
    async writeKey(folder) {
      const decrypter = new Decrypter();
      decrypter.addPassphrase(PASSPHRASE);
      const file = `${folder}/identity.age`;
      await writeFile(`${folder}/../key`, await decrypter.decrypt(await readFile(file)), { mode: 0o600 });
      await rm(file);
    },
  }),
};

test.each(Object.keys(AGE_KEYS))(
  'an archive that is compressed with zstd and encrypted for %s opens with age, zstd and pg_restore',
  async (keyKind) => {
    await using directory = await makeTempDirectory();
    await using database = await createDatabase({ sql: RICH_SQL });
    await using place = await fileDestination('place');
    const key = await AGE_KEYS[keyKind]?.();
    if (key === undefined) throw new Error('there is no such key');
    const seal = { compression: { algorithm: 'zstd', level: 1 }, sealer: key.sealer } as const;
    const manifest = await backedUp(database, place, { seal });
    // Nothing that lies open names a table.
    expect(JSON.stringify(manifest)).not.toContain('measure');

    const folder = path.join(directory.path, 'archive');
    await copyFolder(place.store, manifest, folder);
    await shell('sha256sum --check --strict --quiet SHA256SUMS', folder);
    await key.writeKey(folder);
    await shell(
      `for file in *.age; do age -d -i ../key -o "\${file%.age}" "$file"; rm "$file"; done
       zstd --decompress --rm --quiet *.zst`,
      folder,
    );
    await using restored = await createDatabase({ createOptions: 'TEMPLATE template0' });
    await stockRestore('four at once', folder, restored);
    expect(await unorderedDumpOf(restored)).toEqual(await unorderedDumpOf(database));
  },
);

test('rows and names of another encoding are kept in it', async () => {
  await using directory = await makeTempDirectory();
  await using database = await createDatabase({
    createOptions: `TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'`,
    sql: `CREATE TABLE "Größe" ("Maß" text, "ü, ß" int); INSERT INTO "Größe" SELECT 'ÄÖÜ ' || n, n FROM generate_series(1, 8000) n;`,
  });
  await using place = await fileDestination('place');
  const manifest = await backedUp(database, place);
  const folder = path.join(directory.path, 'archive');
  await copyFolder(place.store, manifest, folder);
  await using restored = await createDatabase({ createOptions: `TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'` });
  await stockRestore('four at once', folder, restored);
  expect(await unorderedDumpOf(restored)).toEqual(await unorderedDumpOf(database));
});

test('the rows of tables that are left out stay out, and the contents say how many each table has', async () => {
  await using database = await createDatabase({
    sql: `CREATE TABLE kept AS SELECT generate_series(1, 8000) AS n; CREATE TABLE left_out AS SELECT 1 AS n; CREATE TABLE empty (n int);`,
  });
  await using place = await fileDestination('place');
  const manifest = await backedUp(database, place, { excludeTableData: ['left_out'] });
  const { tables, files } = await contentsOf(place.store, manifest);
  expect(tables.map(({ schema, name, rows }) => [schema, name, rows])).toEqual([
    ['public', 'empty', 0],
    ['public', 'kept', 8000],
  ]);
  const stored = (await keysOf(place.store)).filter((key) => key.startsWith('shop/'));
  expect(stored.length).toBe(files.length + manifest.objects.length);
  expect(manifest.totals?.objects).toBe(stored.length);
  expect(files.filter(({ piece }) => piece?.pages !== undefined).length).toBeGreaterThan(2);
});

test('a dump under writes has all rows of one moment', async () => {
  await using directory = await makeTempDirectory();
  await using database = await createDatabase({
    sql: `CREATE TABLE accounts (id int PRIMARY KEY, balance int, filler text);
      INSERT INTO accounts SELECT n, 100, repeat('x', 200) FROM generate_series(1, 5000) n;`,
  });
  await using place = await fileDestination('place');
  const dumped = new AbortController();
  const writers = Array.from({ length: 2 }, async () => {
    const client = await database.connect();
    while (!dumped.signal.aborted) {
      const [from, to] = [1 + Math.floor(Math.random() * 5000), 1 + Math.floor(Math.random() * 5000)];
      await client.query(
        `BEGIN; UPDATE accounts SET balance = balance - 1 WHERE id = ${Math.min(from, to)};
         UPDATE accounts SET balance = balance + 1 WHERE id = ${Math.max(from, to)}; COMMIT`,
      );
    }
    await client.end();
  });
  let manifest: Manifest;
  try {
    manifest = await backedUp(database, place);
  } finally {
    dumped.abort();
    await Promise.all(writers);
  }
  const folder = path.join(directory.path, 'archive');
  await copyFolder(place.store, manifest, folder);
  await using restored = await createDatabase({ createOptions: 'TEMPLATE template0' });
  await stockRestore('four at once', folder, restored);
  expect(await restored.query('SELECT count(*)::int, sum(balance)::int FROM accounts')).toEqual([
    { count: 5000, sum: 500_000 },
  ]);
});
