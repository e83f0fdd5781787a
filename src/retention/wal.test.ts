import { describe, expect, test } from 'vitest';
import { type WalBase, type WalLine, walRule, type WalRuleInputs } from './wal.ts';

const DAY_MS = 86_400_000;
const now = new Date('2026-11-30T00:00:00Z');
const alone: readonly WalLine[] = [{ timeline: 1, ancestors: [] }];

function daysAgo(days: number): Date {
  return new Date(now.getTime() - days * DAY_MS);
}

/** One that took an hour and was complete so long ago, from `start` up to 10 behind it. */
function base(days: number, start: number, timeline = 1): WalBase {
  const endedAt = daysAgo(days);
  const begunAt = new Date(endedAt.getTime() - 3_600_000);
  return { timeline, start: BigInt(start), stop: BigInt(start + 10), begunAt, endedAt };
}

/** Which of the segments of 10 from 0 up to 200 stay, by where they begin; all were stored long ago. */
function kept(inputs: Partial<WalRuleInputs>, timeline = 1, storedAt = daysAgo(365)): readonly number[] {
  const rule = walRule({ bases: [], lines: alone, keepMs: undefined, now, ...inputs });
  const starts = Array.from({ length: 20 }, (_, index) => index * 10);
  return starts.filter(
    (from) => rule?.needs({ timeline, from: BigInt(from), to: BigInt(from + 10), storedAt }) ?? true,
  );
}

const from = (start: number): readonly number[] =>
  Array.from({ length: 20 }, (_, i) => i * 10).filter((i) => i >= start);

describe('of the log', () => {
  test('all stays where no base backup does', () => {
    expect(kept({ bases: [] })).toEqual(from(0));
  });

  test('what is older than the oldest base backup goes, and nothing else', () => {
    expect(kept({ bases: [base(9, 53), base(2, 120)] })).toEqual(from(50));
  });

  test('of what is older than the window stays what makes its base backups some, from the one on that leads into it', () => {
    const bases = [base(20, 22), base(12, 65), base(9, 93), base(2, 150)];
    expect(kept({ bases, keepMs: 10 * DAY_MS })).toEqual([20, 30, ...from(60)]);
    // The one of nine days ago leads into a window of nine days, and not into one of a moment more.
    expect(kept({ bases, keepMs: 9 * DAY_MS })).toEqual([20, 30, 60, 70, ...from(90)]);
    expect(kept({ bases, keepMs: 9 * DAY_MS + 1 })).toEqual([20, 30, ...from(60)]);
    expect(kept({ bases, keepMs: 100 * DAY_MS })).toEqual(from(20));
    expect(kept({ bases, keepMs: 0 })).toEqual([20, 30, 60, 70, 90, 100, ...from(150)]);
  });

  test('nothing goes that was stored after the base backup was begun that leads into the window', () => {
    const bases = [base(20, 22), base(9, 93)];
    const begunAt = new Date(daysAgo(9).getTime() - 3_600_000);
    const inputs = { bases, keepMs: 5 * DAY_MS };
    expect(kept(inputs, 1, begunAt)).toEqual(from(0));
    expect(kept(inputs, 1, new Date(Number.NaN))).toEqual(from(0));
    expect(kept(inputs, 1, new Date(begunAt.getTime() - 1))).toEqual([20, 30, ...from(90)]);
  });

  test('each line of timelines has what leads into the window on it', () => {
    // Timeline 2 left 1 at 75, where a base backup of 1 was complete and a later one was not.
    const lines = [...alone, { timeline: 2, ancestors: [{ timeline: 1, end: 75n }] }];
    const bases = [base(20, 42), base(9, 93)];
    const inputs = { bases, lines, keepMs: 5 * DAY_MS };
    expect(kept(inputs, 1)).toEqual([40, 50, 60, 70, ...from(90)]);
    expect(kept(inputs, 2)).toEqual(from(40));
    // With one of its own it needs none of the other.
    const own = { ...inputs, bases: [...bases, base(6, 112, 2)] };
    expect(kept(own, 2)).toEqual(from(110));
    expect(kept(own, 1)).toEqual([40, 50, ...from(90)]);
    // A timeline that nobody knows of keeps all.
    expect(kept(inputs, 7)).toEqual(from(0));
  });

  test('a line without a base backup on it leads nowhere', () => {
    const lines = [...alone, { timeline: 2, ancestors: [{ timeline: 1, end: 75n }] }];
    expect(kept({ bases: [base(9, 93, 2)], lines }, 1)).toEqual([]);
  });
});
