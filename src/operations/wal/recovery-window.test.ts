import { expect, test } from 'vitest';
import { judgeGaps, type RecoveryTimeline } from './recovery-window.ts';

/** Stretches, each with base backups that ended at these times, and a gap between each two of them. */
function timelineOf(...stretches: readonly (readonly string[])[]): RecoveryTimeline {
  const windows = stretches.map((ends) => ({ bases: ends.map((endedAt) => ({ endedAt })) }));
  const gaps = windows.slice(1).map((_, index) => ({ from: `0/${index}`, to: `0/${index + 1}` }));
  return { wal: { gaps }, windows } as unknown as RecoveryTimeline;
}

test.each([
  ['all, where recovery has to reach as far as it can', undefined, ['0/0', '0/1', '0/2']],
  ['those behind the base backup that the window begins with', '2026-11-10T00:00:00Z', ['0/1', '0/2']],
  ['none, where the window begins behind all of them', '2026-11-30T00:00:00Z', []],
  ['all, where the window begins before any base backup was complete', '2026-10-01T00:00:00Z', ['0/0', '0/1', '0/2']],
])('gaps that count are %s', (_, since, expected) => {
  const timeline = timelineOf(['2026-11-01T00:00:00Z'], ['2026-11-08T00:00:00Z'], [], ['2026-11-22T00:00:00Z']);
  const { missing, letGo } = judgeGaps(timeline, since === undefined ? undefined : new Date(since));
  expect(missing.map(({ from }) => from)).toEqual(expected);
  expect([...missing, ...letGo]).toHaveLength(3);
});

test('a gap before the oldest base backup is none that counts: nobody comes to it', () => {
  const { missing, letGo } = judgeGaps(timelineOf([], [], ['2026-11-08T00:00:00Z'], []), undefined);
  expect([missing, letGo].map((gaps) => gaps.map(({ from }) => from))).toEqual([['0/2'], ['0/0', '0/1']]);
});

test('a gap behind a base backup that was copied there is none that counts, unless one that was not lies before it', () => {
  const judged = (...copied: readonly boolean[]) => {
    const { wal, windows } = timelineOf(...copied.map(() => ['2026-11-08T00:00:00Z']));
    const marked = windows.map((window, index) => ({ ...window, isCopied: copied[index] ?? false }));
    return judgeGaps({ wal, windows: marked }, undefined).missing.map(({ from }) => from);
  };
  expect(judged(true, true, false)).toEqual([]);
  expect(judged(true, false, false)).toEqual(['0/1']);
  expect(judged(false, true, false)).toEqual(['0/0', '0/1']);
});
