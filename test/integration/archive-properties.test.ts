import fc from 'fast-check';
import { expect, test } from 'vitest';
import { schemaSql } from '../support/arbitrary-schema.ts';
import { restoreInto } from '../support/archive-restoring.ts';
import { copyFolder, stockRestore, unorderedDumpOf } from '../support/archives.ts';
import { backUp, fileDestination, outcomesOf } from '../support/destinations.ts';
import { createDatabase } from '../support/postgres.ts';
import { futureDatabase } from '../support/restoring.ts';
import { makeTempDirectory } from '../support/temp.ts';

/** TEST_SEED repeats a run; TEST_RUNS makes it longer. */
const SEED = Number(process.env['TEST_SEED'] ?? Math.floor(Math.random() * 2 ** 31));
const RUNS = Number(process.env['TEST_RUNS'] ?? '2');
/** Of one database, so that few dumps cover many. */
const SCHEMAS = 8;
const schemas = fc.tuple(...Array.from({ length: SCHEMAS }, (_, index) => schemaSql(index)));

test(`whatever schemas hold comes back, by pgark and by pg_restore (TEST_SEED=${SEED})`, {
  timeout: 120_000 + RUNS * 60_000,
}, async () => {
  const property = fc.asyncProperty(schemas, fc.constantFrom(8, 32), async (all, pieceKib) => {
    await using database = await createDatabase();
    for (const sql of all) await database.query(sql);
    const expected = await unorderedDumpOf(database);
    await using place = await fileDestination('place');
    const seal = { compression: { algorithm: 'gzip', level: 1 } } as const;
    const outcome = await backUp(database, [place], {
      format: 'directory',
      pieceBytes: pieceKib * 1024,
      jobs: 3,
      seal,
    });
    await using restored = futureDatabase();
    await restoreInto(restored, place.store, { jobs: 3, analyse: false });
    expect(await unorderedDumpOf(restored)).toEqual(expected);

    const { manifest } = outcomesOf(outcome)['place'] ?? {};
    if (manifest === undefined) throw new Error('there is no manifest');
    await using directory = await makeTempDirectory();
    const folder = directory.join('archive');
    await copyFolder(place.store, manifest, folder);
    await using byHand = await createDatabase({ createOptions: 'TEMPLATE template0' });
    await stockRestore('four at once', folder, byHand);
    expect(await unorderedDumpOf(byHand)).toEqual(expected);
  });
  await fc.assert(property, { seed: SEED, numRuns: RUNS, endOnFailure: true });
});
