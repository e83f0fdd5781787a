import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { blocksOf, bytesOf, chunksOf, noise, rows, runFilter, WatchedSource } from '../../test/support/streams.ts';
import { allocateBlock } from '../common/block-memory.ts';
import { BLOCK_BYTES } from '../common/bytes.ts';
import { compress } from './compress.ts';
import { type CompressionAlgorithm, compressionOf } from './compression.ts';
import { decompress } from './decompress.ts';

const threeBlocksAndABit = Buffer.concat([rows(BLOCK_BYTES), noise(BLOCK_BYTES), rows(BLOCK_BYTES + 12_345)]);

function compressed(algorithm: CompressionAlgorithm, bytes: Uint8Array, level?: number): Promise<Buffer> {
  return bytesOf(compress(compressionOf(algorithm, level))(new WatchedSource([bytes])));
}

const everyLevel = fc.oneof(
  fc.integer({ min: 1, max: 9 }).map((level) => compressionOf('gzip', level)),
  fc.integer({ min: 1, max: 19 }).map((level) => compressionOf('zstd', level)),
  fc.constant(compressionOf('none')),
);
const cuts = fc.array(fc.integer({ min: 0, max: 70_000 }), { minLength: 1, maxLength: 5 });

describe('round trip', () => {
  test('gives any bytes back, at any level, in any chunks on both ways', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.uint8Array({ maxLength: 2000 }),
        everyLevel,
        fc.array(fc.integer({ min: 0, max: 50 }), { minLength: 1 }),
        fc.array(fc.integer({ min: 0, max: 50 }), { minLength: 1 }),
        async (bytes, compression, cutsIn, cutsBack) => {
          const stored = await bytesOf(compress(compression)(new WatchedSource(chunksOf(bytes, cutsIn))));
          const back = decompress(compression.algorithm)(new WatchedSource(chunksOf(stored, cutsBack)));
          expect(await bytesOf(back)).toEqual(Buffer.from(bytes));
        },
      ),
      { numRuns: 200 },
    );
  });

  test('gives data of several blocks back, mixed of what compresses and what does not', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(compressionOf('gzip', 1), compressionOf('zstd', 1)),
        fc.integer({ min: 0, max: 3 * BLOCK_BYTES }),
        cuts,
        cuts,
        async (compression, start, cutsIn, cutsBack) => {
          fc.pre(cutsIn.some((cut) => cut > 100) && cutsBack.some((cut) => cut > 100));
          const bytes = threeBlocksAndABit.subarray(start);
          const stored = await bytesOf(compress(compression)(new WatchedSource(chunksOf(bytes, cutsIn))));
          const back = decompress(compression.algorithm)(new WatchedSource(chunksOf(stored, cutsBack)));
          const blocks = await blocksOf(back);
          expect(Buffer.concat(blocks).equals(bytes)).toBe(true);
          expect(Math.max(0, ...blocks.map((block) => block.length))).toBeLessThanOrEqual(BLOCK_BYTES);
        },
      ),
      { numRuns: 15 },
    );
  });

  test.each([0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 2 * BLOCK_BYTES])(
    'gives %d bytes back',
    async (length) => {
      const bytes = threeBlocksAndABit.subarray(0, length);
      for (const algorithm of ['gzip', 'zstd', 'none'] as const) {
        const stored = await compressed(algorithm, bytes);
        expect((await bytesOf(decompress(algorithm)(new WatchedSource([stored])))).equals(bytes)).toBe(true);
      }
    },
  );
});

describe('stock tools read what compress wrote', () => {
  test.each([
    ['gzip', 'gunzip', ['-c']],
    ['gzip', 'zcat', []],
    ['gzip', 'pigz', ['-d', '-c']],
    ['zstd', 'zstd', ['-d', '-c']],
  ] as const)('%s: %s %j', async (algorithm, program, args) => {
    for (const bytes of [Buffer.alloc(0), Buffer.from('x'), threeBlocksAndABit]) {
      const stored = await compressed(algorithm, bytes);
      expect((await runFilter(program, args, stored)).equals(bytes)).toBe(true);
    }
  });

  test('gunzip -t and zstd -t find nothing to complain about', async () => {
    for (const bytes of [Buffer.alloc(0), threeBlocksAndABit]) {
      await runFilter('gunzip', ['-t'], await compressed('gzip', bytes));
      await runFilter('zstd', ['-t'], await compressed('zstd', bytes));
    }
  });
});

