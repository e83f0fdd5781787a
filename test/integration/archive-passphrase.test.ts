import { readdir } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { Secret } from '../../src/common/secret.ts';
import { operationContext } from '../../src/operations/context.ts';
import { download } from '../../src/operations/download.ts';
import { verify } from '../../src/operations/verify.ts';
import { ageSealer } from '../../src/pipeline/encryption/age-sealer.ts';
import type { DecryptionKeys } from '../../src/pipeline/encryption/sealer.ts';
import { filePlace, linesOf, NO_KEYS, restoreInto } from '../support/archive-restoring.ts';
import { backUp, fileDestination, outcomesOf } from '../support/destinations.ts';
import { createDatabase } from '../support/postgres.ts';
import { futureDatabase } from '../support/restoring.ts';
import { makeTempDirectory } from '../support/temp.ts';

const PASSPHRASE = new Secret('correct horse battery staple');

function keysOf(passphrase: string): DecryptionKeys {
  return { identities: [], passphrases: [new Secret(passphrase)] };
}

test('an archive by a passphrase of age has a key of its own, which the passphrase opens', async () => {
  await using place = await fileDestination('place');
  await using directory = await makeTempDirectory();
  await using source = await createDatabase({ sql: 'CREATE TABLE t AS SELECT generate_series(1, 9000) AS a' });
  await using restored = futureDatabase();
  const sealer = await ageSealer({ passphrase: PASSPHRASE, workFactor: 4 });
  const seal = { compression: { algorithm: 'gzip', level: 1 }, sealer } as const;
  const outcome = await backUp(source, [place], { format: 'directory', pieceBytes: 64 * 1024, seal });
  const { manifest } = outcomesOf(outcome)['place'] ?? {};
  expect(manifest?.encryption).toEqual({ scheme: 'age', keyFingerprints: ['passphrase'] });

  const keys = keysOf(PASSPHRASE.reveal());
  const wrong = keysOf('another one');
  await expect(restoreInto(restored, place.store, { keys: wrong })).rejects.toMatchObject({ code: 'wrong-key' });
  await expect(restoreInto(restored, place.store)).rejects.toMatchObject({ code: 'key-missing' });
  await restoreInto(restored, place.store, { keys });
  expect(await linesOf(restored)).toEqual(await linesOf(source));

  const request = { store: place.store, filter: {}, selector: undefined, deep: true };
  const depths = async (given: DecryptionKeys) =>
    (await verify({ ...request, keys: given }, operationContext())).backups.map(({ depth, failure }) => [
      depth,
      failure,
    ]);
  expect(await depths(keys)).toEqual([['read', undefined]]);
  expect(await depths(wrong)).toEqual([['stored', expect.objectContaining({ code: 'wrong-key' })]]);
  expect(await depths(NO_KEYS)).toEqual([['stored', undefined]]);

  const folder = directory.join('folder');
  await download({ store: place.store, filter: {}, selector: { kind: 'latest' }, keys, folder }, operationContext());
  // What opens the backup does not lie beside what it has opened.
  expect((await readdir(folder)).filter((name) => !/^(\d+\.dat\.gz|toc\.dat|SHA256SUMS)$/.test(name))).toEqual([]);
});

test('a file that was put into such an archive from another is no file of it', async () => {
  await using place = await filePlace();
  await using source = await createDatabase({ name: 'src', sql: 'CREATE TABLE t AS SELECT 1 AS a' });
  const destination = { destination: { name: 'place', store: place.store, needsDelete: false } };
  const sealer = await ageSealer({ passphrase: PASSPHRASE, workFactor: 4 });
  const seal = { compression: { algorithm: 'none', level: 0 }, sealer } as const;
  const idsOf = async () =>
    outcomesOf(await backUp(source, [destination], { format: 'directory', seal }))['place']?.manifest;
  const [older, newer] = [await idsOf(), await idsOf()];
  const keyOf = (manifest: typeof older, role: string): string =>
    manifest?.objects.find((object) => object.role === role)?.key ?? '';
  const { body } = await place.store.get(keyOf(older, 'key'));
  const blocks: Uint8Array[] = [];
  for await (const block of body) blocks.push(Buffer.from(block));
  await place.store.delete(keyOf(newer, 'key'));
  await place.store.putSmall(keyOf(newer, 'key'), Buffer.concat(blocks));
  await expect(restoreInto(futureDatabase(), place.store, { keys: keysOf(PASSPHRASE.reveal()) })).rejects.toMatchObject(
    {
      code: 'corrupt',
      message: expect.stringContaining('identity.age'),
    },
  );
});
