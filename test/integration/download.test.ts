import { generateX25519Identity, identityToRecipient } from 'age-encryption';
import { readdir, readFile, stat } from 'node:fs/promises';
import { describe, expect, test } from 'vitest';
import { Secret } from '../../src/common/secret.ts';
import { operationContext } from '../../src/operations/context.ts';
import { download, type DownloadOutcome, type DownloadRequest } from '../../src/operations/download.ts';
import { ageSealer } from '../../src/pipeline/encryption/age-sealer.ts';
import { readToc } from '../../src/postgres/toc/read-toc.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { filePlace, linesOf, NO_KEYS } from '../support/archive-restoring.ts';
import { runProgram } from '../support/cli.ts';
import { backUp, fileDestination } from '../support/destinations.ts';
import { createDatabase } from '../support/postgres.ts';
import { RICH_SQL } from '../support/rich-database.ts';
import { makeStockArchive } from '../support/stock-archive.ts';
import { makeTempDirectory } from '../support/temp.ts';

const GZIP_DEFAULT_LEVEL = -1;

function downloadInto(
  folder: string,
  store: ObjectStore,
  changes: Partial<DownloadRequest> = {},
): Promise<DownloadOutcome> {
  const request = { store, filter: {}, selector: { kind: 'latest' }, keys: NO_KEYS, folder } as const;
  return download({ ...request, ...changes }, operationContext());
}

/** What the outcome tells a person to do, done; with the sums compared first. */
async function restoreByHand({ folder, command }: DownloadOutcome, sql: readonly string[]): Promise<void> {
  await using restored = await createDatabase({ createOptions: 'TEMPLATE template0' });
  const sums = `cd '${folder}'; sha256sum --check --strict --quiet SHA256SUMS`;
  const stock = await runProgram(
    'bash',
    ['-euo', 'pipefail', '-c', `${sums}; ${command.replace('NEW_DATABASE', '""')}`],
    {
      env: restored.env,
    },
  );
  expect(stock).toMatchObject({ exitCode: 0, stderr: expect.not.stringMatching(/error/i) });
  expect(await linesOf(restored)).toEqual(sql);
}

describe('a backup that is downloaded', () => {
  test('as a folder is what pg_restore of its own version reads, compressed or not, for this user alone', async () => {
    await using place = await filePlace();
    await using directory = await makeTempDirectory();
    await using source = await createDatabase({ sql: RICH_SQL });
    const expected = await linesOf(source);
    const identity = await generateX25519Identity();
    const sealer = await ageSealer({ recipients: [await identityToRecipient(identity)] });
    await makeStockArchive(source, place.store, {
      seal: { compression: { algorithm: 'zstd', level: 3 }, sealer },
      hashed: true,
    });
    const keys = { identities: [new Secret(identity)], passphrases: [] };
    const dataNames = async (folder: string): Promise<readonly string[]> =>
      (await readdir(folder)).filter((name) => name.includes('.dat') && name !== 'toc.dat');

    for (const [compression, ending, recorded] of [
      [undefined, /^\w+\.dat$/, 0],
      ['gzip', /^\w+\.dat\.gz$/, GZIP_DEFAULT_LEVEL],
      ['zstd', /^\w+\.dat\.zst$/, 0],
    ] as const) {
      const outcome = await downloadInto(directory.join(`made/by it ${compression}`), place.store, {
        keys,
        compression,
      });
      const { folder, command } = outcome;
      expect(command).toMatch(/(^|&& )pg_restore .* -d NEW_DATABASE '.*\/made\/by it \w+'$/);
      for (const name of await readdir(folder)) expect((await stat(`${folder}/${name}`)).mode & 0o777).toBe(0o600);
      const names = await dataNames(folder);
      expect(names.length).toBeGreaterThan(10);
      for (const name of names) expect(name).toMatch(ending);
      expect(readToc(await readFile(`${folder}/toc.dat`)).toc.compression).toBe(recorded);
      await restoreByHand(outcome, expected);
      await expect(downloadInto(folder, place.store, { keys })).rejects.toMatchObject({ code: 'target-not-empty' });
    }
  });

  test('as a file of SQL text is compressed as it was, or as is wanted', async () => {
    await using place = await fileDestination('place');
    await using directory = await makeTempDirectory();
    await using source = await createDatabase({ sql: 'CREATE TABLE t AS SELECT generate_series(1, 1000) AS a' });
    const expected = await linesOf(source);
    await backUp(source, [place], { seal: { compression: { algorithm: 'gzip', level: 1 } } });
    for (const [compression, name] of [
      [undefined, /\.sql\.gz$/],
      ['none', /\.sql$/],
      ['zstd', /\.sql\.zst$/],
    ] as const) {
      const outcome = await downloadInto(directory.join(String(compression)), place.store, { compression });
      expect((await readdir(outcome.folder)).sort()).toEqual(['SHA256SUMS', expect.stringMatching(name)]);
      await restoreByHand(outcome, expected);
    }
  });
});
