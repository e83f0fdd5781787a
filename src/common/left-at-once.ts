import type { ByteStream } from './bytes.ts';

/**
 * A stream that ends at once when it is left, even while its consumer still waits for a block. The `return()` of a
 * generator alone waits its turn behind a pending `next()`, for as long as its source is silent. Here it first aborts the
 * signal that `make` is given; the pending `next()` then rejects with that signal's reason. `return()` resolves when the
 * stream has tidied up. `outer`, aborted, ends it with its own reason. Read it once.
 */
export function leftAtOnce(make: (signal: AbortSignal) => ByteStream, outer?: AbortSignal): ByteStream {
  const left = new AbortController();
  const signal = outer === undefined ? left.signal : AbortSignal.any([outer, left.signal]);
  const iterator = make(signal)[Symbol.asyncIterator]();
  const stream: AsyncIterator<Uint8Array> = {
    next: () => iterator.next(),
    return: async () => {
      left.abort(new Error('the stream was left'));
      await iterator.return?.();
      return { done: true, value: undefined };
    },
  };
  return { [Symbol.asyncIterator]: () => stream };
}
