import type { Transform as NodeTransform } from 'node:stream';
import { Gunzip, gzipSync, ZstdDecompress } from 'node:zlib';
import { beforeAll, describe, expect, test, vi } from 'vitest';
import { blocksOf, bytesOf, chunksOf, noise, rows, runFilter, WatchedSource } from '../../test/support/streams.ts';
import { allocateBlock } from '../common/block-memory.ts';
import { BLOCK_BYTES, KIB, MIB } from '../common/bytes.ts';
import { isPgarkError } from '../common/errors.ts';
import { compress } from './compress.ts';
import { compressionOf } from './compression.ts';
import { decompress } from './decompress.ts';
import { drain } from './drain.ts';

const algorithms = ['gzip', 'zstd'] as const;
type Algorithm = (typeof algorithms)[number];

const pieces = [rows(400), noise(150), Buffer.alloc(0), rows(90)];
const samples: Record<Algorithm, { members: Buffer[]; stored: Buffer }> = {
  gzip: { members: [], stored: Buffer.alloc(0) },
  zstd: { members: [], stored: Buffer.alloc(0) },
};
const plain = Buffer.concat(pieces);

beforeAll(async () => {
  for (const algorithm of algorithms) {
    const members = await Promise.all(
      pieces.map((piece) => bytesOf(compress(compressionOf(algorithm))(new WatchedSource([piece])))),
    );
    samples[algorithm] = { members, stored: Buffer.concat(members) };
  }
});

function unpacked(algorithm: Algorithm, chunks: Iterable<Uint8Array>): Promise<Buffer> {
  return bytesOf(decompress(algorithm)(new WatchedSource(chunks)));
}

function sameBytes(result: unknown, bytes: Buffer): boolean {
  return Buffer.isBuffer(result) && result.equals(bytes);
}

/** The bytes, or the error that was thrown in place of their end. */
function outcome(algorithm: Algorithm, stored: Uint8Array): Promise<unknown> {
  return unpacked(algorithm, [stored]).catch((error: unknown) => error);
}

describe.each(algorithms)('%s: truncation and damage', (algorithm) => {
  test('an end at any byte but between two members is corrupt, and said to be a truncation', async () => {
    const { members, stored } = samples[algorithm];
    const borders = new Map<number, number>();
    let storedBytes = 0;
    let plainBytes = 0;
    for (const [index, member] of members.entries()) {
      storedBytes += member.length;
      plainBytes += pieces[index]?.length ?? 0;
      borders.set(storedBytes, plainBytes);
    }
    const truncation = expect.objectContaining({
      code: 'corrupt',
      message: `the ${algorithm} data is truncated: it ends before its own end mark`,
    });
    for (let end = 0; end < stored.length; end += 1) {
      const whole = borders.get(end);
      const result = await outcome(algorithm, stored.subarray(0, end));
      expect({ end, result }).toEqual({ end, result: whole === undefined ? truncation : plain.subarray(0, whole) });
    }
  });

  test('any changed byte is found, or changes nothing', async () => {
    const { stored } = samples[algorithm];
    let foundCount = 0;
    let harmlessCount = 0;
    for (let offset = 0; offset < stored.length; offset += 1) {
      for (const mask of [0x01, 0x20, 0x80, 0xff]) {
        const changed = Buffer.from(stored);
        changed[offset] = (stored[offset] ?? 0) ^ mask;
        const result = await outcome(algorithm, changed);
        const found = isPgarkError(result, 'corrupt');
        const harmless = sameBytes(result, plain);
        expect({ offset, mask, foundOrHarmless: found || harmless }).toEqual({ offset, mask, foundOrHarmless: true });
        foundCount += found ? 1 : 0;
        harmlessCount += harmless ? 1 : 0;
      }
    }
    // A few bits mean nothing: times and systems' names in headers, padding between bit streams.
    expect(foundCount).toBeGreaterThan(9 * harmlessCount);
  });

  test('a member whose first byte became a zero is not taken for the end', async () => {
    const { members, stored } = samples[algorithm];
    const changed = Buffer.from(stored);
    changed[members[0]?.length ?? 0] = 0;
    expect(await outcome(algorithm, changed)).toMatchObject({ code: 'corrupt' });
  });

  test('other data, and garbage behind the end, are corrupt', async () => {
    const { stored } = samples[algorithm];
    for (const garbage of ['garbage', '\u0001', '\u0000\u0000\u0000x', 'PGDMP-----------------------------']) {
      const result = await outcome(algorithm, Buffer.concat([stored, Buffer.from(garbage, 'latin1')]));
      expect(result).toMatchObject({ code: 'corrupt' });
      expect(await outcome(algorithm, Buffer.from(garbage, 'latin1'))).toMatchObject({ code: 'corrupt' });
    }
  });

  test('damage in a later block of many is thrown in place of the end', async () => {
    const source = Buffer.concat([rows(3 * MIB), noise(MIB)]);
    const stored = await bytesOf(compress(compressionOf(algorithm, 1))(new WatchedSource([source])));
    stored[stored.length - 1000] = (stored[stored.length - 1000] ?? 0) ^ 0x10;
    await expect(unpacked(algorithm, chunksOf(stored, [65_536]))).rejects.toMatchObject({ code: 'corrupt' });
  });
});

