import { expect, test } from 'vitest';
import { at, HistoryPlace, HOUR_MS, plan } from '../../test/support/protection.ts';
import { renderMetrics } from './metrics.ts';
import { buildProtectionState } from './protection-state.ts';
import type { StorageHistory } from './storage-history.ts';

const schedules = plan({ every: '0 4 * * *' }).schedules;
const proofs = [
  { kind: 'verify', source: 'shop', storage: 'r2', schedule: schedules[0], canOpen: false, hasJobs: true },
] as const;
const shop = 'source="shop",database="shop",format="plain",storage="r2"';

async function verifySeries(place: HistoryPlace, history?: StorageHistory): Promise<readonly string[]> {
  const histories = new Map([['r2', history ?? (await place.history())]]);
  const text = await renderMetrics(buildProtectionState(await place.inputs({ proofs, histories })), '1.2.3');
  return text.split('\n').filter((line) => line.startsWith('pgark_verify_'));
}

function said(lastSuccess: string | undefined, overdue: 0 | 1): readonly string[] {
  const seconds = at(lastSuccess ?? '').getTime() / 1_000;
  return [
    ...(lastSuccess === undefined ? [] : [`pgark_verify_last_success_timestamp_seconds{${shop}} ${seconds}`]),
    `pgark_verify_overdue{${shop}} ${overdue}`,
  ];
}

test('a scheduled verification that never passes is overdue when two of its times are over', async () => {
  const place = new HistoryPlace(at('2026-11-20T12:00:00Z'));
  expect(await verifySeries(place)).toEqual([]);
  const backup = await place.backup(at('2026-11-20T02:00:00Z'));
  expect(await verifySeries(place)).toEqual(said(undefined, 0));
  await place.prove(backup, 'verify', at('2026-11-20T04:05:00Z'), { passed: false });
  place.clock.stopFor(17 * HOUR_MS);
  expect(await verifySeries(place)).toEqual(said(undefined, 1));
  await place.prove(backup, 'verify', at('2026-11-21T04:30:00Z'), { passed: true });
  expect(await verifySeries(place)).toEqual(said('2026-11-21T04:30:00Z', 0));
});

test('the last verification that passed is of the backup that was the newest then, before a restart and after it', async () => {
  const place = new HistoryPlace(at('2026-11-20T12:00:00Z'));
  const first = await place.backup(at('2026-11-20T02:00:00Z'));
  await place.prove(first, 'verify', at('2026-11-20T04:05:00Z'), { passed: true });
  const before = await place.history();
  const second = await place.backup(at('2026-11-21T02:00:00Z'));
  // The older one is read too, and the newest is not: no key opens it.
  await place.prove(first, 'verify', at('2026-11-21T04:05:00Z'), { passed: true });
  await place.prove(second, 'verify', at('2026-11-22T04:05:00Z'), { passed: false });
  place.clock.stopFor(41 * HOUR_MS);
  for (const history of [await place.history(before), await place.history()]) {
    expect(await verifySeries(place, history)).toEqual(said('2026-11-20T04:05:00Z', 1));
  }
});

test('a verification that ends when there is a newer backup counts for what was the newest when it began', async () => {
  const place = new HistoryPlace(at('2026-11-20T12:00:00Z'));
  const first = await place.backup(at('2026-11-20T02:00:00Z'));
  const second = await place.backup(at('2026-11-21T02:00:00Z'));
  await place.prove(first, 'verify', at('2026-11-22T05:00:00Z'), { passed: true, wasNewest: false });
  await place.prove(second, 'verify', at('2026-11-22T05:05:00Z'), { passed: true, wasNewest: true });
  const before = await place.history();
  await place.backup(at('2026-11-22T02:00:00Z'));
  await place.prove(first, 'verify', at('2026-11-22T06:00:00Z'), { passed: true, wasNewest: false });
  place.clock.stopFor(54 * HOUR_MS);
  for (const history of [await place.history(before), await place.history()]) {
    expect(await verifySeries(place, history)).toEqual(said('2026-11-22T05:05:00Z', 0));
  }
});

test('who does not ask for verifications reads none of their proofs', async () => {
  const place = new HistoryPlace(at('2026-11-20T12:00:00Z'));
  const backup = await place.backup(at('2026-11-20T02:00:00Z'));
  await place.prove(backup, 'verify', at('2026-11-20T04:05:00Z'), { passed: true });
  expect((await place.history()).verifications.size).toBe(1);
  expect((await place.history(undefined, { readsVerifications: false })).verifications.size).toBe(0);
});

test('no verification is expected of what is not backed up here any more', async () => {
  const place = new HistoryPlace(at('2026-11-24T12:00:00Z'));
  await place.backup(at('2026-11-20T02:00:00Z'), { database: 'dropped' });
  const text = await renderMetrics(buildProtectionState(await place.inputs({ proofs })), '1.2.3');
  expect(text).toContain('pgark_storage_backups{source="shop",database="dropped"');
  expect(text).not.toContain('pgark_verify_overdue{source="shop",database="dropped"');
});

test('what is encrypted is not expected to be proven where there is no key', async () => {
  const place = new HistoryPlace(at('2026-11-24T12:00:00Z'));
  await place.backup(at('2026-11-20T02:00:00Z'));
  const history = await place.history();
  expect(await verifySeries(place, history)).toEqual(said(undefined, 1));
  const backups = new Map([...history.backups].map(([key, facts]) => [key, { ...facts, isEncrypted: true }]));
  expect(await verifySeries(place, { ...history, backups })).toEqual([]);
});
