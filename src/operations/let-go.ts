import type { Clock } from '../common/clock.ts';

/**
 * Waits for work that ends by itself soon after its signal is aborted; if it has not within `patienceMs`, it is left to
 * itself and the signal's reason thrown. A call of the operating system that hangs (a dead NFS server) cannot be ended.
 */
export async function letGo<T>(
  work: Promise<T>,
  { signal, clock, patienceMs }: { readonly signal: AbortSignal; readonly clock: Clock; readonly patienceMs: number },
): Promise<T> {
  const done = new AbortController();
  const stuck = Promise.withResolvers<never>();
  stuck.promise.catch(() => {});
  const onAbort = (): void => {
    clock.sleep(patienceMs, done.signal).then(
      () => stuck.reject(signal.reason),
      () => {},
    );
  };
  if (signal.aborted) onAbort();
  else signal.addEventListener('abort', onAbort, { once: true });
  try {
    return await Promise.race([work, stuck.promise]);
  } finally {
    done.abort();
    signal.removeEventListener('abort', onAbort);
  }
}
