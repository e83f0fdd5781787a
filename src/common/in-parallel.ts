/**
 * Lets several workers take items from one queue, in its order. Resolves when all are done. The first failure aborts the
 * signal of all workers and is thrown when every one of them has ended.
 */
export async function inParallel<Item>(
  items: readonly Item[],
  workersMax: number,
  signal: AbortSignal,
  work: (take: () => Item | undefined, signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const queue = items.values();
  const stop = new AbortController();
  const either = AbortSignal.any([signal, stop.signal]);
  let failure: { readonly error: unknown } | undefined;
  const take = (): Item | undefined => {
    either.throwIfAborted();
    return queue.next().value;
  };
  const workers = Array.from({ length: Math.min(workersMax, items.length) }, async () => {
    try {
      await work(take, either);
    } catch (error) {
      failure ??= { error };
      stop.abort(error);
    }
  });
  await Promise.all(workers);
  signal.throwIfAborted();
  if (failure !== undefined) throw failure.error;
}

/**
 * As `Promise.all`, but that everything has settled when it rejects, so that nothing goes on behind the back of whoever
 * tidies up. Of several errors it is the first one's in the order given.
 */
export async function allOf<T extends readonly unknown[] | []>(
  work: T,
): Promise<{ -readonly [Each in keyof T]: Awaited<T[Each]> }> {
  await Promise.allSettled(work);
  return Promise.all(work);
}
