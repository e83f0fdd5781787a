import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { blocksOf, bytesOf, chunksOf, noise, WatchedSource } from '../../test/support/streams.ts';
import { allocateBlock } from '../common/block-memory.ts';
import { BLOCK_BYTES } from '../common/bytes.ts';
import { orderedMap, reblock } from './blocks.ts';

describe('reblock', () => {
  test('packs any chunks into full blocks, the last one shorter, without losing or changing a byte', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.uint8Array({ maxLength: 300 }),
        fc.array(fc.integer({ min: 0, max: 40 }), { minLength: 1 }),
        fc.integer({ min: 1, max: 50 }),
        async (bytes, lengths, blockBytes) => {
          const blocks = await blocksOf(reblock(blockBytes)(new WatchedSource(chunksOf(bytes, lengths))));
          expect(Buffer.concat(blocks)).toEqual(Buffer.from(bytes));
          expect(blocks.slice(0, -1).every((block) => block.length === blockBytes)).toBe(true);
          expect(blocks.every((block) => block.length > 0 && block.length <= blockBytes)).toBe(true);
        },
      ),
    );
  });

  test('makes blocks of 1 MiB unless told otherwise', async () => {
    const blocks = await blocksOf(reblock()(new WatchedSource(chunksOf(noise(BLOCK_BYTES + 5), [65_536]))));
    expect(blocks.map((block) => block.length)).toEqual([BLOCK_BYTES, 5]);
  });

  test('passes a chunk that is a full block without copying it', async () => {
    const chunk = noise(8);
    async function* source() {
      yield chunk;
    }
    const [block] = await blocksOf(reblock(8)(source()));
    expect(block?.buffer).toBe(chunk.buffer);
  });

  test('releases what it has copied, and nothing that it has passed on', async () => {
    const [whole, copied, cut] = [10, 4, 25].map((bytes) => allocateBlock(bytes).fill(bytes));
    if (!whole || !copied || !cut) throw new Error('three chunks were made');
    async function* source() {
      yield* [whole, copied, cut] as Uint8Array[];
    }
    const blocks = await blocksOf(reblock(10)(source()));
    expect(blocks.map((block) => [...new Set(block)])).toEqual([[10], [4, 25], [25], [25]]);
    expect([whole.length, copied.length, cut.length]).toEqual([10, 0, 25]);
  });

  test('never writes again into a block that it has handed on', async () => {
    const kept: Uint8Array[] = [];
    const copies: Buffer[] = [];
    for await (const block of reblock(10)(new WatchedSource(chunksOf(noise(95), [3])))) {
      kept.push(block);
      copies.push(Buffer.from(block));
    }
    expect(kept.map((block) => Buffer.from(block))).toEqual(copies);
  });

  test('closes the source when the consumer leaves early', async () => {
    const source = new WatchedSource(chunksOf(noise(100), [4]));
    for await (const block of reblock(8)(source)) if (block.length > 0) break;
    expect(source).toMatchObject({ closed: true, chunksRead: 2 });
  });

  test('passes an error of the source unchanged', async () => {
    const failure = new Error('the source failed');
    await expect(bytesOf(reblock(8)(new WatchedSource([noise(3)], failure)))).rejects.toBe(failure);
  });

  test('refuses a block size that is no size', () => {
    expect(() => reblock(0)).toThrow('at least one byte');
    expect(() => reblock(1.5)).toThrow('at least one byte');
  });
});

/** Jobs that are ended by hand, in any order. */
class Jobs {
  readonly #running = new Map<number, { resolve: (result: number) => void; reject: (error: Error) => void }>();
  started = 0;
  runningMax = 0;
  /** Settles as soon as this many jobs have been started. */
  async untilStarted(count: number): Promise<void> {
    while (this.started < count) await new Promise(setImmediate);
  }

