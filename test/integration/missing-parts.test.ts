import { expect, test } from 'vitest';
import { Secret } from '../../src/common/secret.ts';
import { operationContext } from '../../src/operations/context.ts';
import { download } from '../../src/operations/download.ts';
import { ageSealer } from '../../src/pipeline/encryption/age-sealer.ts';
import type { BackupRequest } from '../../src/operations/backup.ts';
import { restoreInto } from '../support/archive-restoring.ts';
import { backUp, fileDestination, outcomesOf } from '../support/destinations.ts';
import { drillIn, workFolder } from '../support/drills.ts';
import { createDatabase } from '../support/postgres.ts';
import { futureDatabase } from '../support/restoring.ts';

const PASSPHRASE = new Secret('correct horse battery staple');
const keys = { identities: [], passphrases: [PASSPHRASE] };

/** Objects of these are no files of a download. */
const NOT_DOWNLOADED: ReadonlySet<string> = new Set(['custom-toc', 'sums']);

test.each<[string, Partial<BackupRequest>]>([
  ['SQL', { format: 'plain' }],
  ['an archive', { format: 'directory' }],
])('whatever part of a dump in %s is missing, drill, restore and download say the same', async (_, format) => {
  await using place = await fileDestination('place');
  await using work = await workFolder();
  await using restored = futureDatabase();
  await using source = await createDatabase({ name: 'src', sql: 'CREATE TABLE t AS SELECT 1 AS a' });
  const sealer = await ageSealer({ passphrase: PASSPHRASE, workFactor: 4 });
  const seal = { compression: { algorithm: 'zstd', level: 3 }, sealer } as const;
  const { manifest } = outcomesOf(await backUp(source, [place], { ...format, seal }))['place'] ?? {};
  if (manifest === undefined) throw new Error('there is no backup');
  const { store } = place;
  const selector = { kind: 'latest' } as const;
  for (const { key, role } of manifest.objects) {
    const chunks: Uint8Array[] = [];
    for await (const chunk of (await store.get(key)).body) chunks.push(chunk);
    await store.delete(key);
    const missing = {
      code: 'corrupt',
      exitCode: 20,
      message: expect.stringContaining(`${key}, a part of backup ${manifest.id}, is missing from`),
    };
    await expect(drillIn(store, work, { keys })).rejects.toMatchObject(missing);
    await expect(restoreInto(restored, store, { keys })).rejects.toMatchObject(missing);
    const downloading = { store, filter: {}, selector, keys, folder: work.join(role) };
    if (!NOT_DOWNLOADED.has(role))
      await expect(download(downloading, operationContext())).rejects.toMatchObject(missing);
    await store.putSmall(key, Buffer.concat(chunks));
  }
  await drillIn(store, work, { keys });
});
