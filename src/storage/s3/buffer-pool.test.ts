import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { BufferPool } from './buffer-pool.ts';

const { signal } = new AbortController();

/** Takes a buffer, and tells when it is there. */
function taking(pool: BufferPool, bytes: number, abort = signal): { buffer?: Buffer; done: Promise<void> } {
  const state: { buffer?: Buffer; done: Promise<void> } = {
    done: pool.take(bytes, abort).then((buffer) => {
      state.buffer = buffer;
    }),
  };
  return state;
}

const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe('a buffer pool', () => {
  test('uses the same memory again, and none that something may still write to', async () => {
    const pool = new BufferPool();
    await pool.during(async () => {
      const first = await pool.take(1_000, signal);
      pool.give(first);
      const again = await pool.take(1_000, signal);
      expect(again).toBe(first);
      pool.drop(again);
      expect(await pool.take(1_000, signal)).not.toBe(first);
    });
  });

  test('makes takers wait in turn while as much is out as may be', async () => {
    const pool = new BufferPool(30);
    const out = [await pool.take(10, signal), await pool.take(20, signal)];
    const large = taking(pool, 20);
    const small = taking(pool, 10);
    pool.give(out[0] ?? Buffer.alloc(0));
    await settled();
    expect([large.buffer, small.buffer]).toEqual([undefined, undefined]);
    pool.drop(out[1] ?? Buffer.alloc(0));
    await Promise.all([large.done, small.done]);
    expect([large.buffer?.length, small.buffer?.length]).toEqual([20, 10]);
  });

  test('lends one buffer that is larger than the limit by itself', async () => {
    const pool = new BufferPool(10);
    const huge = await pool.take(100, signal);
    const next = taking(pool, 5);
    await settled();
    expect(next.buffer).toBeUndefined();
    pool.give(huge);
    await next.done;
  });

  test('lets go who waits when its signal is aborted, and serves those behind', async () => {
    const pool = new BufferPool(30);
    await pool.take(20, signal);
    const controller = new AbortController();
    const large = taking(pool, 20, controller.signal);
    const small = taking(pool, 10);
    controller.abort(new Error('enough'));
    await expect(large.done).rejects.toThrow('enough');
    await small.done;
  });

  test('frees what was given back when its last user is done', async () => {
    const pool = new BufferPool();
    let buffer: Buffer = Buffer.alloc(0);
    await pool.during(async () => {
      await pool.during(async () => {
        buffer = await pool.take(100, signal);
        pool.give(buffer);
      });
      expect(buffer).toHaveLength(100);
    });
    expect(buffer).toHaveLength(0);
  });

  test('keeps for a while what was given back, for who comes soon after', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    onTestFinished(() => void vi.useRealTimers());
    const pool = new BufferPool(100, 1_000);
    const use = async (): Promise<Buffer> => {
      const buffer = await pool.take(100, signal);
      pool.give(buffer);
      return buffer;
    };
    const first = await pool.during(use);
    vi.advanceTimersByTime(900);
    await pool.during(async () => {
      vi.advanceTimersByTime(5_000);
      expect(await use()).toBe(first);
    });
    vi.advanceTimersByTime(999);
    expect(first).toHaveLength(100);
    vi.advanceTimersByTime(1);
    expect(first).toHaveLength(0);
  });
});