describe.each(algorithms)('%s: the stream', (algorithm) => {
  test('an error of the source passes unchanged, wherever it comes', async () => {
    const failure = new Error('the connection was lost');
    const { stored } = samples[algorithm];
    for (const end of [0, 3, 30, stored.length]) {
      const source = new WatchedSource(chunksOf(stored.subarray(0, end), [7]), failure);
      await expect(bytesOf(decompress(algorithm)(source))).rejects.toBe(failure);
    }
  });

  test('the source is closed when the consumer leaves early, and when the data is damaged', async () => {
    const stored = await bytesOf(compress(compressionOf(algorithm, 1))(new WatchedSource([noise(8 * MIB)])));
    const left = new WatchedSource(chunksOf(stored, [65_536]));
    for await (const block of decompress(algorithm, { blocksInFlightMax: 2 })(left)) if (block.length > 0) break;
    expect(left.closed).toBe(true);
    expect(left.chunksRead).toBeLessThan(4 * 16);
    const damagedSource = new WatchedSource([Buffer.from('no such format'), stored]);
    await expect(bytesOf(decompress(algorithm)(damagedSource))).rejects.toMatchObject({ code: 'corrupt' });
    expect(damagedSource.closed).toBe(true);
  });

  test('a slow consumer keeps the source from running ahead', async () => {
    const stored = await bytesOf(compress(compressionOf(algorithm, 1))(new WatchedSource([noise(10 * MIB)])));
    const source = new WatchedSource(chunksOf(stored, [65_536]));
    let takenBytes = 0;
    for await (const block of decompress(algorithm, { blocksInFlightMax: 2 })(source)) {
      takenBytes += block.length;
      for (let turn = 0; turn < 20; turn += 1) await new Promise(setImmediate);
      expect(source.chunksRead * 65_536 - takenBytes).toBeLessThanOrEqual(4 * MIB);
    }
    expect(takenBytes).toBe(10 * MIB);
  });
});

