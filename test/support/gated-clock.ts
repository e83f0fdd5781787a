import { type Clock, systemClock } from '../../src/common/clock.ts';

/**
 * The system's time, in which no pause ends before the gate is open: nobody is taken for silent before somebody is, however
 * long a busy machine takes until then.
 */
export class GatedClock implements Clock {
  readonly #gate = Promise.withResolvers<void>();

  open(): void {
    this.#gate.resolve();
  }

  now(): Date {
    return systemClock.now();
  }

  monotonicMs(): number {
    return systemClock.monotonicMs();
  }

  async sleep(ms: number, signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    const aborted = Promise.withResolvers<never>();
    const onAbort = (): void => aborted.reject(signal?.reason);
    signal?.addEventListener('abort', onAbort, { once: true });
    try {
      await Promise.race([this.#gate.promise, aborted.promise]);
    } finally {
      signal?.removeEventListener('abort', onAbort);
    }
    await systemClock.sleep(ms, signal);
  }
}
