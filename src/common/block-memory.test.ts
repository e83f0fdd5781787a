import { describe, expect, test } from 'vitest';
import { adoptBlock, allocateBlock, freeChunk, freeMemory, partOf, releaseBlock, shareBlock } from './block-memory.ts';
import { BLOCK_BYTES } from './bytes.ts';

describe('memory of blocks', () => {
  test('a block has the length asked for, none included', () => {
    for (const bytes of [0, 1, 1000, BLOCK_BYTES, BLOCK_BYTES + 1]) expect(allocateBlock(bytes)).toHaveLength(bytes);
  });

  test('who keeps a view of a released block finds nothing, and never what the next block holds', () => {
    for (const bytes of [1000, BLOCK_BYTES]) {
      const block = allocateBlock(bytes);
      const view = block.subarray(10, 20);
      releaseBlock(block);
      const next = allocateBlock(bytes).fill(7);
      expect([block.length, view.length]).toEqual([0, 0]);
      expect(next).toHaveLength(bytes);
    }
  });

  test('full blocks that were released are used again', () => {
    const block = allocateBlock(BLOCK_BYTES);
    block[4711] = 42;
    releaseBlock(block);
    expect(allocateBlock(BLOCK_BYTES)[4711]).toBe(42);
  });

  test('a block released twice is not given to two', () => {
    const block = allocateBlock(BLOCK_BYTES);
    releaseBlock(block);
    releaseBlock(block);
    const [one, two] = [allocateBlock(BLOCK_BYTES), allocateBlock(BLOCK_BYTES)];
    one.fill(1);
    two.fill(2);
    expect([one[0], two[0]]).toEqual([1, 2]);
  });

  test('views, and buffers that were not made here, are left alone', () => {
    const block = allocateBlock(BLOCK_BYTES).fill(3);
    releaseBlock(block.subarray(0));
    releaseBlock(block.subarray(5, 10));
    const foreign = new Uint8Array(BLOCK_BYTES).fill(4);
    releaseBlock(foreign);
    expect([block.length, block[9], foreign.length, foreign[9]]).toEqual([BLOCK_BYTES, 3, BLOCK_BYTES, 4]);
  });

  test('a block that was adopted is freed when it is released, and is not given to others', () => {
    const memory = new Uint8Array(BLOCK_BYTES + 64).fill(3);
    const block = adoptBlock(memory.subarray(0, BLOCK_BYTES));
    releaseBlock(block);
    expect([block.length, memory.length, allocateBlock(BLOCK_BYTES).length]).toEqual([0, 0, BLOCK_BYTES]);
  });

  test('freed memory is gone at once', () => {
    const buffer = new ArrayBuffer(1000);
    freeMemory(buffer);
    expect(buffer.byteLength).toBe(0);
  });

  test('a block stays until it and all its parts were released, in whatever order, parts of parts too', () => {
    const block = allocateBlock(BLOCK_BYTES).fill(5);
    const [one, two] = [partOf(block, 0, 10), partOf(block, 10, BLOCK_BYTES)];
    const inner = partOf(two, 5, 15);
    for (const each of [block, block, two, one, one]) releaseBlock(each);
    const next = allocateBlock(BLOCK_BYTES).fill(6);
    expect([inner.length, inner[0], next[0]]).toEqual([10, 5, 6]);
    releaseBlock(inner);
    expect([block.length, one.length, two.length, inner.length]).toEqual([0, 0, 0, 0]);
  });

  test('a chunk is freed where nobody else can have a part of its memory', () => {
    const chunk = (at: number, length: number) => Buffer.from(new ArrayBuffer(100_000), at, length);
    const freed = [chunk(0, 100_000), chunk(500, 99_500), chunk(50_000, 50_000)];
    const left = [chunk(0, 99_999), chunk(500, 99_000), chunk(90_000, 10_000), Buffer.from('one of many small ones')];
    for (const each of [...freed, ...left]) freeChunk(each);
    expect(freed.map((each) => each.length)).toEqual([0, 0, 0]);
    expect(left.map((each) => each.length)).toEqual([99_999, 99_000, 10_000, 22]);
  });

  test('many blocks in turn do not make more garbage than a few blocks', () => {
    const before = process.memoryUsage().arrayBuffers;
    for (let turn = 0; turn < 2_000; turn += 1) releaseBlock(allocateBlock(BLOCK_BYTES - (turn % 2)));
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(20 * BLOCK_BYTES);
  });

  test('a shared block stays until each holder has released its own view, each counted once', () => {
    const block = allocateBlock(BLOCK_BYTES).fill(5);
    const [one, two, three] = shareBlock(block, 3);
    if (!one || !two || !three) throw new Error('three views were asked for');
    for (const _ of [1, 2, 3]) releaseBlock(one);
    releaseBlock(two);
    const next = allocateBlock(BLOCK_BYTES).fill(6);
    expect([three.length, three[4711], next[4711]]).toEqual([BLOCK_BYTES, 5, 6]);
    releaseBlock(three);
    expect([one.length, two.length, three.length]).toEqual([0, 0, 0]);
  });

  test('a buffer of somebody else’s can be shared too, and is left alone', () => {
    const foreign = new Uint8Array(10).fill(4);
    for (const view of shareBlock(foreign, 2)) releaseBlock(view);
    expect(foreign[9]).toBe(4);
  });
});
