import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { allocateBlock } from '../../common/block-memory.ts';
import { BodySource } from './body-source.ts';

async function* blocks(...sizes: number[]): AsyncGenerator<Uint8Array> {
  let next = 0;
  for (const size of sizes) yield Uint8Array.from({ length: size }, () => next++);
}

describe('a body source', () => {
  test('fills buffers of any size from blocks of any size, in order and completely', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.nat(20)), fc.integer({ min: 1, max: 17 }), async (sizes, bufferBytes) => {
        const source = new BodySource(blocks(...sizes), new AbortController().signal);
        const read: number[] = [];
        while (!(await source.atEnd())) {
          const buffer = new Uint8Array(bufferBytes);
          const filled = await source.read(buffer);
          expect(filled > 0 && (filled === bufferBytes || (await source.atEnd()))).toBe(true);
          read.push(...buffer.subarray(0, filled));
        }
        const total = sizes.reduce((sum, size) => sum + size, 0);
        expect(read).toEqual([...Uint8Array.from({ length: total }, (_, index) => index)]);
      }),
    );
  });

  test('gives a block back once all of it was taken, not before', async () => {
    const lent = [allocateBlock(4).fill(1), allocateBlock(4).fill(2)];
    const stream = async function* (): AsyncGenerator<Uint8Array> {
      yield* lent;
    };
    const source = new BodySource(stream(), new AbortController().signal);
    const buffer = new Uint8Array(6);
    await source.read(buffer);
    expect([...buffer]).toEqual([1, 1, 1, 1, 2, 2]);
    expect(lent.map((block) => block.length)).toEqual([0, 4]);
    expect(await source.read(buffer)).toBe(2);
    expect([...buffer]).toEqual([2, 2, 1, 1, 2, 2]);
    expect(lent.map((block) => block.length)).toEqual([0, 0]);
  });

  test('rethrows what the stream throws, as it is', async () => {
    const error = new Error('pg_dump was killed');
    const failing = async function* (): AsyncGenerator<Uint8Array> {
      yield new Uint8Array(3);
      throw error;
    };
    const source = new BodySource(failing(), new AbortController().signal);
    await expect(source.read(new Uint8Array(10))).rejects.toBe(error);
  });

  test('is ended by its signal although the stream hangs, and then does not wait for it', async () => {
    const controller = new AbortController();
    const hanging = async function* (): AsyncGenerator<Uint8Array> {
      yield new Uint8Array(3);
      await new Promise(() => {});
    };
    const source = new BodySource(hanging(), controller.signal);
    const reading = source.read(new Uint8Array(10));
    const reason = new Error('stopped');
    setImmediate(() => controller.abort(reason));
    await expect(reading).rejects.toBe(reason);
    await source.close();
  });

  test('tells a stream that is left early to end, and waits until it has', async () => {
    let cleaned = false;
    const endless = async function* (): AsyncGenerator<Uint8Array> {
      try {
        for (;;) yield new Uint8Array(8);
      } finally {
        await Promise.resolve();
        cleaned = true;
      }
    };
    const source = new BodySource(endless(), new AbortController().signal);
    await source.read(new Uint8Array(4));
    await source.close();
    expect(cleaned).toBe(true);
  });
});
