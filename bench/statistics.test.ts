import { expect, test } from 'vitest';
import { replacePart } from '../test/support/generated-part.ts';
import { median, spread } from './statistics.ts';
import { isMet, quotient, speed } from './targets.ts';

test('the median is the middle one, or between the two in the middle', () => {
  expect(median([3])).toBe(3);
  expect(median([10, 9, 100])).toBe(10);
  expect(median([4, 1, 3, 2])).toBe(2.5);
  expect(median([])).toBeNaN();
  expect(spread([2, 8, 4])).toEqual({ median: 4, min: 2, max: 8 });
});

const run = (wallS: number) => ({ wallS, clientCpuS: 0, serverCpuS: 0, storeCpuS: 0, rssKib: 0 });

test('a speed is how many times as fast one is as the other, in the same round', () => {
  const target = speed('pgark', 'gzip', 2);
  const round = new Map([
    ['pgark', run(4)],
    ['gzip', run(10)],
  ]);
  expect(target.ratio(round)).toBe(2.5);
  expect(target.ratio(new Map([['pgark', run(4)]]))).toBeUndefined();
  expect(quotient(undefined, 2)).toBeUndefined();
  expect([isMet(2, target.bound), isMet(1.99, target.bound), isMet(0.8, { atMost: 0.8 })]).toEqual([true, false, true]);
});

test('a part is put between its marks, and all else stays', () => {
  const document =
    'before\n<!-- bench a: begin -->\nold\n<!-- bench a: end -->\nafter\n<!-- bench b: begin -->\n<!-- bench b: end -->\n';
  const once = replacePart(document, 'bench a', 'new $& text');
  expect(once).toBe(
    'before\n<!-- bench a: begin -->\nnew $& text\n<!-- bench a: end -->\nafter\n<!-- bench b: begin -->\n<!-- bench b: end -->\n',
  );
  expect(replacePart(once, 'bench a', 'new $& text')).toBe(once);
  expect(() => replacePart(document, 'bench c', '')).toThrow('<!-- bench c: begin -->');
  expect(() => replacePart('<!-- x: end --><!-- x: begin -->', 'x', '')).toThrow('no lines');
});
