import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Coverage } from './coverage.ts';

const second = (number: number): bigint => BigInt(number) * 1_000_000n;

test('nothing is known before something is archived', () => {
  const coverage = new Coverage();
  coverage.told({ end: 100n, time: second(1) });
  expect(coverage.until).toBeUndefined();
  coverage.archived(99n);
  expect(coverage.until).toBeUndefined();
});

test('all is archived up to the last moment at which the server had no more', () => {
  const coverage = new Coverage();
  coverage.told({ end: 100n, time: second(1) });
  coverage.told({ end: 200n, time: second(3) });
  coverage.told({ end: 300n, time: second(5) });
  coverage.archived(250n);
  expect(coverage.until).toBe(second(3));
  coverage.archived(300n);
  expect(coverage.until).toBe(second(5));
});

test('an idle server’s time goes on', () => {
  const coverage = new Coverage();
  coverage.archived(300n);
  for (const at of [7, 17, 27]) coverage.told({ end: 300n, time: second(at) });
  expect(coverage.until).toBe(second(27));
  coverage.told({ end: 301n, time: second(30) });
  expect(coverage.until).toBe(second(27));
});

test('hours behind are kept in little memory, and never said to be better than they are', () => {
  const coverage = new Coverage();
  for (let at = 0; at < 50_000; at += 1) coverage.told({ end: BigInt(at), time: second(at) });
  coverage.archived(20_000n);
  expect(coverage.until).toBeLessThanOrEqual(second(20_000));
  expect(coverage.until).toBeGreaterThan(second(19_900));
});

describe('a clock that goes wrong', () => {
  const year = second(365 * 86_400);

  test('for a moment, and was far ahead, hides no lag from then on', () => {
    const coverage = new Coverage();
    coverage.archived(300n);
    for (const at of [10, 20]) coverage.told({ end: 300n, time: second(at) });
    coverage.told({ end: 300n, time: second(30) + year });
    coverage.told({ end: 400n, time: second(40) });
    expect(coverage.until).toBe(second(20));
    coverage.told({ end: 500n, time: second(50) });
    expect(coverage.until).toBe(second(20));
    coverage.archived(400n);
    expect(coverage.until).toBe(second(40));
  });

  test('counts for nothing in what waits to be archived', () => {
    const coverage = new Coverage();
    coverage.archived(300n);
    coverage.told({ end: 300n, time: second(10) });
    coverage.told({ end: 310n, time: second(20) });
    coverage.told({ end: 320n, time: second(30) + year });
    coverage.told({ end: 330n, time: second(40) });
    coverage.archived(320n);
    expect(coverage.until).toBe(second(20));
  });

  test('from the beginning on leaves nothing known until something is covered by the right one', () => {
    const coverage = new Coverage();
    coverage.archived(300n);
    coverage.told({ end: 300n, time: second(10) + year });
    coverage.told({ end: 301n, time: second(20) });
    expect(coverage.until).toBeUndefined();
    coverage.archived(301n);
    expect(coverage.until).toBe(second(20));
  });

  test('and is set back a little costs a little', () => {
    const coverage = new Coverage();
    coverage.archived(300n);
    for (const at of [10, 100, 200]) coverage.told({ end: 300n, time: second(at) });
    coverage.told({ end: 301n, time: second(195) });
    expect(coverage.until).toBe(second(195));
  });

  test('whatever it shows, never covers a moment later than the newest', () => {
    const step = fc.record({ at: fc.integer({ min: 0, max: 400 }), written: fc.nat(3), archived: fc.boolean() });
    fc.assert(
      fc.property(fc.array(step, { minLength: 1, maxLength: 200 }), (steps) => {
        const coverage = new Coverage();
        let end = 100n;
        for (const { at, written, archived } of steps) {
          end += BigInt(written);
          coverage.told({ end, time: second(at) });
          if (archived) coverage.archived(end);
          expect(coverage.until ?? 0n).toBeLessThanOrEqual(second(at));
          if (archived) expect(coverage.until).toBeDefined();
        }
      }),
    );
  });
});