  readonly start = (item: number): Promise<number> => {
    this.started += 1;
    const { promise, resolve, reject } = Promise.withResolvers<number>();
    this.#running.set(item, { resolve, reject });
    this.runningMax = Math.max(this.runningMax, this.#running.size);
    return promise;
  };

  get running(): number[] {
    return [...this.#running.keys()];
  }

  finish(item: number): void {
    this.#running.get(item)?.resolve(item * 10);
    this.#running.delete(item);
  }

  fail(item: number, error: Error): void {
    this.#running.get(item)?.reject(error);
    this.#running.delete(item);
  }
}

class Numbers implements AsyncIterable<number> {
  readonly #count: number;
  read = 0;
  closed = false;

  constructor(count: number) {
    this.#count = count;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<number> {
    try {
      for (; this.read < this.#count; ) yield (this.read += 1);
    } finally {
      this.closed = true;
    }
  }
}

describe('orderedMap', () => {
  test('yields the results in the order of the items, whichever job ends first', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.integer({ min: 0, max: 5 }), { maxLength: 30 }),
        fc.integer({ min: 1, max: 6 }),
        async (turns, jobsInFlightMax) => {
          async function* items() {
            for (const [index, turn] of turns.entries()) yield { index, turn };
          }
          let running = 0;
          const results: number[] = [];
          const mapped = orderedMap(items(), jobsInFlightMax, async ({ index, turn }) => {
            running += 1;
            expect(running).toBeLessThanOrEqual(jobsInFlightMax);
            for (let left = turn; left > 0; left -= 1) await new Promise(setImmediate);
            running -= 1;
            return index;
          });
          for await (const result of mapped) results.push(result);
          expect(results).toEqual(turns.map((_, index) => index));
        },
      ),
      { numRuns: 30 },
    );
  });

  test('runs as many jobs as allowed at once, and a slow consumer keeps the source no further ahead', async () => {
    const source = new Numbers(10);
    const jobs = new Jobs();
    const results = orderedMap(source, 3, jobs.start);
    const first = results.next();
    await jobs.untilStarted(3);
    expect(jobs.running).toEqual([1, 2, 3]);
    for (const item of [3, 2, 1]) jobs.finish(item);
    expect(await first).toEqual({ done: false, value: 10 });
    for (let turn = 0; turn < 20; turn += 1) await new Promise(setImmediate);
    expect(source.read).toBe(3);
    await results.return();
    expect(jobs.runningMax).toBe(3);
  });

  test('throws the error of a job in its turn, waits for the jobs behind it, and closes the source', async () => {
    const source = new Numbers(10);
    const jobs = new Jobs();
    const results = orderedMap(source, 3, jobs.start);
    const first = results.next();
    await jobs.untilStarted(3);
    const failure = new Error('job 2 failed');
    jobs.fail(2, failure);
    jobs.finish(1);
    expect((await first).value).toBe(10);
    let settled = false;
    const second = results.next().finally(() => {
      settled = true;
    });
    second.catch(() => undefined);
    await jobs.untilStarted(4);
    for (let turn = 0; turn < 20; turn += 1) await new Promise(setImmediate);
    expect(settled).toBe(false);
    jobs.finish(3);
    jobs.finish(4);
    await expect(second).rejects.toBe(failure);
    expect(source.closed).toBe(true);
    expect(await results.next()).toEqual({ done: true, value: undefined });
  });

  test('leaves no rejection unhandled when jobs fail behind the one that is thrown', async () => {
    const unhandled: unknown[] = [];
    const note = (reason: unknown) => unhandled.push(reason);
    process.on('unhandledRejection', note);
    try {
      const failures = orderedMap(new Numbers(5), 4, async (item) => {
        throw new Error(`job ${item} failed`);
      });
      await expect(failures.next()).rejects.toThrow('job 1 failed');
      for (let turn = 0; turn < 5; turn += 1) await new Promise(setImmediate);
      expect(unhandled).toEqual([]);
    } finally {
      process.off('unhandledRejection', note);
    }
  });

  test('waits for started jobs and closes the source when the consumer leaves early', async () => {
    const source = new Numbers(10);
    const jobs = new Jobs();
    const results = orderedMap(source, 2, jobs.start);
    const first = results.next();
    await jobs.untilStarted(2);
    jobs.finish(1);
    await first;
    let left = false;
    const leaving = results.return().then(() => {
      left = true;
    });
    for (let turn = 0; turn < 20; turn += 1) await new Promise(setImmediate);
    expect(left).toBe(false);
    jobs.finish(2);
    await leaving;
    expect(source.closed).toBe(true);
  });

  test('throws an error of the source unchanged', async () => {
    const failure = new Error('the source failed');
    async function* source() {
      yield 1;
      throw failure;
    }
    const results = orderedMap(source(), 3, async (item) => item);
    await expect(results.next()).rejects.toBe(failure);
  });
});
