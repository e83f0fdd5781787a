import { describe, expect, test } from 'vitest';
import { at, HistoryPlace, plan, REFUSAL, walOf } from '../../test/support/protection.ts';
import { acceptSize } from '../repository/accepted-sizes.ts';
import { healthcheckReport, healthVerdict, nagiosReport } from './health.ts';
import { renderMetrics } from './metrics.ts';
import { buildProtectionState, type ProtectionInputs } from './protection-state.ts';

const now = at('2026-11-21T12:00:00Z');

async function placeWithBackup(startedAt = '2026-11-21T02:00:00Z'): Promise<HistoryPlace> {
  const place = new HistoryPlace(now);
  await place.backup(at(startedAt), { bytes: 2_048 });
  return place;
}

async function reports(place: HistoryPlace, said: Partial<ProtectionInputs> = {}) {
  const state = buildProtectionState(await place.inputs(said));
  return { healthcheck: healthcheckReport(state, now), nagios: nagiosReport(state, now) };
}

describe('health', () => {
  test('is good when everything answers and is fresh', async () => {
    const probes = [
      { kind: 'database', name: 'shop', at: at('2026-11-21T11:56:00Z') },
      { kind: 'storage', name: 'r2', at: at('2026-11-21T11:56:00Z') },
    ] as const;
    expect(await reports(await placeWithBackup(), { probes })).toEqual({
      healthcheck: { text: 'healthy: 1 of 1 scheduled backups are there and fresh; 1 backups, 2.0 KiB\n', exit: 0 },
      nagios: {
        text: 'PGARK OK - 1 of 1 scheduled backups are there and fresh; 1 backups, 2.0 KiB | overdue=0;;0;0 failed_proofs=0;;0;0 oldest_backup_age=36000s;;;0 backups=1;;;0 stored=2048B;;;0\n',
        exit: 0,
      },
    });
  });

  test('is bad when a backup is overdue, and says since when, what is safe and why', async () => {
    const place = await placeWithBackup('2026-11-20T02:00:00Z');
    await place.run('failed', at('2026-11-21T02:00:00Z'), at('2026-11-21T02:01:00Z'));
    const { healthcheck, nagios } = await reports(place);
    const sentence =
      'shop on r2: overdue since 2026-11-21T02:20:00Z (9 h 40 min): the newest backup is of 2026-11-20T02:00:00Z, and one was due at 2026-11-21T02:00:00Z; the last attempt (2026-11-21T02:01:00Z) failed: pg_dump was killed';
    expect(healthcheck).toEqual({ text: `unhealthy\n✖ ${sentence}\n`, exit: 1 });
    expect(nagios.exit).toBe(2);
    expect(nagios.text).toContain(
      `PGARK CRITICAL - ${sentence} | overdue=1;;0;0 failed_proofs=0;;0;0 oldest_backup_age=122400s`,
    );
  });

  test('is bad when there never was a backup and one was due', async () => {
    const { healthcheck } = await reports(new HistoryPlace(now), { watchedSince: at('2026-11-20T12:00:00Z') });
    expect(healthcheck.text).toContain('there is no backup, and one was due at 2026-11-21T02:00:00Z');
    expect(healthcheck.exit).toBe(1);
  });

  test('is good but warned of while the first backup is waited for', async () => {
    const { healthcheck, nagios } = await reports(new HistoryPlace(now));
    expect(healthcheck.exit).toBe(0);
    expect(healthcheck.text).toContain('! shop on r2: no backup yet; overdue from 2026-11-22T02:15:00Z on');
    expect(nagios.exit).toBe(1);
  });

  test('is good but warned of when the newest full backup is suspicious, until its size is accepted or another one is not', async () => {
    const place = await placeWithBackup('2026-11-20T02:00:00Z');
    const suspicions = [{ rule: 'size_change', message: '1 B is 99% less' }];
    const { id } = await place.backup(at('2026-11-21T02:00:00Z'), { suspicions });
    const { healthcheck, nagios } = await reports(place);
    const sentence = `shop on r2: the newest backup, ${id}, is suspicious: 1 B is 99% less; nothing is pruned after it`;
    expect(healthcheck).toMatchObject({ exit: 0, text: expect.stringContaining(`! ${sentence}`) as unknown });
    expect(nagios).toMatchObject({ exit: 1, text: expect.stringContaining(`WARNING - ${sentence}`) as unknown });
    await acceptSize(place.store, id, { acceptedAt: now });
    expect((await reports(place)).nagios.exit).toBe(0);
    const later = await place.backup(at('2026-11-21T03:00:00Z'), { suspicions });
    expect((await reports(place)).nagios.text).toContain(later.id);
    await place.backup(at('2026-11-21T04:00:00Z'));
    expect((await reports(place)).nagios.exit).toBe(0);
  });

  test('is bad while the newest backup is known to be damaged, until one is made or a later proof passes', async () => {
    const place = await placeWithBackup('2026-11-20T02:00:00Z');
    const backup = await place.backup(at('2026-11-21T02:00:00Z'));
    await place.prove(backup, 'verify', at('2026-11-21T04:00:00Z'), { passed: true });
    expect((await reports(place)).healthcheck.exit).toBe(0);
    await place.prove(backup, 'verify', at('2026-11-21T05:00:00Z'), { passed: false });
    const { healthcheck, nagios } = await reports(place);
    const sentence = `shop on r2: the newest backup, ${backup.id}, is known to be damaged or unreadable: its verification of 2026-11-21T05:00:00Z failed, and nothing has proven it since`;
    expect(healthcheck).toEqual({ text: `unhealthy\n✖ ${sentence}\n`, exit: 1 });
    expect(nagios).toMatchObject({ exit: 2, text: expect.stringContaining(`CRITICAL - ${sentence} | `) as unknown });
    expect(nagios.text).toContain(' failed_proofs=1;;0;0 ');
    await place.prove(backup, 'drill', at('2026-11-21T06:00:00Z'), { passed: true });
    expect((await reports(place)).healthcheck.exit).toBe(0);
    await place.prove(backup, 'drill', at('2026-11-21T07:00:00Z'), { passed: false });
    // That it was stored as it was made says nothing of what was made.
    await place.prove(backup, 'verify', at('2026-11-21T08:00:00Z'), { passed: true });
    expect((await reports(place)).healthcheck.text).toContain(
      `${backup.id}, is known not to restore as it should: its drill of 2026-11-21T07:00:00Z failed`,
    );
    await place.backup(at('2026-11-21T09:00:00Z'));
    expect((await reports(place)).healthcheck.exit).toBe(0);
  });

  test.each([
    ['of a newer version', { layout: 2, passed: false }],
    ['that cannot be read', { passed: 'no' }],
  ])('is good with a proof %s', async (_what, said) => {
    const place = new HistoryPlace(now);
    const backup = await place.backup(at('2026-11-21T02:00:00Z'));
    await place.prove(backup, 'verify', at('2026-11-21T05:00:00Z'), said);
    expect((await reports(place)).nagios.exit).toBe(0);
  });

  test('is good but warned of when a damaged backup is of what nobody backs up here, and bad where it is only tried', async () => {
    const place = await placeWithBackup();
    const backup = await place.backup(at('2026-11-21T02:00:00Z'), { source: 'crm', database: 'crm' });
    await place.prove(backup, 'verify', at('2026-11-21T05:00:00Z'), { passed: false });
    const metric = async (said = {}) => {
      const text = await renderMetrics(buildProtectionState(await place.inputs(said)), '1.2.3');
      return text.split('\n').filter((line) => line.startsWith('pgark_backup_proof_failed{source="crm"'));
    };
    expect(await metric()).toEqual([]);
    const elsewhere = await reports(place);
    expect(elsewhere.healthcheck).toMatchObject({ exit: 0, text: expect.stringContaining('! crm on r2: the newest') });
    expect(elsewhere.nagios.exit).toBe(1);
    const proofs = [
      { kind: 'verify', source: 'crm', storage: 'r2', schedule: undefined, canOpen: true, hasJobs: false },
    ] as const;
    expect((await reports(place, { proofs })).healthcheck.exit).toBe(1);
    expect(await metric({ proofs })).toEqual([expect.stringMatching(/ 1$/)]);
    const chooses = proofs.map((proof) => ({ ...proof, hasJobs: true }));
    expect((await reports(place, { proofs: chooses })).healthcheck.exit).toBe(0);
  });

  test('is good with a drill that took too long: the backup restores', async () => {
    const place = new HistoryPlace(now);
    const backup = await place.backup(at('2026-11-21T02:00:00Z'));
    const proveSlow = async (time: Date) =>
      place.prove(backup, 'drill', time, { passed: false, error: { code: 'drill-too-slow' } });
    await proveSlow(at('2026-11-21T05:00:00Z'));
    expect((await reports(place)).nagios.exit).toBe(0);
    await place.prove(backup, 'verify', at('2026-11-21T06:00:00Z'), { passed: false });
    await proveSlow(at('2026-11-21T07:00:00Z'));
    expect((await reports(place)).nagios.exit).toBe(2);
  });

  test('is good but warned of when an attempt failed and the last good backup is fresh', async () => {
    const place = await placeWithBackup();
    await place.run('failed', at('2026-11-21T11:00:00Z'), at('2026-11-21T11:01:00Z'));
    const { healthcheck, nagios } = await reports(place);
    expect(healthcheck.exit).toBe(0);
    expect(nagios.exit).toBe(1);
    expect(nagios.text).toContain('the last attempt (2026-11-21T11:01:00Z) failed: pg_dump was killed');
  });

  test.each([
    ['a database that refuses', { kind: 'database', failure: 'connection refused' }, 'database x: connection refused'],
    ['a storage that refuses', { kind: 'storage', failure: 'AccessDenied (403)' }, 'storage x: AccessDenied (403)'],
    [
      'a probe that stopped coming',
      { kind: 'database' },
      'database x: was last probed at 2026-11-21T11:40:00Z (20 min 00 s)',
    ],
  ] as const)('is bad for %s', async (_what, probe, sentence) => {
    const probes = [{ name: 'x', at: at('2026-11-21T11:40:00Z'), ...probe }];
    const { healthcheck, nagios } = await reports(await placeWithBackup(), { probes });
    expect(healthcheck).toEqual({ text: `unhealthy\n✖ ${sentence}\n`, exit: 1 });
    expect(nagios.exit).toBe(2);
  });

  test('is bad when the storage was not read for long, although the backups known were fresh', async () => {
    const place = new HistoryPlace(at('2026-11-21T11:00:00Z'));
    await place.backup(at('2026-11-21T02:00:00Z'));
    const histories = new Map([['r2', await place.history()]]);
    const { healthcheck } = await reports(place, { now, histories });
    expect(healthcheck.text).toBe('unhealthy\n✖ storage r2: was last read at 2026-11-21T11:00:00Z (1 h 00 min)\n');
  });

  test('is unknown to Nagios where the storage could not be read yet', async () => {
    const { healthcheck, nagios } = await reports(new HistoryPlace(now), { histories: new Map([['r2', undefined]]) });
    expect(healthcheck.exit).toBe(1);
    expect(nagios).toMatchObject({ exit: 3, text: expect.stringContaining('PGARK UNKNOWN - storage r2: ') });
  });

  test('tells apart what is bad, what is worth knowing and what is not known', async () => {
    const place = await placeWithBackup();
    await place.store.putSmall('.pgark/backups/shop/shop/20261121T030000Z-pabcdef.json', Buffer.from('{'));
    const probes = [{ kind: 'database', name: 'shop', at: now, failure: 'no route' }] as const;
    const histories = new Map([
      ['r2', await place.history()],
      ['vault', undefined],
    ]);
    const state = buildProtectionState(await place.inputs({ probes, histories, notificationFailures: 2 }));
    expect(healthVerdict(state, now)).toEqual({
      healthy: false,
      problems: ['database shop: no route'],
      notes: [
        'storage r2: 1 of its manifests cannot be read; pgark doctor names them',
        'notifications: 2 could not be delivered since the start',
      ],
      unknown: ['storage vault: what lies in it could not be read yet'],
    });
  });

  test('says how far WAL is archived, and its worst lag to Nagios', async () => {
    const wal = [
      walOf({ lagMs: 2_000, storages: [{ storage: 'r2', lagMs: 2_000 }] }),
      walOf({ source: 'crm', lagMs: 61_000, storages: [{ storage: 'r2', lagMs: 61_000 }] }),
    ];
    const { healthcheck, nagios } = await reports(await placeWithBackup(), { wal });
    expect(healthcheck).toEqual({
      text: 'healthy: 1 of 1 scheduled backups are there and fresh; WAL archived up to 1 min 01 s ago; 1 backups, 2.0 KiB\n',
      exit: 0,
    });
    expect(nagios).toMatchObject({ exit: 0, text: expect.stringContaining(' wal_lag=61s;;900;0 ') });
  });

  test('is bad while WAL is not archived, however fresh the backups are', async () => {
    const lagMs = 2 * 3_600_000;
    const storages = [{ storage: 'r2', lagMs, refuses: { since: at('2026-11-21T10:00:00Z'), failure: REFUSAL } }];
    const { healthcheck, nagios } = await reports(await placeWithBackup(), { wal: [walOf({ lagMs, storages })] });
    const sentence =
      'WAL of shop: nothing committed since 2026-11-21T10:00:00Z is known to be archived (2 h 00 min): r2: AccessDenied (403)';
    expect(healthcheck).toEqual({ text: `unhealthy\n✖ ${sentence}\n`, exit: 1 });
    expect(nagios).toMatchObject({ exit: 2, text: expect.stringContaining(`PGARK CRITICAL - ${sentence} |`) });
  });

  test('warns of WAL of which nobody says how far it is', async () => {
    const storages = [{ storage: 'r2', lagMs: 7_200_000, isGuess: true }];
    const { healthcheck, nagios } = await reports(await placeWithBackup(), {
      wal: [walOf({ lagMs: 7_200_000, storages })],
    });
    expect(healthcheck.exit).toBe(0);
    expect(healthcheck.text).toContain('! WAL of shop: r2: WAL came last 2 h 00 min ago');
    expect(nagios.exit).toBe(1);
  });

  test('of hundreds of databases is still short, and their names cannot forge lines or performance data', async () => {
    const plans = Array.from({ length: 500 }, (_, index) => plan({ database: `x|overdue=0\nhealthy ${index}` }));
    const said = { plans, watchedSince: at('2026-11-20T12:00:00Z') };
    const { healthcheck, nagios } = await reports(new HistoryPlace(now), said);
    expect(healthcheck.text.split('\n')).toHaveLength(23);
    expect(healthcheck.text).toContain('… and 480 more problems');
    expect(nagios.text.match(/\n/g)).toHaveLength(1);
    expect(nagios.text.split('|')).toHaveLength(2);
    expect(nagios.text.length).toBeLessThan(4_200);
    expect(nagios.text).toMatch(/\| overdue=500;;0;0 failed_proofs=0;;0;0 backups=0;;;0 stored=0B;;;0\n$/);
  });
});
