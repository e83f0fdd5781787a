import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { BlockQueue } from './block-queue.ts';
import { BLOCK_BYTES } from './bytes.ts';

const freely = { pause: () => undefined, resume: () => undefined };

async function all(queue: BlockQueue): Promise<Uint8Array[]> {
  const blocks: Uint8Array[] = [];
  for (let block = await queue.next(); block !== undefined; block = await queue.next()) blocks.push(block);
  return blocks;
}

describe('a queue of blocks', () => {
  test('keeps every byte of pieces of any size, from anywhere in their memory', async () => {
    const piece = fc.tuple(fc.uint8Array({ maxLength: 200 }), fc.integer({ min: 0, max: 9 }));
    await fc.assert(
      fc.asyncProperty(fc.array(piece), async (pieces) => {
        const queue = new BlockQueue(freely);
        for (const [bytes, offset] of pieces) {
          const memory = new Uint8Array(bytes.length + 2 * offset).fill(0xff);
          memory.set(bytes, offset);
          queue.append(new DataView(memory.buffer), offset, offset + bytes.length);
        }
        queue.end();
        expect(Buffer.concat(await all(queue))).toEqual(Buffer.concat(pieces.map(([bytes]) => bytes)));
      }),
    );
  });

  test('passes on full blocks although no piece ends where they do', async () => {
    const queue = new BlockQueue(freely);
    const row = Uint8Array.from({ length: 101 }, (_, index) => index);
    for (let sent = 0; sent < 2 * BLOCK_BYTES; sent += row.length)
      queue.append(new DataView(row.buffer), 0, row.length);
    queue.end();
    const blocks = await all(queue);
    expect(blocks.map((block) => block.length)).toEqual([BLOCK_BYTES, BLOCK_BYTES, 101 - ((2 * BLOCK_BYTES) % 101)]);
    const together = Buffer.concat(blocks);
    expect(together.every((byte, index) => byte === index % 101)).toBe(true);
  });

  test('holds up its source while two blocks wait, and lets it go on when one is taken', async () => {
    const events: string[] = [];
    const queue = new BlockQueue({ pause: () => events.push('pause'), resume: () => events.push('resume') });
    const block = new DataView(new ArrayBuffer(BLOCK_BYTES));
    queue.append(block, 0, BLOCK_BYTES);
    expect(events).toEqual([]);
    queue.append(block, 0, BLOCK_BYTES);
    expect(events).toEqual(['pause']);
    await queue.next();
    expect(events).toEqual(['pause', 'resume']);
  });

  test('throws the first failure after the blocks that are full, and none after the end', async () => {
    const queue = new BlockQueue(freely);
    queue.append(new DataView(new ArrayBuffer(BLOCK_BYTES + 1)), 0, BLOCK_BYTES + 1);
    queue.fail(new Error('first'));
    queue.fail(new Error('second'));
    expect(await queue.next()).toHaveLength(BLOCK_BYTES);
    await expect(queue.next()).rejects.toThrow('first');

    const ended = new BlockQueue(freely);
    ended.end();
    ended.fail(new Error('too late'));
    expect(await ended.next()).toBeUndefined();
  });
});
