import { describe, expect, test } from 'vitest';
import { LoadQueue } from './load-queue.ts';

const { signal } = new AbortController();

/** What a promise has come to by now. */
async function soFar<T>(promise: Promise<T>): Promise<T | 'waiting'> {
  const turns = (async () => {
    for (let turn = 0; turn < 20; turn++) await Promise.resolve();
    return 'waiting' as const;
  })();
  return Promise.race([promise, turns]);
}

describe('work that several share', () => {
  test('is taken in its order, and over when the last of it is done', async () => {
    const queue = new LoadQueue(['a', 'b'], 2);
    expect([await queue.take(signal), await queue.take(signal)]).toEqual(['a', 'b']);
    const next = queue.take(signal);
    queue.done();
    expect(await soFar(next)).toBe('waiting');
    queue.done();
    expect(await next).toBeUndefined();
  });

  test('comes back from a worker that ends, and is the next for whoever waits', async () => {
    const queue = new LoadQueue(['a'], 2);
    const [first, second] = [queue.take(signal), queue.take(signal)];
    expect(await first).toBe('a');
    expect(await soFar(second)).toBe('waiting');
    expect(queue.giveBack('a')).toBe(true);
    expect(await second).toBe('a');
    queue.done();
    expect(await queue.take(signal)).toBeUndefined();
  });

  test('stays with the last worker', async () => {
    const queue = new LoadQueue(['a', 'b'], 2);
    expect(await queue.take(signal)).toBe('a');
    expect(queue.giveBack('a')).toBe(true);
    expect(await queue.take(signal)).toBe('a');
    expect(queue.giveBack('a')).toBe(false);
    expect(queue.workers).toBe(1);
  });

  test('is not waited for once it is aborted', async () => {
    const queue = new LoadQueue(['a'], 2);
    const stop = new AbortController();
    await queue.take(stop.signal);
    const waiting = queue.take(stop.signal);
    stop.abort(new Error('enough'));
    queue.done();
    await expect(waiting).rejects.toThrow('enough');
  });
});