describe('what other tools write', () => {
  const dump = rows(5 * MIB);

  test('gzip: one member of any length, in small blocks', async () => {
    const blocks = await blocksOf(decompress('gzip')(new WatchedSource(chunksOf(gzipSync(dump), [10_000]))));
    expect(Buffer.concat(blocks).equals(dump)).toBe(true);
    expect(Math.max(...blocks.map((block) => block.length))).toBeLessThanOrEqual(BLOCK_BYTES);
  });

  test('gzip: a bomb comes in small blocks', async () => {
    const blocks = decompress('gzip')(new WatchedSource([gzipSync(Buffer.alloc(64 * MIB))]));
    let bytes = 0;
    for await (const block of blocks) {
      expect(block.length).toBeLessThanOrEqual(BLOCK_BYTES);
      bytes += block.length;
    }
    expect(bytes).toBe(64 * MIB);
  });

  test('gzip: pigz, and a name in the header', async () => {
    for (const args of [['-c'], ['-c', '-i'], ['-c', '-11', '-p', '1']]) {
      const input = args.includes('-11') ? dump.subarray(0, 20_000) : dump;
      expect((await unpacked('gzip', [await runFilter('pigz', args, input)])).equals(input)).toBe(true);
    }
  });

  test('gzip: zeros behind the end are ignored, in whatever chunks they come', async () => {
    const padded = Buffer.concat([gzipSync('one'), gzipSync('two'), Buffer.alloc(700_000)]);
    for (const length of [1, 5, padded.length]) {
      const cut = padded.subarray(0, length === 1 ? 400 : padded.length);
      expect((await unpacked('gzip', chunksOf(cut, [length]))).toString()).toBe('onetwo');
    }
    expect((await runFilter('gunzip', ['-c'], padded)).toString()).toBe('onetwo');
  });

  test('gzip: a member behind zeros is garbage, not silently left out', async () => {
    const gap = Buffer.concat([gzipSync('one'), Buffer.alloc(10), gzipSync('two')]);
    expect(await outcome('gzip', gap)).toMatchObject({ code: 'corrupt' });
  });

  test.each([
    ['a file of known size', ['-3', '--stream-size=5242880']],
    ['a pipe', ['-3']],
    ['without checksum', ['-3', '--no-check']],
    ['many threads', ['-3', '-T2']],
    ['a long window', ['-3', '--long=27']],
    ['a high level', ['-12', '--stream-size=5242880']],
    ['blocks that can be synchronised', ['-1', '--rsyncable']],
  ])('zstd: %s', async (_, args) => {
    const stored = await runFilter('zstd', ['-c', '-q', ...args], dump);
    const blocks = await blocksOf(decompress('zstd')(new WatchedSource(chunksOf(stored, [9999]))));
    expect(Buffer.concat(blocks).equals(dump)).toBe(true);
    expect(Math.max(...blocks.map((block) => block.length))).toBeLessThanOrEqual(BLOCK_BYTES);
  });

  test('zstd: small, large, empty and skippable frames in one file, in any chunks', async () => {
    const unknownSize = await runFilter('zstd', ['-c', '-q'], rows(2 * MIB));
    const emptyFrame = await runFilter('zstd', ['-c', '-q'], Buffer.alloc(0));
    const stored = Buffer.concat([
      skippable(noise(1000)),
      samples.zstd.stored,
      unknownSize,
      emptyFrame,
      skippable(Buffer.alloc(0)),
      unknownSize,
      samples.zstd.stored,
      skippable(noise(2 * MIB)),
    ]);
    const expected = Buffer.concat([plain, rows(2 * MIB), rows(2 * MIB), plain]);
    for (const lengths of [[stored.length], [777], [MIB, 1, 2, 3]]) {
      const blocks = await blocksOf(decompress('zstd')(new WatchedSource(chunksOf(stored, lengths))));
      expect(Buffer.concat(blocks).equals(expected)).toBe(true);
      expect(blocks.every((block) => block.length > 0)).toBe(true);
    }
    expect((await runFilter('zstd', ['-d', '-c'], stored)).equals(expected)).toBe(true);
  });

  test('zstd: a large frame that is cut off anywhere is a truncation', async () => {
    const stored = await runFilter('zstd', ['-c', '-q'], noise(400_000));
    for (let end = 1; end < stored.length; end += end < 30 || end > stored.length - 30 ? 1 : 7919) {
      expect(await outcome('zstd', stored.subarray(0, end)), `cut at ${end}`).toMatchObject({
        code: 'corrupt',
        message: expect.stringContaining('truncated'),
      });
    }
  });

  test('zstd: a skippable frame that is cut off is a truncation', async () => {
    const stored = skippable(noise(100));
    for (const end of [1, 5, 8, 50, stored.length - 1]) {
      expect(await outcome('zstd', stored.subarray(0, end))).toMatchObject({
        message: expect.stringContaining('truncated'),
      });
    }
  });

  test('zstd: a changed byte of a large frame is found by its checksum', async () => {
    const original = noise(400_000);
    const stored = await runFilter('zstd', ['-c', '-q'], original);
    for (let offset = 5; offset < stored.length; offset += offset < 30 ? 1 : 19_997) {
      const changed = Buffer.from(stored);
      changed[offset] = (stored[offset] ?? 0) ^ 0x20;
      const result = await outcome('zstd', changed);
      const foundOrHarmless = isPgarkError(result, 'corrupt') || sameBytes(result, original);
      expect({ offset, foundOrHarmless }).toEqual({ offset, foundOrHarmless: true });
    }
  });
});

