import type { ByteStream } from '../common/bytes.ts';

/**
 * The same blocks, but an abort of the signal ends the iteration at once with the signal's reason, even while the source
 * gives nothing (a database that hangs). The source is told to end; a source that cannot end is not waited for.
 */
export async function* abortable(source: ByteStream, signal: AbortSignal | undefined): ByteStream {
  if (signal === undefined) {
    yield* source;
    return;
  }
  signal.throwIfAborted();
  const iterator = source[Symbol.asyncIterator]();
  const aborted = Promise.withResolvers<never>();
  // Nobody may be waiting when the abort comes: the next step throws then.
  aborted.promise.catch(() => {});
  const onAbort = (): void => aborted.reject(signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });
  let ended = false;
  try {
    for (;;) {
      signal.throwIfAborted();
      const step = await Promise.race([iterator.next(), aborted.promise]);
      if (step.done === true) {
        ended = true;
        return;
      }
      yield step.value;
    }
  } catch (error) {
    signal.throwIfAborted();
    ended = true;
    throw error;
  } finally {
    signal.removeEventListener('abort', onAbort);
    if (!ended) {
      const end = Promise.resolve(iterator.return?.()).catch(() => {});
      if (!signal.aborted) await end;
    }
  }
}
