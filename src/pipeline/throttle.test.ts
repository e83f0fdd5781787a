import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ManualClock } from '../../test/support/manual-clock.ts';
import { SleepClock } from '../../test/support/sleep-clock.ts';
import { KIB, MIB } from '../common/bytes.ts';
import { Throttle, throttled } from './throttle.ts';

const start = new Date('2026-11-20T02:00:00Z');
/** What may pass beside what the time allows: a tenth of a second that was not used, and one slice. */
const slack = (rate: number): number => rate / 10 + 64 * KIB;

async function* blocks(...sizes: readonly number[]): AsyncGenerator<Uint8Array> {
  for (const size of sizes) yield new Uint8Array(size);
}

async function drain(body: AsyncIterable<Uint8Array>, onBytes: (bytes: number) => void = () => {}): Promise<void> {
  for await (const block of body) onBytes(block.byteLength);
}

describe('a throttle', () => {
  test('lets through what the time allows, however many share it and however coarse the clock is', async () => {
    const streams = fc.array(fc.array(fc.integer({ min: 1, max: 3 * MIB }), { maxLength: 5 }), {
      minLength: 1,
      maxLength: 6,
    });
    const rates = fc.integer({ min: 10_000, max: 100 * MIB });
    await fc.assert(
      fc.asyncProperty(streams, rates, fc.constantFrom(1, 15, 40), async (bodies, rate, tickMs) => {
        const clock = new SleepClock(tickMs);
        const throttle = new Throttle(rate, clock);
        let passed = 0;
        const count = (bytes: number): void => {
          passed += bytes;
          expect(passed).toBeLessThanOrEqual((clock.monotonicMs() / 1_000) * rate + slack(rate));
        };
        await Promise.all(bodies.map((sizes) => drain(throttled(blocks(...sizes), throttle), count)));
        // Nor does it take much longer than it has to.
        const leastMs = (passed / rate) * 1_000;
        expect(clock.monotonicMs()).toBeLessThanOrEqual(leastMs + 2 * tickMs + 60);
      }),
      { numRuns: 60 },
    );
  });

  test('is shared fairly: who wants little has it long before who wants much, and equals end together', async () => {
    const clock = new SleepClock();
    const throttle = new Throttle(MIB, clock);
    const endedAt = new Map<string, number>();
    const run = async (name: string, bytes: number): Promise<void> => {
      await throttle.pass(bytes);
      endedAt.set(name, clock.monotonicMs());
    };
    await Promise.all([run('much', 10 * MIB), run('more', 10 * MIB), run('little', 32 * KIB)]);
    expect(endedAt.get('little')).toBeLessThan(200);
    expect((endedAt.get('more') ?? 0) - (endedAt.get('much') ?? 0)).toBeLessThan(100);
  });

  test('has what was counted paid for by what follows, and saves up no idle time', async () => {
    const clock = new ManualClock(start);
    const throttle = new Throttle(MIB, clock);
    await clock.advance(3_600_000);
    throttle.count(2 * MIB);
    let hasPassed = false;
    const passing = throttle.pass(1).then(() => (hasPassed = true));
    await clock.advance(1_800);
    expect(hasPassed).toBe(false);
    await clock.advance(200);
    await passing;
  });

  test('lets go whoever gives up, with the reason, and then waits for nothing more', async () => {
    const clock = new ManualClock(start);
    const throttle = new Throttle(KIB, clock);
    const given = new AbortController();
    const passing = throttle.pass(MIB, { signal: given.signal });
    await clock.advance(1_000);
    const reason = new Error('enough');
    given.abort(reason);
    await expect(passing).rejects.toBe(reason);
    await clock.advance(0);
    expect(clock.waiting).toBe(0);
    await expect(throttle.pass(1, { signal: given.signal })).rejects.toBe(reason);
  });

  test('goes by another limit from the moment that it is given one, or by none', async () => {
    const clock = new ManualClock(start);
    const throttle = new Throttle(KIB, clock);
    let ended = 0;
    const passing = [MIB, MIB].map((bytes) => throttle.pass(bytes).then(() => (ended += 1)));
    await clock.advance(1_000);
    throttle.limitTo(MIB);
    await clock.advance(1_200);
    expect(ended).toBe(0);
    throttle.limitTo(undefined);
    await clock.advance(0);
    await Promise.all(passing);
    await throttle.pass(10_000 * MIB);
  });
});

describe('a throttled stream', () => {
  test('gives the same blocks, tells of each slice, and ends its source when it is ended, even while it waits', async () => {
    const clock = new ManualClock(start);
    const throttle = new Throttle(64 * KIB, clock);
    let isClosed = false;
    let slices = 0;
    async function* source(): AsyncGenerator<Uint8Array> {
      try {
        for (;;) yield new Uint8Array(MIB);
      } finally {
        isClosed = true;
      }
    }
    const iterator = throttled(source(), throttle, { onSlice: () => (slices += 1) })[Symbol.asyncIterator]();
    const first = iterator.next().catch((error: unknown) => error);
    await clock.advance(2_000);
    expect(slices).toBeGreaterThan(10);
    await iterator.return?.();
    expect(await first).toMatchObject({ message: 'the stream ends' });
    expect(isClosed).toBe(true);
    const failing = (async function* (): AsyncGenerator<Uint8Array> {
      yield new Uint8Array(1);
      throw new Error('torn');
    })();
    await expect(drain(throttled(failing, new Throttle(undefined, clock)))).rejects.toThrow('torn');
  });
});
