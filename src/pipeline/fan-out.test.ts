import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { blocksOf, bytesOf, chunksOf, noise, WatchedSource } from '../../test/support/streams.ts';
import { allocateBlock, releaseBlock } from '../common/block-memory.ts';
import type { ByteStream } from '../common/bytes.ts';
import { FanOut, type FanOutBranch } from './fan-out.ts';

function at(fan: FanOut, index: number): FanOutBranch {
  const branch = fan.branches[index];
  if (branch === undefined) throw new Error(`there is no branch ${index}`);
  return branch;
}

/** Lets everything go on that can. */
async function settle(): Promise<void> {
  for (let round = 0; round < 10; round += 1) await new Promise((resolve) => setImmediate(resolve));
}

async function* lentBlocks(count: number, bytes: number): ByteStream {
  for (let index = 0; index < count; index += 1) yield allocateBlock(bytes).fill(index + 1);
}

describe('a stream for several consumers', () => {
  test('gives each of them the same bytes, however quick they are', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.uint8Array({ maxLength: 400 }),
        fc.array(fc.nat({ max: 50 }), { minLength: 1, maxLength: 5 }),
        fc.array(fc.array(fc.nat({ max: 3 }), { minLength: 1, maxLength: 5 }), { minLength: 1, maxLength: 4 }),
        async (bytes, lengths, pauses) => {
          const fan = new FanOut(new WatchedSource(chunksOf(bytes, lengths)), pauses.length);
          const taken = await Promise.all(
            pauses.map(async (turns, index) => {
              const blocks: Uint8Array[] = [];
              for await (const block of at(fan, index)) {
                for (let turn = turns[blocks.length % turns.length] ?? 0; turn > 0; turn -= 1) await Promise.resolve();
                blocks.push(Uint8Array.from(block));
                releaseBlock(block);
              }
              return Buffer.concat(blocks);
            }),
          );
          for (const each of taken) expect(each).toEqual(Buffer.from(bytes));
        },
      ),
    );
  });

  test('reads no further than four blocks before the slowest', async () => {
    const source = new WatchedSource(chunksOf(noise(100), [1]));
    const fan = new FanOut(source, 2);
    const quick = blocksOf(at(fan, 0));
    await settle();
    expect(source.chunksRead).toBe(4);
    const slow = at(fan, 1)[Symbol.asyncIterator]();
    await slow.next();
    await settle();
    expect([source.chunksRead, at(fan, 0).waiting, at(fan, 1).waiting]).toEqual([5, true, false]);
    at(fan, 1).leave();
    expect(await quick).toHaveLength(100);
  });

  test('is not read before somebody wants it, and not while nobody does', async () => {
    const source = new WatchedSource(chunksOf(noise(100), [1]));
    const fan = new FanOut(source, 2);
    await settle();
    expect([source.chunksRead, fan.pulling]).toEqual([0, false]);
    await at(fan, 0)[Symbol.asyncIterator]().next();
    await settle();
    expect([source.chunksRead, fan.pulling]).toEqual([1, false]);
  });

  test('keeps a block until the last consumer has released it', async () => {
    const fan = new FanOut(lentBlocks(3, 1000), 2);
    const [one, other] = [at(fan, 0)[Symbol.asyncIterator](), at(fan, 1)[Symbol.asyncIterator]()];
    const first = await one.next();
    const same = await other.next();
    if (first.done === true || same.done === true) throw new Error('a block was due');
    releaseBlock(first.value);
    releaseBlock(first.value);
    expect(same.value).toEqual(new Uint8Array(1000).fill(1));
    releaseBlock(same.value);
    expect([first.value.length, same.value.length]).toEqual([0, 0]);
  });

  test('passes an error of the source to each, even before the blocks they have not taken', async () => {
    const failure = new Error('the source failed');
    const fan = new FanOut(new WatchedSource(chunksOf(noise(3), [1]), failure), 2);
    await expect(blocksOf(at(fan, 0))).rejects.toBe(failure);
    await expect(at(fan, 1)[Symbol.asyncIterator]().next()).rejects.toBe(failure);
  });

  test('goes on for the others when one stops, and ends its source when all have', async () => {
    const source = new WatchedSource(chunksOf(noise(100), [1]));
    let allLeft = 0;
    const fan = new FanOut(source, 3, () => (allLeft += 1));
    for await (const _ of at(fan, 0)) break;
    at(fan, 1).leave();
    const rest = at(fan, 2)[Symbol.asyncIterator]();
    for (let index = 0; index < 50; index += 1) expect(await rest.next()).toMatchObject({ done: false });
    expect([source.closed, allLeft]).toEqual([false, 0]);
    await rest.return?.();
    await settle();
    expect([source.closed, allLeft]).toEqual([true, 1]);
  });

  test('never looks complete to who was made to leave it, not even at its end', async () => {
    const reason = new Error('too slow');
    const fan = new FanOut(new WatchedSource(chunksOf(noise(3), [1])), 2);
    const slow = at(fan, 1)[Symbol.asyncIterator]();
    await bytesOf(at(fan, 0));
    at(fan, 1).leave(reason);
    await expect(slow.next()).rejects.toBe(reason);
    await expect(slow.next()).rejects.toBe(reason);
  });

  test('ends at once for who waits for a block and is made to leave', async () => {
    const reason = new Error('enough');
    const never = async function* (): ByteStream {
      await new Promise(() => {});
      yield new Uint8Array(1);
    };
    const fan = new FanOut(never(), 2);
    const waiting = at(fan, 0)[Symbol.asyncIterator]().next();
    expect([fan.pulling, at(fan, 0).waiting]).toEqual([true, true]);
    at(fan, 0).leave(reason);
    await expect(waiting).rejects.toBe(reason);
  });

  test('holds no more memory than a few blocks, however long it is', async () => {
    const before = process.memoryUsage().arrayBuffers;
    const fan = new FanOut(lentBlocks(1_000, 2 ** 20), 2);
    await Promise.all(
      fan.branches.map(async (branch) => {
        for await (const block of branch) {
          expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(20 * 2 ** 20);
          releaseBlock(block);
        }
      }),
    );
  });
});
