import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type Member, tarOf } from '../../../test/support/base-archive.ts';
import { bytesOf, chunksOf, noise } from '../../../test/support/streams.ts';
import { summingFiles } from './archive-files.ts';
import type { FileSum } from './file-ledger.ts';

/** Around the edges of tar's blocks, and within them. */
const lengths = fc.oneof(fc.constantFrom(0, 1, 511, 512, 513, 1024), fc.integer({ min: 0, max: 3_000 }));
const members = fc.array(
  fc.oneof(
    lengths.map((bytes): Omit<Member, 'name'> => ({ content: Buffer.from(noise(bytes)) })),
    fc.constant<Omit<Member, 'name'>>({ type: '5', mode: 0o700 }),
  ),
  { maxLength: 8 },
);
const cuts = fc
  .array(fc.integer({ min: 0, max: 2_000 }), { minLength: 1, maxLength: 5 })
  .filter((each) => each.some(Boolean));

async function* streamOf(chunks: Iterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  for (const chunk of chunks) yield Uint8Array.from(chunk);
}

describe('files of an archive on its way', () => {
  test('are told of in their order with the digests of their contents, however the archive is cut, and it passes unchanged', async () => {
    await fc.assert(
      fc.asyncProperty(members, cuts, async (unnamed, lengthsOfChunks) => {
        const named = unnamed.map((member, index): Member => ({ ...member, name: `file-${index}` }));
        const archive = tarOf(named);
        const told: FileSum[] = [];
        const passed = summingFiles({}, (file) => told.push(file))(streamOf(chunksOf(archive, lengthsOfChunks)));
        expect((await bytesOf(passed)).equals(archive)).toBe(true);
        expect(told).toEqual(
          named.flatMap(({ name, content }) =>
            content === undefined
              ? []
              : [{ path: name, bytes: content.length, sha256: createHash('sha256').update(content).digest('hex') }],
          ),
        );
      }),
      { numRuns: 60 },
    );
  });

  test('that are not complete are an error, and so is what who is told of them throws', async () => {
    const archive = tarOf([{ name: 'file', content: Buffer.from(noise(2_000)) }]);
    const broken = summingFiles({}, () => {})(streamOf([archive.subarray(0, 1_000)]));
    await expect(bytesOf(broken)).rejects.toMatchObject({ code: 'corrupt' });
    const failure = new Error('not as listed');
    const refused = summingFiles({}, () => {
      throw failure;
    })(streamOf([archive]));
    await expect(bytesOf(refused)).rejects.toBe(failure);
  });
});
