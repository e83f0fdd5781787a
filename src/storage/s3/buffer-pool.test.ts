import { describe, expect, test } from 'vitest';
import { BufferPool } from './buffer-pool.ts';

describe('a buffer pool', () => {
  test('uses the same memory again', async () => {
    const pool = new BufferPool();
    const first = await pool.take(1_000, 2);
    pool.give(first);
    expect(await pool.take(1_000, 2)).toBe(first);
  });

  test('makes the taker wait while as many are out as may be', async () => {
    const pool = new BufferPool();
    const first = await pool.take(1_000, 2);
    const second = await pool.take(1_000, 2);
    let taken: Buffer | undefined;
    const taking = pool.take(1_000, 2).then((buffer) => {
      taken = buffer;
    });
    await Promise.resolve();
    expect(taken).toBeUndefined();
    pool.give(second);
    await taking;
    expect(taken).toBe(second);
    expect(taken).not.toBe(first);
  });

  test('waits for more than one buffer where fewer may be out from now on', async () => {
    const pool = new BufferPool();
    const out = [await pool.take(10, 3), await pool.take(10, 3), await pool.take(10, 3)];
    let taken: Buffer | undefined;
    const taking = pool.take(20, 2).then((buffer) => {
      taken = buffer;
    });
    for (const buffer of out) {
      expect(taken).toBeUndefined();
      pool.give(buffer);
      await Promise.resolve();
      await Promise.resolve();
      if (buffer === out[1]) break;
    }
    await taking;
    expect(taken).toHaveLength(20);
  });
});