describe('compress', () => {
  test('makes one whole member or frame of each block of 1 MiB, and one of an empty source', async () => {
    for (const algorithm of ['gzip', 'zstd'] as const) {
      const stage = compress(compressionOf(algorithm));
      const pieces = await blocksOf(stage(new WatchedSource(chunksOf(threeBlocksAndABit, [65_536]))));
      expect(pieces.length).toBe(4);
      const lengths = await Promise.all(
        pieces.map(async (piece) => (await bytesOf(decompress(algorithm)(new WatchedSource([piece])))).length),
      );
      expect(lengths).toEqual([BLOCK_BYTES, BLOCK_BYTES, BLOCK_BYTES, 12_345]);
      expect((await blocksOf(stage(new WatchedSource([])))).length).toBe(1);
    }
  });

  test('writes content size and checksum into every zstd frame', async () => {
    for (const bytes of [Buffer.alloc(0), Buffer.from('x'), rows(300), noise(BLOCK_BYTES)]) {
      const descriptor = (await compressed('zstd', bytes))[4] ?? 0;
      expect(descriptor & 0x04).toBe(0x04);
      const hasContentSize = descriptor >> 6 !== 0 || (descriptor & 0x20) !== 0;
      expect(hasContentSize).toBe(true);
    }
  });

  test('gives the same bytes for the same data, whatever the chunks and the number of blocks in flight', async () => {
    for (const algorithm of ['gzip', 'zstd'] as const) {
      const once = await compressed(algorithm, threeBlocksAndABit);
      const stage = compress(compressionOf(algorithm), { blocksInFlightMax: 1 });
      expect((await bytesOf(stage(new WatchedSource(chunksOf(threeBlocksAndABit, [9999]))))).equals(once)).toBe(true);
    }
  });

  test('passes the source untouched with none', async () => {
    const chunk = noise(100);
    async function* source() {
      yield chunk;
    }
    expect((await blocksOf(compress(compressionOf('none'))(source())))[0]).toBe(chunk);
    expect((await blocksOf(decompress('none')(source())))[0]).toBe(chunk);
  });

  test('refuses a level that the algorithm does not have, before anything is read', () => {
    expect(() => compress({ algorithm: 'gzip', level: 12 })).toThrow(
      expect.objectContaining({ code: 'config-invalid' }),
    );
  });

  test('keeps no buffer that is much larger than what it holds', async () => {
    for (const algorithm of ['gzip', 'zstd'] as const) {
      const zeros = new WatchedSource([Buffer.alloc(2 * BLOCK_BYTES)]);
      for await (const piece of compress(compressionOf(algorithm))(zeros)) {
        expect(piece.buffer.byteLength).toBeLessThanOrEqual(2 * piece.length);
      }
    }
  });

  test('gives a block back as soon as it is compressed, and leaves buffers of others alone', async () => {
    for (const algorithm of ['gzip', 'zstd'] as const) {
      const lent = [1, 2, 3].map((byte) => allocateBlock(BLOCK_BYTES).fill(byte));
      const foreign = Buffer.alloc(BLOCK_BYTES, 4);
      const source = async function* (): AsyncGenerator<Uint8Array> {
        yield* [...lent, foreign];
      };
      const stored = await bytesOf(compress(compressionOf(algorithm))(source()));
      expect([...lent, foreign].map((block) => block.length)).toEqual([0, 0, 0, BLOCK_BYTES]);
      const back = await bytesOf(decompress(algorithm)(new WatchedSource([stored])));
      const expected = Buffer.concat([1, 2, 3, 4].map((byte) => Buffer.alloc(BLOCK_BYTES, byte)));
      expect(back.equals(expected)).toBe(true);
    }
  });

  test('reads the source no further ahead of a slow consumer than the blocks in flight', async () => {
    for (const algorithm of ['gzip', 'zstd'] as const) {
      const source = new WatchedSource(chunksOf(Buffer.alloc(12 * BLOCK_BYTES), [BLOCK_BYTES]));
      const stage = compress(compressionOf(algorithm, 1), { blocksInFlightMax: 3 });
      let taken = 0;
      for await (const piece of stage(source)) {
        expect(piece.length).toBeGreaterThan(0);
        taken += 1;
        for (let turn = 0; turn < 20; turn += 1) await new Promise(setImmediate);
        expect(source.chunksRead).toBeLessThanOrEqual(taken + 2);
      }
      expect(taken).toBe(12);
    }
  });

  test('closes the source when the consumer leaves early', async () => {
    for (const algorithm of ['gzip', 'zstd', 'none'] as const) {
      const source = new WatchedSource(chunksOf(threeBlocksAndABit, [65_536]));
      for await (const piece of compress(compressionOf(algorithm), { blocksInFlightMax: 2 })(source)) {
        if (piece.length > 0) break;
      }
      expect(source.closed).toBe(true);
      expect(source.chunksRead).toBeLessThanOrEqual(32);
    }
  });

  test('passes an error of the source unchanged, and no end mark before it', async () => {
    const failure = new Error('pg_dump was killed');
    for (const algorithm of ['gzip', 'zstd', 'none'] as const) {
      for (const chunks of [[], [rows(100)]]) {
        const stage = compress(compressionOf(algorithm));
        await expect(bytesOf(stage(new WatchedSource(chunks, failure)))).rejects.toBe(failure);
      }
    }
  });
});
