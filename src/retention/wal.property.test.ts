import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type WalBase, type WalLine, walRule, type WalStretch } from './wal.ts';

const SEGMENT = 10n;

/** A server's life: what it wrote, the base backups of it, and recoveries to a moment before that went on as new timelines. */
const step = fc.record({
  kind: fc.constantFrom('write', 'write', 'base', 'fork'),
  line: fc.nat(3),
  amount: fc.integer({ min: 1, max: 30 }),
  minutes: fc.integer({ min: 1, max: 9 }),
});

interface Commit {
  readonly line: WalLine;
  readonly at: Date;
  readonly lsn: bigint;
}

interface Line extends WalLine {
  end: bigint;
}

class Life {
  readonly lines: Line[] = [{ timeline: 1, ancestors: [], end: 0n }];
  readonly bases: WalBase[] = [];
  readonly commits: Commit[] = [];
  readonly segments = new Map<string, WalStretch>();
  now = new Date('2026-11-20T00:00:00Z');

  live({ kind, line: index, amount, minutes }: typeof step extends fc.Arbitrary<infer T> ? T : never): void {
    const line = this.lines[index % this.lines.length] as Line;
    const begunAt = this.now;
    const start = line.end;
    this.now = new Date(this.now.getTime() + minutes * 60_000);
    if (kind === 'fork') {
      const end = line.end - BigInt(Math.min(amount, Number(line.end)));
      const timeline = this.lines.length + 1;
      const ancestors = line.ancestors.filter((ancestor) => ancestor.end < end);
      const left = line.ancestors.find((ancestor) => ancestor.end >= end)?.timeline ?? line.timeline;
      this.lines.push({ timeline, ancestors: [...ancestors, { timeline: left, end }], end });
      return;
    }
    line.end += BigInt(amount);
    this.commits.push({ line, at: this.now, lsn: line.end });
    for (let from = start - (start % SEGMENT); from < line.end; from += SEGMENT) {
      const stretch = { timeline: line.timeline, from, to: from + SEGMENT, storedAt: this.now };
      this.segments.set(`${line.timeline}:${from}`, stretch);
    }
    if (kind === 'base') {
      this.bases.push({ timeline: line.timeline, start, stop: line.end, begunAt, endedAt: this.now });
    }
  }
}

/** The segment that a recovery along the line reads at a position. */
function segmentOn(line: WalLine, from: bigint): string {
  const way = [...line.ancestors, { timeline: line.timeline, end: undefined }];
  const { timeline } = way.find(({ end }) => end === undefined || from < end - (end % SEGMENT)) ?? line;
  return `${timeline}:${from}`;
}

function isWithin(line: WalLine, { timeline, stop }: WalBase): boolean {
  const end = line.ancestors.find((ancestor) => ancestor.timeline === timeline)?.end;
  return timeline === line.timeline || (end !== undefined && stop <= end);
}

/** Whether the commit comes back from one of the bases with the segments that are there. */
function comesBack({ line, at, lsn }: Commit, bases: readonly WalBase[], there: ReadonlySet<string>): boolean {
  return bases.some((base) => {
    if (base.endedAt > at || base.stop > lsn || !isWithin(line, base)) return false;
    for (let from = base.start - (base.start % SEGMENT); from < lsn; from += SEGMENT) {
      if (!there.has(segmentOn(line, from))) return false;
    }
    return true;
  });
}

test('what could be recovered of the window before still can, on every timeline, and each base backup is one', () => {
  let goneCount = 0;
  fc.assert(
    fc.property(
      fc.array(step, { minLength: 5, maxLength: 60 }),
      fc.array(fc.boolean(), { minLength: 8, maxLength: 8 }),
      fc.option(fc.integer({ min: 0, max: 200 }), { nil: undefined }),
      (steps, chosen, keepMinutes) => {
        const life = new Life();
        for (const each of steps) life.live(each);
        const { lines, now, segments } = life;
        const bases = life.bases.filter((_, index) => chosen[index % chosen.length]);
        const keepMs = keepMinutes === undefined ? undefined : keepMinutes * 60_000;
        const rule = walRule({ bases, lines, keepMs, now });
        if (rule === undefined) {
          expect(bases).toEqual([]);
          return;
        }
        const before = new Set(segments.keys());
        const after = new Set([...segments].filter(([, stretch]) => rule.needs(stretch)).map(([key]) => key));
        goneCount += before.size - after.size;
        const windowMs = keepMs === undefined ? -Infinity : now.getTime() - keepMs;
        for (const commit of life.commits) {
          if (commit.at.getTime() < windowMs || !comesBack(commit, bases, before)) continue;
          expect(comesBack(commit, bases, after)).toBe(true);
        }
        for (const { timeline, start, stop } of bases) {
          for (let from = start - (start % SEGMENT); from < stop; from += SEGMENT) {
            expect(after.has(`${timeline}:${from}`)).toBe(true);
          }
        }
      },
    ),
    { numRuns: 2_000 },
  );
  expect(goneCount).toBeGreaterThan(1_000);
});
