import { expect, test } from 'vitest';
import { HistoryPlace } from '../../test/support/protection.ts';
import { serviceWorld } from '../../test/support/service-world.ts';
import { lastStarts } from './last-starts.ts';

const HOUR_MS = 3_600_000;
const now = new Date();
const ago = (hours: number): Date => new Date(now.getTime() - hours * HOUR_MS);

/** Backups of the source `shop` were attempted so many hours ago each: when its job is said to have begun last. */
async function lastStartOf(
  patterns: readonly string[] | undefined,
  attempts: readonly (readonly [database: string | undefined, hoursAgo: number])[],
): Promise<Date | undefined> {
  const place = new HistoryPlace(now);
  for (const [database, hours] of attempts) {
    await place.run('succeeded', ago(hours), ago(hours - 0.1), { source: 'shop', database });
  }
  const { generation } = await serviceWorld({}, { store: place.store });
  const jobs = generation.jobs.map((job) => ({
    ...job,
    source: { ...job.source, ...(patterns && { databases: patterns }) },
  }));
  const last = await lastStarts(jobs, generation, new AbortController().signal);
  return last.get('shop/backup')?.at;
}

test('a source with patterns began last when any of the databases did that they choose', async () => {
  const attempts = [
    ['shop', 30],
    ['orders', 7],
    ['stock', 6],
    ['test_stock', 1],
  ] as const;
  expect(await lastStartOf(['*', '!test_*'], attempts)).toEqual(ago(6));
});

test('an attempt that failed before it knew the databases was one of all of them', async () => {
  const attempts = [
    ['orders', 7],
    [undefined, 2],
  ] as const;
  expect(await lastStartOf(['*'], attempts)).toEqual(ago(2));
});

test('a source that is one database began last when that did', async () => {
  const attempts = [
    ['shop', 30],
    ['orders', 7],
  ] as const;
  expect(await lastStartOf(undefined, attempts)).toEqual(ago(30));
});

test('nothing is known of databases that the patterns do not choose', async () => {
  expect(await lastStartOf(['orders'], [['shop', 30]])).toBeUndefined();
});
