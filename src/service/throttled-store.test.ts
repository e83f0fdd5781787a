import { describe, expect, test } from 'vitest';
import { ManualClock } from '../../test/support/manual-clock.ts';
import { MemoryStore } from '../../test/support/memory-store.ts';
import { KIB, MIB } from '../common/bytes.ts';
import { Throttle } from '../pipeline/throttle.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { resendingBy, throttledStore } from './throttled-store.ts';

const RATE = 64 * KIB;

function scene(): { clock: ManualClock; throttle: Throttle; memory: MemoryStore; store: ObjectStore } {
  const clock = new ManualClock(new Date('2026-11-20T02:00:00Z'));
  const throttle = new Throttle(RATE, clock);
  const memory = new MemoryStore({ clock });
  return { clock, throttle, memory, store: throttledStore(memory, throttle) };
}

async function* blockOf(bytes: number): AsyncGenerator<Uint8Array> {
  yield new Uint8Array(bytes);
}

async function readAll(store: ObjectStore, ...args: Parameters<ObjectStore['get']>): Promise<number> {
  let bytes = 0;
  for await (const block of (await store.get(...args)).body) bytes += block.byteLength;
  return bytes;
}

/** How long it takes, in whole seconds of a clock that is turned. */
async function secondsOf(clock: ManualClock, work: Promise<unknown>): Promise<number> {
  const state = { isDone: false };
  const done = work.then(() => (state.isDone = true));
  let seconds = 0;
  for (; !state.isDone && seconds < 1_000; seconds++) await clock.advance(1_000);
  await done;
  return seconds;
}

describe('a throttled store', () => {
  test('has bodies wait that come and go, and says so of those that go', async () => {
    const { clock, memory, store } = scene();
    let heldBack = 0;
    const put = store.putStream('a', blockOf(640 * KIB), { onHeldBack: () => (heldBack += 1) });
    expect(await secondsOf(clock, put)).toBeLessThanOrEqual(11);
    expect(memory.objects.get('a')?.bytes.byteLength).toBe(640 * KIB);
    expect(heldBack).toBeGreaterThan(100);
    expect(await secondsOf(clock, readAll(store, 'a'))).toBeGreaterThanOrEqual(9);
    const range = { start: 64 * KIB, end: 320 * KIB - 1 };
    const reading = await secondsOf(clock, readAll(store, 'a', { range }));
    expect(reading).toBeGreaterThanOrEqual(3);
    expect(reading).toBeLessThanOrEqual(5);
  });

  test('has nothing small wait, however long the row is, but what is large waits for it', async () => {
    const { clock, store } = scene();
    await store.putStream('a', blockOf(1), {});
    const waiting = store.putStream('b', blockOf(MIB), {});
    for (let count = 0; count < 10; count++) {
      await store.putSmall('c', new Uint8Array(32 * KIB));
      expect(await readAll(store, 'c')).toBe(32 * KIB);
    }
    expect(await secondsOf(clock, waiting)).toBeGreaterThanOrEqual(25);
  });

  test('has what is sent again wait by the same rule', async () => {
    const { clock, throttle } = scene();
    const resending = resendingBy(throttle);
    await resending(64 * KIB);
    expect(await secondsOf(clock, resending(640 * KIB))).toBeGreaterThanOrEqual(10);
  });

  test('ends a wait with the reason of the call', async () => {
    const { clock, memory, store } = scene();
    const given = new AbortController();
    const put = store.putStream('a', blockOf(MIB), { signal: given.signal }).catch((error: unknown) => error);
    await clock.advance(2_000);
    const reason = new Error('enough');
    given.abort(reason);
    expect(await put).toBe(reason);
    expect([memory.objects.size, memory.uploads.size]).toEqual([0, 0]);
  });
});
