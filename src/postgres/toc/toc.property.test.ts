import fc from 'fast-check';
import { expect, test } from 'vitest';
import { arbitraryToc } from '../../../test/support/arbitrary-toc.ts';
import { SAMPLE_MAJORS, sampleBytes } from '../../../test/support/toc-samples.ts';
import { KIB } from '../../common/bytes.ts';
import { isPgarkError } from '../../common/errors.ts';
import { readToc, readTocOf } from './read-toc.ts';
import { writeToc } from './write-toc.ts';

test('every table of contents is read as it was written, from any stream', async () => {
  await fc.assert(
    fc.asyncProperty(arbitraryToc, fc.integer({ min: 1, max: 300 }), async (toc, chunkBytes) => {
      const bytes = writeToc(toc);
      expect(readToc(bytes)).toEqual({ toc, bytes: bytes.length });
      async function* chunks(): AsyncGenerator<Uint8Array> {
        for (let at = 0; at < bytes.length; at += chunkBytes) yield bytes.subarray(at, at + chunkBytes);
      }
      expect(await readTocOf(chunks())).toEqual({ toc, bytes: bytes.length });
    }),
    { numRuns: 300 },
  );
});

/** Changes of a file: bytes overwritten, cut out or put in. */
const damage = fc.array(
  fc.record({
    place: fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true }),
    /** Null: as many as are added. */
    removedBytes: fc.option(fc.integer({ min: 0, max: 8 }), { freq: 2 }),
    added: fc.oneof(
      fc.uint8Array({ maxLength: 8 }),
      // Lengths and counts, also negative and huge ones.
      fc.constantFrom([1, 1, 0, 0, 0], [0, 255, 255, 255, 127], [1, 255, 255, 255, 255], [0, 0, 0, 0, 0]),
    ),
  }),
  { minLength: 1, maxLength: 4 },
);

test('damage of any kind is refused with a sentence, or gives what is written as it was read', () => {
  const samples = fc.constantFrom(
    ...SAMPLE_MAJORS.flatMap((major) => [sampleBytes(major, 'custom'), sampleBytes(major, 'directory')]),
  );
  const outcomes = { refused: 0, read: 0 };
  fc.assert(
    fc.property(samples, damage, (sample, changes) => {
      let bytes: Buffer = sample;
      for (const { place, removedBytes, added } of changes) {
        const at = Math.floor(place * bytes.length);
        const rest = bytes.subarray(at + (removedBytes ?? added.length));
        bytes = Buffer.concat([bytes.subarray(0, at), Buffer.from(added), rest]);
      }
      try {
        const { toc, bytes: tocBytes } = readToc(bytes, { bytesMax: 64 * KIB });
        expect(bytes.subarray(0, tocBytes).equals(writeToc(toc))).toBe(true);
        outcomes.read += 1;
      } catch (error) {
        if (!isPgarkError(error, 'corrupt') && !isPgarkError(error, 'archive-unsupported')) throw error;
        outcomes.refused += 1;
      }
    }),
    { numRuns: 2_000 },
  );
  expect(outcomes.refused).toBeGreaterThan(100);
  expect(outcomes.read).toBeGreaterThan(10);
});
