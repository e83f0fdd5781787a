import { expect, test } from 'vitest';
import type { WalIndex, WalRange } from '../../formats/wal/archive-index.ts';
import type { TimelineHistory } from '../../postgres/wal/timeline-history.ts';
import type { Manifest } from '../../repository/manifest.ts';
import { chooseWay, type ChosenWay, type WayEvidence } from './choose-way.ts';
import type { BackedUpPart } from './physical-backups.ts';

const left = (timeline: number, end: bigint) => ({ timeline, end, reason: '' });
/** 2 and 3 have both left timeline 1; 4 goes on from 2. */
const HISTORIES: readonly TimelineHistory[] = [
  { timeline: 1, ancestors: [] },
  { timeline: 2, ancestors: [left(1, 500n)] },
  { timeline: 3, ancestors: [left(1, 300n)] },
  { timeline: 4, ancestors: [left(1, 500n), left(2, 700n)] },
];

/** What was archived of each timeline, up to where, and the hour in which the last of it was stored. */
type Archived = Readonly<Record<number, readonly [to: bigint, hour: number]>>;

function indexOf(archived: Archived, histories: readonly number[]): WalIndex {
  const ranges = Object.entries(archived).map(([key, [to, hour]]): [number, readonly WalRange[]] => {
    const timeline = Number(key);
    const stored = new Date(Date.UTC(2026, 10, 20, hour));
    const range = { timeline, from: 0n, to, wholeTo: to, segments: 1, storedBytes: 1 };
    return [timeline, [{ ...range, firstStored: stored, lastStored: stored }]];
  });
  return { segmentBytes: 2 ** 20, ranges: new Map(ranges), histories };
}

function base(timeline: number, from: bigint, to: bigint, hour = 0): BackedUpPart {
  const endedAt = new Date(Date.UTC(2026, 10, 20, hour)).toISOString();
  return { manifest: { id: `base-of-${timeline}`, endedAt } as unknown as Manifest, timeline, from, to };
}

function chosen(
  archived: Archived,
  evidence: Partial<WayEvidence>,
  histories: readonly number[] = [],
  unreadable?: number,
): Promise<ChosenWay | undefined> {
  return chooseWay(indexOf(archived, histories), { live: undefined, bases: [], ...evidence }, async (timeline) =>
    timeline === unreadable ? undefined : HISTORIES.find((each) => each.timeline === timeline),
  );
}

const BOTH: Archived = { 1: [900n, 1], 2: [900n, 2] };

test.each<[string, Archived, Partial<WayEvidence>, readonly number[], number]>([
  ['the newest, where nothing says otherwise', BOTH, {}, [2], 2],
  ['the newest, which goes on from the newest base backup', BOTH, { bases: [base(1, 400n, 500n)] }, [2], 2],
  ['the newest, of which only the history is there', { 1: [900n, 1] }, {}, [2], 2],
  ['that of a base backup behind a branch', BOTH, { bases: [base(1, 600n, 700n)] }, [2], 1],
  ['that of a base backup over a branch', BOTH, { bases: [base(1, 499n, 501n)] }, [2], 1],
  ['that of a base backup, whose server failed over', BOTH, { bases: [base(1, 400n, 450n)] }, [2, 3], 2],
  ['the newest that a base backup leads to', BOTH, { bases: [base(2, 600n, 650n)] }, [2, 3, 4], 4],
  ['what is received, whatever else there is', BOTH, { live: 1, bases: [base(2, 600n, 650n)] }, [2], 1],
  ['what is there, while nothing that is received is', BOTH, { live: 4 }, [2], 2],
])('followed is %s', async (_, archived, evidence, histories, timeline) => {
  expect((await chosen(archived, evidence, histories))?.followed.timeline).toBe(timeline);
});

test('what speaks against the timeline that is followed is told, and nothing else', async () => {
  expect((await chosen(BOTH, {}, [2]))?.warnings).toEqual([]);
  expect((await chosen(BOTH, { live: 2 }, [2]))?.warnings).toEqual([]);
  expect((await chosen({ 1: [500n, 3], 2: [900n, 2] }, {}, [2]))?.warnings).toEqual([]);
  const later = await chosen({ 1: [900n, 3], 2: [900n, 2] }, {}, [2]);
  expect(later?.warnings).toEqual([expect.stringMatching(/^WAL of timeline 1 was stored later .* a new base backup/)]);
  const based = await chosen(BOTH, { bases: [base(1, 600n, 700n)] }, [2]);
  expect(based?.warnings).toEqual([expect.stringMatching(/^timeline 2, the newest .*: base-of-1, the newest base/)]);
  const received = await chosen(BOTH, { live: 1 }, [2]);
  expect(received?.warnings).toEqual([expect.stringMatching(/^timeline 2, .*: the WAL of timeline 1 is received/)]);
});

test('what was stored later, since a base backup was copied there, came when that was made', async () => {
  const bases = [base(1, 600n, 700n, 1), base(2, 600n, 700n, 2)];
  expect((await chosen({ 1: [900n, 5], 2: [900n, 2] }, { bases }, [2]))?.warnings).toEqual([]);
  const late = await chosen({ 1: [900n, 3], 2: [900n, 5] }, { bases: bases.slice(1) }, [2]);
  expect(late?.warnings).toEqual([expect.stringMatching(/^WAL of timeline 1 was stored later /)]);
});

test('the newest is followed on its own where its history cannot be read', async () => {
  const way = await chosen(BOTH, { bases: [base(1, 600n, 700n)] }, [2], 2);
  expect(way).toEqual({ followed: { timeline: 2, ancestors: [] }, warnings: [] });
  expect(await chosen({}, {})).toBeUndefined();
});