describe('zstd frames that lie about their size', () => {
  /** A frame of one block that repeats a zero `repeats` times, with the given header fields. */
  const frame = (descriptor: number, fields: readonly number[], repeats: number): Buffer => {
    const blockHeader = (repeats << 3) | (1 << 1) | 1;
    const block = [blockHeader & 0xff, (blockHeader >> 8) & 0xff, blockHeader >> 16, 0];
    return Buffer.from([0x28, 0xb5, 0x2f, 0xfd, descriptor, ...fields, ...block]);
  };

  test('the test’s own frame is sound when it tells the truth', async () => {
    expect(await outcome('zstd', frame(0x20, [200], 200))).toEqual(Buffer.alloc(200));
  });

  test('a frame with less or more content than it claims is corrupt', async () => {
    expect(await outcome('zstd', frame(0x20, [200], 100))).toMatchObject({ code: 'corrupt' });
    expect(await outcome('zstd', frame(0x20, [100], 101))).toMatchObject({ code: 'corrupt' });
    expect(await outcome('zstd', frame(0x20, [0], 100))).toMatchObject({ code: 'corrupt' });
  });

  test('a claim of terabytes allocates nothing of the sort', async () => {
    const before = process.memoryUsage().rss;
    // Content size of 8 bytes, window of 1 KiB: streamed.
    const streamed = frame(0xc0, [0x00, 0, 0, 0, 0, 0, 1, 0, 0], 100);
    expect(await outcome('zstd', streamed)).toMatchObject({ code: 'corrupt' });
    // The same as a single segment: the window is as large as the content.
    const single = frame(0xe0, [0, 0, 0, 0, 0, 1, 0, 0], 100);
    expect(await outcome('zstd', single)).toMatchObject({
      code: 'corrupt',
      message: expect.stringContaining('memory'),
    });
    expect(process.memoryUsage().rss - before).toBeLessThan(64 * MIB);
  });

  test('a window of more than 128 MiB is refused with the reason', async () => {
    const stored = await runFilter('zstd', ['-c', '-q', '--long=28'], rows(1000));
    expect(await outcome('zstd', stored)).toMatchObject({
      code: 'corrupt',
      message: 'the zstd data is damaged: a frame asks for 256 MiB of memory, more than the 128 MiB allowed',
    });
  });

  test('a dictionary is asked for by name, a reserved bit and an impossible block are refused', async () => {
    expect(await outcome('zstd', frame(0x21, [7, 100], 100))).toMatchObject({
      message: expect.stringContaining('dictionary'),
    });
    expect(await outcome('zstd', frame(0x28, [100], 100))).toMatchObject({
      message: expect.stringContaining('reserved'),
    });
    expect(await outcome('zstd', frame(0x20, [100], 0x1fffff))).toMatchObject({
      message: expect.stringContaining('impossible'),
    });
  });

  test('a tiny content in more blocks than fit memory is streamed', async () => {
    const start = Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0x20, 3, 3 << 3, 0, 0, 0x61, 0x62, 0x63]);
    const emptyBlocks = Buffer.alloc(3 * 1_500_000);
    const lastBlock = Buffer.from([1, 0, 0]);
    const source = new WatchedSource(chunksOf(Buffer.concat([start, emptyBlocks, lastBlock]), [65_536]));
    const blocks: string[] = [];
    for await (const block of decompress('zstd')(source)) {
      blocks.push(Buffer.from(block).toString());
      expect(source.chunksRead * 65_536).toBeLessThan(3.5 * MIB);
    }
    expect(blocks).toEqual(['abc']);
  });

  test('a small claim with gigabytes behind it is found before they are made', async () => {
    const header = ((128 * KIB) << 3) | (1 << 1);
    const repeatedZero = [header & 0xff, (header >> 8) & 0xff, header >> 16, 0];
    const blocks = Array.from({ length: 16_384 }, () => repeatedZero).flat();
    // Content size of 2 bytes, window of 1 MiB.
    const bomb = Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0x40, 0x50, 0, 0, ...blocks, 1, 0, 0]);
    const before = process.resourceUsage().maxRSS;
    expect(await outcome('zstd', bomb)).toMatchObject({ code: 'corrupt' });
    expect(process.resourceUsage().maxRSS - before).toBeLessThan(64 * KIB);
  });
});

describe('native memory', () => {
  test.each([
    ['gzip', Gunzip, ['-c']],
    ['zstd', ZstdDecompress, ['-c', '-q']],
  ] as const)('%s: is given back as soon as the consumer leaves early', async (algorithm, engineClass, args) => {
    const destroy = vi.spyOn<NodeTransform, 'destroy'>(engineClass.prototype, 'destroy');
    try {
      const stored = await runFilter(algorithm, args, rows(3 * MIB));
      for await (const block of decompress(algorithm)(new WatchedSource([stored]))) if (block.length > 0) break;
      expect(destroy.mock.contexts.map((engine) => (engine as NodeTransform).destroyed)).toEqual([true]);
    } finally {
      destroy.mockRestore();
    }
  });
});

test('zstd: a block of the source is free when all frames in it were read, of whatever kind', async () => {
  const large = await runFilter('zstd', ['-c', '-q'], noise(300_000));
  const stored = Buffer.concat([skippable(noise(1000)), samples.zstd.stored, large, skippable(noise(MIB))]);
  const blocks = [...chunksOf(stored, [BLOCK_BYTES])].map((chunk) => {
    const block = allocateBlock(chunk.length);
    block.set(chunk);
    return block;
  });
  async function* source() {
    yield* blocks;
  }
  expect(await drain(decompress('zstd')(source()))).toBe(plain.length + 300_000);
  expect(blocks.map((block) => block.length)).toEqual([0, 0]);
});

function skippable(content: Uint8Array): Buffer {
  const header = Buffer.alloc(8);
  header.writeUInt32LE(0x184d2a53, 0);
  header.writeUInt32LE(content.length, 4);
  return Buffer.concat([header, content]);
}
