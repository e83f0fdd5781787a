import { expect, test } from 'vitest';
import { allOf, inParallel } from './in-parallel.ts';

const never = new AbortController().signal;

test('every item is taken once, in order, by no more workers than are allowed', async () => {
  const taken: number[] = [];
  let working = 0;
  let workingMax = 0;
  await inParallel([1, 2, 3, 4, 5, 6, 7], 3, never, async (take) => {
    working += 1;
    workingMax = Math.max(workingMax, working);
    for (let item = take(); item !== undefined; item = take()) {
      taken.push(item);
      await Promise.resolve();
    }
    working -= 1;
  });
  expect(taken).toEqual([1, 2, 3, 4, 5, 6, 7]);
  expect(workingMax).toBe(3);
});

test('nobody works where there is nothing to do', async () => {
  let workers = 0;
  await inParallel([], 3, never, async () => {
    workers += 1;
  });
  expect(workers).toBe(0);
});

test('the first failure aborts the others, and is thrown when all have ended', async () => {
  const log: string[] = [];
  const working = inParallel(['fails', 'waits', 'never begun'], 2, never, async (take, signal) => {
    const item = take();
    if (item === 'fails') throw new Error('the first');
    await new Promise<void>((resolve) => {
      signal.addEventListener('abort', () => resolve(), { once: true });
    });
    log.push(`${item ?? ''} has ended`);
    take();
  });
  await expect(working).rejects.toThrow('the first');
  expect(log).toEqual(['waits has ended']);
});

test('an abort from outside is the error', async () => {
  const outside = new AbortController();
  const working = inParallel([1, 2], 1, outside.signal, async (take, signal) => {
    take();
    outside.abort(new Error('enough'));
    signal.throwIfAborted();
  });
  await expect(working).rejects.toThrow('enough');
});

test('of work that goes on at once the first error in order is thrown when all has settled', async () => {
  expect(await allOf([1, Promise.resolve('two'), undefined])).toEqual([1, 'two', undefined]);
  const last = Promise.withResolvers<void>();
  const first = Promise.withResolvers<void>();
  let isSettled = false;
  const all = allOf([first.promise, Promise.resolve(), last.promise]).finally(() => {
    isSettled = true;
  });
  const outcome = all.catch((error: unknown) => error);
  last.reject(new Error('last'));
  await new Promise(setImmediate);
  expect(isSettled).toBe(false);
  first.reject(new Error('first'));
  expect(await outcome).toMatchObject({ message: 'first' });
});
