import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Secret } from '../../src/common/secret.ts';
import { operationContext } from '../../src/operations/context.ts';
import { ageSealer } from '../../src/pipeline/encryption/age-sealer.ts';
import { keys as stateKeys } from '../../src/repository/keys.ts';
import type { Manifest } from '../../src/repository/manifest.ts';
import { Repository } from '../../src/repository/repository.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { DamagingStore } from '../support/damaging-store.ts';
import { backUp, errorOf, fileDestination, keysOf } from '../support/destinations.ts';
import { drillIn, proofsIn, workFolder } from '../support/drills.ts';
import { createDatabase, type TestDatabase } from '../support/postgres.ts';

const PASSPHRASE = new Secret('correct horse battery staple');
const KEYS = { identities: [], passphrases: [PASSPHRASE] };

let source: TestDatabase;
let work: Awaited<ReturnType<typeof workFolder>>;

beforeAll(async () => {
  work = await workFolder();
  source = await createDatabase({
    name: 'src',
    sql: `CREATE TABLE cut AS SELECT n, md5(n::text) AS text FROM generate_series(1, 5000) n;
      CREATE TABLE empty (a int);
      SELECT lo_from_bytea(0, 'large')`,
  });
});
afterAll(async () => {
  await source[Symbol.asyncDispose]();
  await work[Symbol.asyncDispose]();
});

/** An archive with a table of several pieces, which leaves an empty file of its own behind. */
async function archiveIn(place: Awaited<ReturnType<typeof fileDestination>>, isSealed: boolean): Promise<Manifest> {
  const seal = {
    compression: { algorithm: 'zstd', level: 3 },
    ...(isSealed ? { sealer: await ageSealer({ passphrase: PASSPHRASE, workFactor: 4 }) } : {}),
  } as const;
  await backUp(source, [place], { format: 'directory', jobs: 2, pieceBytes: 64 * 1024, seal });
  const [manifest] = (await new Repository(place.store, operationContext()).backups()).manifests;
  if (manifest === undefined) throw new Error('there is no backup');
  return manifest;
}

const folderOf = ({ source: name, id }: Manifest): string => stateKeys.archivePrefix(name, id);

/** How often each object of a folder is read. */
function counting(store: ObjectStore, folder: string) {
  const reads = new Map<string, number>();
  const counted = new DamagingStore(store, (key) => {
    if (key.startsWith(folder) && key !== `${folder}manifest.json`) reads.set(key, (reads.get(key) ?? 0) + 1);
    return false;
  });
  return { store: counted, reads };
}

describe.each([
  ['', false],
  [' that is encrypted', true],
])('a drill of an archive%s', (_, isSealed) => {
  test('reads every object of it, and each of them once', async () => {
    await using place = await fileDestination('place');
    const folder = folderOf(await archiveIn(place, isSealed));
    const { store, reads } = counting(place.store, folder);
    await drillIn(store, work, { keys: KEYS });
    const stored = (await keysOf(place.store, folder)).filter((key) => key !== `${folder}manifest.json`);
    expect(stored.length).toBeGreaterThan(8);
    expect(Object.fromEntries(reads)).toEqual(Object.fromEntries(stored.map((key) => [key, 1])));
  });

  test('fails where what no restore reads is damaged, before it restores, and names it', async () => {
    await using place = await fileDestination('place');
    const folder = folderOf(await archiveIn(place, isSealed));
    const unread = (await keysOf(place.store, folder)).filter((key) => /toc\.dat|blobs.*toc|SHA256SUMS/.test(key));
    expect(unread.length).toBeGreaterThanOrEqual(3);
    for (const damaged of unread) {
      const store = new DamagingStore(place.store, (key) => key === damaged);
      // A server would not be found there.
      const scratch = { kind: 'own', workFolder: work.join('nowhere') } as const;
      const error = await errorOf(drillIn(store, work, { keys: KEYS, scratch }));
      expect(error).toMatchObject({ code: 'corrupt', exitCode: 20 });
      expect(error.message).toContain(damaged);
    }
    const proofs = await proofsIn(place.store);
    expect(proofs).toHaveLength(unread.length);
    expect(proofs.every(({ passed }) => passed === false)).toBe(true);
  });
});

test('a drill fails where the manifest has another digest of what no restore reads', async () => {
  await using place = await fileDestination('place');
  const manifest = await archiveIn(place, false);
  await place.store.delete(stateKeys.manifest(manifest.source, manifest.database.name, manifest.id));
  const objects = manifest.objects.map((object) =>
    object.role === 'toc' ? { ...object, storedSha256: '0'.repeat(64) } : object,
  );
  await new Repository(place.store, operationContext()).commit({ ...manifest, objects });
  const error = await errorOf(drillIn(place.store, work));
  expect(error).toMatchObject({ code: 'corrupt', message: expect.stringContaining('toc.dat') });
});
