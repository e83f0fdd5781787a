import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { globalsAt, type KeptBackup, type RetainableGlobals, unneededGlobals } from './globals.ts';

const at = (day: number): Date => new Date(Date.UTC(2026, 10, day));
const globals = (day: number, source = 'main'): RetainableGlobals => ({
  id: `${source}${day}`,
  source,
  takenAt: at(day),
});
const backup = (day: number, source = 'main'): KeptBackup => ({ source, begunAt: at(day) });
const idsOf = (list: readonly RetainableGlobals[]): string[] => list.map(({ id }) => id);

describe('the globals that go with a moment', () => {
  test('are the oldest not before it, else the newest', () => {
    const list = [globals(5), globals(1), globals(3)];
    expect([1, 2, 3, 4, 9].map((day) => globalsAt(list, at(day))?.id)).toEqual([
      'main1',
      'main3',
      'main3',
      'main5',
      'main5',
    ]);
    expect(globalsAt(list, at(0))?.id).toBe('main1');
    expect(globalsAt([], at(1))).toBeUndefined();
  });
});

describe('globals that no backup needs', () => {
  test('are those between the ones that go with backups, and never the newest', () => {
    const list = [globals(1), globals(2), globals(3), globals(4), globals(5)];
    expect(idsOf(unneededGlobals(list, [backup(3)]))).toEqual(['main1', 'main2', 'main4']);
    expect(idsOf(unneededGlobals(list, []))).toEqual(['main1', 'main2', 'main3', 'main4']);
  });

  test('are found for each source by itself', () => {
    const list = [globals(1), globals(2), globals(1, 'other'), globals(2, 'other')];
    expect(idsOf(unneededGlobals(list, [backup(1, 'other')]))).toEqual(['main1']);
  });

  test('leave each backup its own, whatever there is', () => {
    const day = fc.integer({ min: 1, max: 28 });
    fc.assert(
      fc.property(fc.uniqueArray(day), fc.array(day), (days, begun) => {
        const list = days.map((each) => globals(each));
        const kept = begun.map((each) => backup(each));
        const gone = new Set(unneededGlobals(list, kept));
        const left = list.filter((each) => !gone.has(each));
        for (const { begunAt } of kept) expect(globalsAt(left, begunAt)).toEqual(globalsAt(list, begunAt));
        expect(left.length).toBeGreaterThanOrEqual(Math.min(list.length, 1));
      }),
    );
  });
});
