import { describe, expect, test } from 'vitest';
import { at, HistoryPlace } from '../../test/support/protection.ts';
import { keys } from '../repository/keys.ts';
import { listRunRecords } from './list-run-records.ts';
import { type RunReadOptions, smallestRunId } from './newest-runs.ts';

async function starts(place: HistoryPlace, options: RunReadOptions): Promise<string[]> {
  return (await listRunRecords(place.store, options)).map((record) => record.startedAt.slice(0, 10));
}

async function placeWithRuns(): Promise<HistoryPlace> {
  const place = new HistoryPlace(at('2027-02-01T00:00:00Z'));
  for (const day of ['2026-10-31', '2026-11-01', '2026-11-20', '2026-12-31', '2027-01-01']) {
    await place.run('succeeded', at(`${day}T02:00:00Z`), at(`${day}T02:10:00Z`));
  }
  return place;
}

describe('run records', () => {
  test('are listed over months and years in order of their start, from a time on', async () => {
    const place = await placeWithRuns();
    expect(await starts(place, { since: at('2026-11-01T02:00:00Z') })).toEqual([
      '2026-11-01',
      '2026-11-20',
      '2026-12-31',
      '2027-01-01',
    ]);
    expect(await starts(place, { since: at('2026-11-01T02:00:00.001Z') })).toHaveLength(3);
  });

  test('are bounded: the newest are read', async () => {
    const place = await placeWithRuns();
    expect(await starts(place, { since: at('2026-01-01T00:00:00Z'), recordsMax: 2 })).toEqual([
      '2026-12-31',
      '2027-01-01',
    ]);
  });

  test('are not read where they are known', async () => {
    const place = await placeWithRuns();
    const [first] = await listRunRecords(place.store, { since: at('2026-01-01T00:00:00Z') });
    const found = await starts(place, { since: at('2026-01-01T00:00:00Z'), knownRuns: new Set([first?.id ?? '']) });
    expect(found).toHaveLength(4);
    expect(found).not.toContain('2026-10-31');
  });

  test('that cannot be read are reported and hide no others', async () => {
    const place = await placeWithRuns();
    const damaged = keys.run(at('2026-11-05T00:00:00Z'), smallestRunId(at('2026-11-05T00:00:00Z')));
    await place.store.putSmall(damaged, Buffer.from('{"layout": 7}'));
    const reported: string[] = [];
    const onDamaged = (key: string): void => void reported.push(key);
    expect(await starts(place, { since: at('2026-01-01T00:00:00Z'), onDamaged })).toHaveLength(5);
    expect(reported).toEqual([damaged]);
  });
});
