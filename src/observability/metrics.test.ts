import { describe, expect, test } from 'vitest';
import { at, HistoryPlace, plan, REFUSAL, walOf } from '../../test/support/protection.ts';
import { renderMetrics } from './metrics.ts';
import { buildProtectionState, type ProtectionInputs } from './protection-state.ts';

async function series(inputs: ProtectionInputs): Promise<string[]> {
  const text = await renderMetrics(buildProtectionState(inputs), '1.2.3');
  return text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
}

const shop = 'source="shop",database="shop",format="plain",storage="r2"';

describe('metrics', () => {
  test('tell of a storage with a success and a failure after it', async () => {
    const place = new HistoryPlace(at('2026-11-21T12:00:00Z'));
    await place.backup(at('2026-11-19T02:00:00Z'), { bytes: 23 });
    await place.backup(at('2026-11-20T02:00:00Z'), { bytes: 100 });
    await place.run('failed', at('2026-11-21T02:00:00Z'), at('2026-11-21T02:00:07Z'));
    await place.run('succeeded', at('2026-11-21T03:00:00Z'), at('2026-11-21T03:00:00.500Z'), {
      kind: 'prune',
      source: undefined,
      database: undefined,
    });
    const running = await place.run('running', place.clock.now());
    const progressRatios = new Map([[running.id as string, 0.25]]);
    const labels = 'kind="backup",source="shop",database="shop",storage="r2"';
    const buckets = (counts: readonly number[], of: string): string[] =>
      [1, 5, 15, 60, 300, 900, 3600, 10800, 21600, 43200, 86400, '+Inf'].map(
        (bound, index) => `pgark_run_duration_seconds_bucket{${of},le="${bound}"} ${counts[index]}`,
      );
    const inputs = await place.inputs({ progressRatios, notificationFailures: 3 });
    const expected = [
      `pgark_backup_last_success_timestamp_seconds{${shop}} ${at('2026-11-20T02:10:00Z').getTime() / 1000}`,
      `pgark_backup_last_attempt_timestamp_seconds{${shop}} ${at('2026-11-21T02:00:07Z').getTime() / 1000}`,
      `pgark_backup_last_duration_seconds{${shop}} 600`,
      `pgark_backup_last_size_bytes{${shop}} 100`,
      `pgark_backup_overdue{${shop}} 1`,
      `pgark_backup_suspicious{${shop}} 0`,
      `pgark_backup_proof_failed{${shop}} 0`,
      `pgark_backup_next_run_timestamp_seconds{${shop}} ${at('2026-11-22T02:00:00Z').getTime() / 1000}`,
      `pgark_storage_bytes{${shop}} 123`,
      `pgark_storage_backups{${shop}} 2`,
      `pgark_storage_last_read_timestamp_seconds{storage="r2"} ${place.clock.now().getTime() / 1000}`,
      'pgark_storage_damaged_manifests{storage="r2"} 0',
      `pgark_runs_total{${labels},result="succeeded"} 2`,
      `pgark_runs_total{${labels},result="failed"} 1`,
      `pgark_runs_total{${labels},result="interrupted"} 0`,
      `pgark_runs_total{${labels},result="locked"} 0`,
      `pgark_runs_total{kind="prune",storage="r2",result="succeeded"} 1`,
      `pgark_runs_total{kind="prune",storage="r2",result="failed"} 0`,
      `pgark_runs_total{kind="prune",storage="r2",result="interrupted"} 0`,
      `pgark_runs_total{kind="prune",storage="r2",result="locked"} 0`,
      ...buckets([0, 0, 1, 1, 1, 3, 3, 3, 3, 3, 3, 3], labels),
      `pgark_run_duration_seconds_sum{${labels}} 1207`,
      `pgark_run_duration_seconds_count{${labels}} 3`,
      ...buckets([1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1], 'kind="prune",storage="r2"'),
      `pgark_run_duration_seconds_sum{kind="prune",storage="r2"} 0.5`,
      `pgark_run_duration_seconds_count{kind="prune",storage="r2"} 1`,
      `pgark_run_progress_ratio{${labels},format="plain"} 0.25`,
      'pgark_notification_failures_total 3',
      'pgark_build_info{version="1.2.3"} 1',
    ];
    expect((await series(inputs)).sort()).toEqual(expected.sort());
  });

  test('tell of each line whether its newest backup is known to be damaged', async () => {
    const place = new HistoryPlace(at('2026-11-21T12:00:00Z'));
    const older = await place.backup(at('2026-11-19T02:00:00Z'));
    const newest = await place.backup(at('2026-11-20T02:00:00Z'));
    const failedProofs = async () =>
      (await series(await place.inputs())).filter((line) => line.startsWith('pgark_backup_proof_failed'));
    await place.prove(older, 'verify', at('2026-11-20T05:00:00Z'), { passed: false });
    expect(await failedProofs()).toEqual([`pgark_backup_proof_failed{${shop}} 0`]);
    await place.prove(newest, 'verify', at('2026-11-20T05:00:00Z'), { passed: false });
    expect(await failedProofs()).toEqual([`pgark_backup_proof_failed{${shop}} 1`]);
  });

  test('do not claim what is not known', async () => {
    const place = new HistoryPlace(at('2026-11-20T01:00:00Z'));
    const inputs = await place.inputs({ histories: new Map([['r2', undefined]]) });
    expect(await series(inputs)).toEqual([
      `pgark_backup_overdue{${shop}} 0`,
      `pgark_backup_next_run_timestamp_seconds{${shop}} ${at('2026-11-20T02:00:00Z').getTime() / 1000}`,
      'pgark_storage_last_read_timestamp_seconds{storage="r2"} 0',
      'pgark_notification_failures_total 0',
      'pgark_build_info{version="1.2.3"} 1',
    ]);
  });

  test('tell of each storage when it was read, and how many manifests could not be', async () => {
    const place = new HistoryPlace(at('2026-11-21T12:00:00Z'));
    const state = buildProtectionState(await place.inputs());
    const storages = [
      { storage: 'away', readAt: undefined, damagedManifests: 0 },
      { storage: 'near', readAt: at('1970-01-01T00:01:40Z'), damagedManifests: 2 },
    ];
    const text = await renderMetrics({ ...state, storages }, '1.2.3');
    expect(text.match(/^pgark_storage_(last|damaged).*$/gm)).toEqual([
      'pgark_storage_last_read_timestamp_seconds{storage="away"} 0',
      'pgark_storage_last_read_timestamp_seconds{storage="near"} 100',
      'pgark_storage_damaged_manifests{storage="near"} 2',
    ]);
  });

  test('count failures from zero, so that the first one shows as an increase', async () => {
    const place = new HistoryPlace(at('2026-11-20T01:00:00Z'));
    const before = await series(await place.inputs());
    await place.run('failed', at('2026-11-20T00:00:00Z'), at('2026-11-20T00:30:00Z'));
    const after = await series(await place.inputs());
    const failed = 'pgark_runs_total{kind="backup",source="shop",database="shop",storage="r2",result="failed"}';
    expect(before).toContain(`${failed} 0`);
    expect(after).toContain(`${failed} 1`);
  });

  test('have as many series after a thousand backups as after one', async () => {
    const place = new HistoryPlace(at('2026-11-20T12:00:00Z'));
    await place.backup(at('2026-11-01T00:00:00Z'));
    const one = await series(await place.inputs());
    for (let hour = 1; hour < 1_000; hour += 1) {
      await place.backup(new Date(at('2026-11-01T00:00:00Z').getTime() - hour * 3_600_000));
    }
    expect(await series(await place.inputs())).toHaveLength(one.length);
  });

  test('say awkward names as Prometheus wants them', async () => {
    const place = new HistoryPlace(at('2026-11-20T01:00:00Z'));
    const lines = await series(await place.inputs({ plans: [plan({ database: 'we"ird\\na\nme-Ü' })] }));
    expect(lines[0]).toContain('database="we\\"ird\\\\na\\nme-Ü"');
  });

  test('tell how far WAL is archived, and nothing that is not known', async () => {
    const place = new HistoryPlace(at('2026-11-21T12:00:00Z'));
    const inputs = await place.inputs({
      wal: [
        {
          ...walOf(),
          earliest: at('2026-11-20T03:00:00Z'),
          latest: at('2026-11-21T11:59:58.500Z'),
          lagMs: 1_500,
          lagBytes: 300,
          storedBytes: 5_000,
          gaps: 2,
          slot: { name: 'pgark_shop', retainedBytes: 16_777_216, limitBytes: 67_108_864, state: 'fine' },
          storages: [
            { storage: 'r2', lagMs: 1_500 },
            { storage: 'nas', lagMs: 90_000, refuses: { since: at('2026-11-21T11:58:30Z'), failure: REFUSAL } },
          ],
        },
        walOf({ source: 'crm', watchedSince: at('2026-11-21T11:00:00Z') }),
      ],
    });
    const wal = (await series(inputs)).filter((line) => /^pgark_(pitr|wal|slot)_/.test(line));
    expect(wal).toEqual([
      `pgark_pitr_earliest_timestamp_seconds{source="shop"} ${at('2026-11-20T03:00:00Z').getTime() / 1000}`,
      `pgark_pitr_latest_timestamp_seconds{source="shop"} ${at('2026-11-21T11:59:58.500Z').getTime() / 1000}`,
      'pgark_wal_lag_seconds{source="shop"} 1.5',
      'pgark_wal_lag_bytes{source="shop"} 300',
      'pgark_wal_stored_bytes{source="shop"} 5000',
      'pgark_wal_gaps{source="shop"} 2',
      'pgark_slot_retained_bytes{source="shop"} 16777216',
      'pgark_slot_limit_bytes{source="shop"} 67108864',
      'pgark_wal_overdue{source="shop"} 0',
      'pgark_wal_overdue{source="crm"} 1',
      'pgark_wal_storage_lag_seconds{source="shop",storage="r2"} 1.5',
      'pgark_wal_storage_lag_seconds{source="shop",storage="nas"} 90',
      'pgark_wal_storage_failing{source="shop",storage="r2"} 0',
      'pgark_wal_storage_failing{source="shop",storage="nas"} 1',
    ]);
  });
});
