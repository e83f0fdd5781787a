import { expect, test } from 'vitest';
import { allocateBlock } from '../common/block-memory.ts';
import { BLOCK_BYTES, type ByteStream } from '../common/bytes.ts';
import { ByteReader } from './byte-reader.ts';

const block = (content: number): Uint8Array => allocateBlock(BLOCK_BYTES).fill(content);

async function* handed(blocks: readonly Uint8Array[]): ByteStream {
  yield* blocks;
}

test('a block that is read stays until all that was taken of it is released, and is free then', async () => {
  const [one, two] = [block(1), block(2)];
  const reader = new ByteReader(handed([one, two]));
  expect(await reader.fill(BLOCK_BYTES)).toBe(true);
  const [first, second] = [reader.take(10), reader.take(BLOCK_BYTES - 10)];
  expect(await reader.fill(1)).toBe(true);
  for (const _ of [1, 2]) reader.release(first);
  expect([one.length, second[0]]).toEqual([BLOCK_BYTES, 1]);
  reader.release(second);
  expect([one.length, reader.buffered.length, reader.buffered[0]]).toEqual([0, BLOCK_BYTES, 2]);
});

test('what lies across blocks is joined, and each of them is free', async () => {
  const blocks = [block(1), block(2), block(3)];
  const reader = new ByteReader(handed(blocks));
  await reader.fill(1);
  const taken = reader.take(BLOCK_BYTES - 2);
  expect(await reader.fill(BLOCK_BYTES + 3)).toBe(true);
  expect([...reader.buffered.subarray(0, 4), reader.buffered.at(-1)]).toEqual([1, 1, 2, 2, 3]);
  reader.release(taken);
  expect(blocks.map(({ length }) => length)).toEqual([0, 0, 0]);
  reader.take(reader.buffered.length);
  expect(await reader.fill(1)).toBe(false);
});
