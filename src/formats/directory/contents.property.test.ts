import fc from 'fast-check';
import { expect, test } from 'vitest';
import { damagedBytes, damagedJson, refusedOr } from '../../../test/support/damage.ts';
import { type ArchiveContents, parseContents, serialiseContents } from './contents.ts';
import { parseSums } from './sums.ts';

const sha256 = '0'.repeat(64);
const digests = { storedBytes: 1, storedSha256: sha256, plainBytes: 1, plainSha256: sha256 };
const CONTENTS: ArchiveContents = {
  layout: 1,
  files: [
    { name: '3347_1.dat.zst', role: 'data', ...digests, piece: { entry: 3347, pages: { from: 0, to: 8 }, rows: 5 } },
    { name: 'blob_4711.dat.zst', role: 'large-object', ...digests, largeObject: { oid: '4711', entry: 3350 } },
    { name: 'blobs.toc', role: 'large-objects', ...digests },
  ],
  tables: [{ entry: 3347, schema: 'public', name: 'shop', rows: 5, hash: '0'.repeat(32) }],
};

test('a list of contents has a digest of each file, or a hash of its rows', () => {
  const { plainSha256: _, ...stored } = digests;
  const row = { name: '3347.dat.zst', role: 'data', ...stored } as const;
  const contents = (file: ArchiveContents['files'][number]) =>
    parseContents(Buffer.from(JSON.stringify({ layout: 1, files: [file], tables: [] })), 'contents.json');
  const hashed = { ...row, piece: { entry: 3347, rows: 5, hash: '0'.repeat(32) } };
  expect(contents(hashed).files).toEqual([hashed]);
  for (const file of [
    row,
    { ...row, piece: { entry: 3347, rows: 5 } },
    { ...hashed, role: 'large-object' as const, largeObject: { oid: '4711', entry: 3350 } },
  ]) {
    expect(() => contents(file)).toThrow(expect.objectContaining({ code: 'repository-damaged' }));
  }
});

test('a list of contents that was changed is read or refused, and names no file beyond the folder', async () => {
  await fc.assert(
    fc.asyncProperty(damagedJson(CONTENTS), async (text) => {
      const contents = await refusedOr(() => parseContents(Buffer.from(text), 'contents.json'));
      for (const { name, largeObject } of contents?.files ?? []) {
        expect(name).toMatch(/^[\w-][\w.-]*$/);
        // It becomes a part of a statement.
        if (largeObject !== undefined) expect(largeObject.oid).toMatch(/^\d+$/);
      }
    }),
    { numRuns: 500 },
  );
  await fc.assert(
    fc.asyncProperty(damagedBytes(serialiseContents(CONTENTS)), async (bytes) => {
      await refusedOr(() => parseContents(bytes, 'contents.json'));
    }),
  );
});

test('sums of any text are read or refused, and name no file beyond the folder', async () => {
  const whole = Buffer.from(`${sha256}  3347_1.dat.zst\n${'1'.repeat(64)} *toc.dat\n`);
  await fc.assert(
    fc.asyncProperty(damagedBytes(whole), async (bytes) => {
      const sums = await refusedOr(() => parseSums(bytes, 'SHA256SUMS'));
      for (const [name, sum] of sums ?? []) {
        expect(name).not.toContain('/');
        expect(sum).toMatch(/^[0-9a-f]{64}$/);
      }
    }),
  );
});
