import { expect, test } from 'vitest';
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
