import { describe, expect, test } from 'vitest';
import { at, HistoryPlace, plan } from '../../test/support/protection.ts';
import type { Config } from '../config/model.ts';
import type { PlannedBackup } from '../observability/expectations.ts';
import { buildProtectionState, isOverdue } from '../observability/protection-state.ts';
import { freshnessEvents } from './freshness.ts';

const now = at('2026-11-20T12:00Z');

/** Only what is looked at: which jobs make backups of which format. */
function configOf(jobs: Readonly<Record<string, PlannedBackup['format']>>): Config {
  const made = Object.entries(jobs).map(([name, format]) => [name, { name, format, to: ['r2'] }] as const);
  return { databases: new Map([['shop', { jobs: new Map(made) }]]) } as unknown as Config;
}

/** What is told of a source whose plain backups may be so many hours old, if there is one of this night. */
async function told(jobs: Parameters<typeof configOf>[0], hours: number, { backedUp = true } = {}) {
  const place = new HistoryPlace(now);
  if (backedUp) await place.backup(at('2026-11-20T02:00Z'));
  const plans = [plan({ maxAgeMs: hours * 3_600_000 })];
  return freshnessEvents(configOf(jobs), buildProtectionState(await place.inputs({ plans })));
}

describe('what is told of freshness', () => {
  test('is a problem while a backup is overdue, and the end of just that while it is fresh', async () => {
    const about = { at: now, source: 'shop', database: 'shop', storage: 'r2', job: 'nightly' };
    expect(await told({ nightly: 'plain' }, 9)).toMatchObject([{ ...about, event: 'overdue' }]);
    expect(await told({ nightly: 'plain' }, 11)).toEqual([{ ...about, event: 'resolved', of: 'overdue' }]);
  });

  test('is nothing of a database that has no backup and has time for one', async () => {
    expect(await told({ nightly: 'plain' }, 11, { backedUp: false })).toEqual([]);
  });

  test('is no end of what another format is overdue of', async () => {
    const jobs = { nightly: 'plain', weekly: 'plain', server: 'physical', daily: 'physical' } as const;
    const place = new HistoryPlace(now);
    await place.backup(at('2026-11-20T02:00Z'));
    await place.backup(at('2026-11-18T02:00Z'), { format: 'physical' });
    const state = buildProtectionState(await place.inputs({ plans: [plan(), plan({ format: 'physical' })] }));
    expect(state.backups.map((backup) => isOverdue(backup, now))).toEqual([false, true]);
    expect(freshnessEvents(configOf(jobs), state)).toMatchObject([{ event: 'overdue' }]);
  });
});
