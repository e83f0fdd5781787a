import { expect, test } from 'vitest';
import { at, HistoryPlace } from '../../test/support/protection.ts';
import { keys } from '../repository/keys.ts';
import type { BackupId } from '../repository/ids.ts';
import { renderMetrics } from './metrics.ts';
import { buildProtectionState } from './protection-state.ts';

async function drillSeries(place: HistoryPlace): Promise<readonly string[]> {
  const text = await renderMetrics(buildProtectionState(await place.inputs()), '1.2.3');
  return text.split('\n').filter((line) => line.startsWith('pgark_drill_'));
}

async function prove(place: HistoryPlace, id: BackupId, time: string, proof: Record<string, unknown>): Promise<void> {
  const key = keys.proof('shop', 'shop', id, at(time), 'drill');
  const text = JSON.stringify({ layout: 1, at: time, ...proof });
  await place.store.putSmall(key, new TextEncoder().encode(text));
}

const shop = 'source="shop",database="shop",format="plain",storage="r2"';

test('the last drill that passed is told from the proofs, whoever made them, and later ones from the runs', async () => {
  const place = new HistoryPlace(at('2026-11-21T12:00:00Z'));
  const backup = await place.backup(at('2026-11-20T02:00:00Z'));
  expect(await drillSeries(place)).toEqual([]);
  await prove(place, backup.id, '2026-08-01T02:00:00.000Z', { passed: true, restoreMs: 90_000 });
  await prove(place, backup.id, '2026-11-20T05:00:00.000Z', { passed: false });
  const inAugust = at('2026-08-01T02:00:00Z').getTime() / 1_000;
  expect(await drillSeries(place)).toEqual([
    `pgark_drill_last_success_timestamp_seconds{${shop}} ${inAugust}`,
    `pgark_drill_restore_seconds{${shop}} 90`,
  ]);
  const before = await place.history();
  await place.run('succeeded', at('2026-11-21T07:00:00Z'), at('2026-11-21T07:02:00Z'), {
    kind: 'drill',
    result: { backup: backup.id, format: 'plain', restoreMs: 61_000 },
  });
  await place.run('failed', at('2026-11-21T08:00:00Z'), at('2026-11-21T08:02:00Z'), { kind: 'drill' });
  const { drills } = await place.history(before);
  expect([...drills.values()]).toMatchObject([{ at: at('2026-11-21T07:02:00Z'), restoreMs: 61_000 }]);
});
