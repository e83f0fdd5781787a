import { describe, expect, test } from 'vitest';
import type { ByteStream } from './bytes.ts';
import { leftAtOnce } from './left-at-once.ts';

describe('a stream that is left', () => {
  const silent = (events: string[]) =>
    async function* (signal: AbortSignal): ByteStream {
      try {
        yield Buffer.from('one');
        await new Promise((_resolve, reject) => {
          signal.addEventListener('abort', () => reject(signal.reason), { once: true });
        });
      } finally {
        events.push('tidied');
      }
    };

  test('ends at once while a block is awaited, and has tidied up then', async () => {
    const events: string[] = [];
    const iterator = leftAtOnce(silent(events))[Symbol.asyncIterator]();
    await iterator.next();
    const pending = iterator.next();
    await Promise.all([expect(pending).rejects.toThrow('the stream was left'), iterator.return?.()]);
    expect(events).toEqual(['tidied']);
    expect(await iterator.next()).toMatchObject({ done: true });
  });

  test('is never begun if nobody read of it', async () => {
    const events: string[] = [];
    await leftAtOnce(silent(events))[Symbol.asyncIterator]().return?.();
    expect(events).toEqual([]);
  });

  test('ends by the signal around it with that one’s reason', async () => {
    const controller = new AbortController();
    const reason = new Error('interrupted');
    const iterator = leftAtOnce(silent([]), controller.signal)[Symbol.asyncIterator]();
    await iterator.next();
    const pending = iterator.next();
    controller.abort(reason);
    await expect(pending).rejects.toBe(reason);
  });
});
