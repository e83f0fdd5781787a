import { describe, expect, test } from 'vitest';
import { databasesOverHalf, planRetention, type KeepReason, type RetainableBackup } from './plan.ts';
import type { RetentionPolicy } from './policy.ts';

const DAY_MS = 86_400_000;
const now = new Date('2026-11-20T12:00:00Z');

function backup(id: string, takenAt: string | Date, fields: Partial<RetainableBackup> = {}): RetainableBackup {
  return {
    id,
    source: 'main',
    database: 'shop',
    takenAt: new Date(takenAt),
    bytes: 100,
    pinned: false,
    parents: [],
    ...fields,
  };
}

/** `d1` … `dN`, taken N days before now each. */
function daily(count: number, fields: Partial<RetainableBackup> = {}): RetainableBackup[] {
  return Array.from({ length: count }, (_, index) =>
    backup(`d${index + 1}`, new Date(now.getTime() - (index + 1) * DAY_MS), fields),
  );
}

function keptIds(backups: readonly RetainableBackup[], policy: RetentionPolicy, timezone = 'UTC'): string[] {
  return planRetention(backups, policy, now, { timezone }).keep.map((entry) => entry.id);
}

function reasonsOf(id: string, backups: readonly RetainableBackup[], policy: RetentionPolicy): readonly KeepReason[] {
  return planRetention(backups, policy, now).keep.find((entry) => entry.id === id)?.reasons ?? [];
}

describe('planning retention', () => {
  test('seven days keep what is seven days old and remove what is a millisecond older', () => {
    const edge = new Date(now.getTime() - 7 * DAY_MS);
    const backups = [...daily(4), backup('edge', edge), backup('over', new Date(edge.getTime() - 1))];
    const plan = planRetention(backups, { keep: { withinMs: 7 * DAY_MS } }, now);
    expect(plan.remove).toEqual([{ id: 'over', source: 'main', database: 'shop', reason: 'expired' }]);
  });

  test.each<RetentionPolicy>([
    { keep: {} },
    { keep: { last: 0 } },
    { keep: { last: 0, withinMs: 0, daily: 0 }, minBackups: 0, maxTotalBytes: 0 },
  ])('a policy that wants nothing keeps all: %j', (policy) => {
    expect(planRetention(daily(10), policy, now).remove).toEqual([]);
    expect(reasonsOf('d9', daily(10), policy)).toEqual(['no-rule']);
  });

  test('after an outage longer than the retention time the minimum of three stays', () => {
    const old = daily(8).map((row) => ({ ...row, takenAt: new Date(row.takenAt.getTime() - 100 * DAY_MS) }));
    expect(keptIds(old, { keep: { withinMs: 7 * DAY_MS } })).toEqual(['d3', 'd2', 'd1']);
  });

  test('suspicious ones push out none, nor do those that were built on them, and they go when their time has come', () => {
    const keepTwo = { keep: { last: 2 }, minBackups: 1 };
    const [first, second, third, fourth, ...rest] = daily(7);
    if (first === undefined || second === undefined || third === undefined || fourth === undefined) throw new Error();
    const suspicious = { ...third, isSuspicious: true };
    const built = { ...second, parents: [third.id] };
    const oldSuspicious = rest.map((row, index) => ({ ...row, isSuspicious: index === 0 }));
    const rows = [first, built, suspicious, fourth, ...oldSuspicious];
    // d3 is needed by d2; of what is trusted the two newest are d1 and d4; d5 was suspicious, and is older than both.
    expect(keptIds(rows, keepTwo)).toEqual(['d4', 'd3', 'd2', 'd1']);
    expect(keptIds([first, built, third, fourth, ...rest], keepTwo)).toEqual(['d3', 'd2', 'd1']);
  });

  test('the newest stays even with a minimum of 0', () => {
    expect(keptIds(daily(5), { keep: { withinMs: 1 }, minBackups: 0 })).toEqual(['d1']);
  });

  test('the newest that was proven to restore stays, older proven ones may go', () => {
    const backups = daily(8).map((row) => (['d6', 'd8'].includes(row.id) ? { ...row, provenAt: now } : row));
    expect(keptIds(backups, { keep: { last: 1 }, minBackups: 1 })).toEqual(['d6', 'd1']);
  });

  test('a pinned one stays', () => {
    const backups = daily(6).map((row) => ({ ...row, pinned: row.id === 'd5' }));
    expect(keptIds(backups, { keep: { last: 1 }, minBackups: 1 })).toEqual(['d5', 'd1']);
  });

  test('a locked one stays until its lock is over, beside those that the rules keep', () => {
    const lock = (id: string, lockedUntil: Date) => (row: RetainableBackup) =>
      row.id === id ? { ...row, lockedUntil } : row;
    const backups = daily(6)
      .map(lock('d6', new Date(now.getTime() + 1)))
      .map(lock('d5', now))
      .map(lock('d4', new Date(Number.NaN)));
    const policy = { keep: { last: 2 }, minBackups: 1, maxTotalBytes: 1 };
    expect(keptIds(backups, policy)).toEqual(['d6', 'd4', 'd1']);
    expect(reasonsOf('d6', backups, policy)).toEqual(['locked']);
  });

  test('shop, shop-eu, another source’s shop and names that join to the same text are counted apart', () => {
    const identities = [
      { source: 'main', database: 'shop' },
      { source: 'main', database: 'shop-eu' },
      { source: 'other', database: 'shop' },
      { source: 'main/shop', database: 'eu' },
      { source: 'main', database: 'shop/eu' },
      { source: 'main","shop', database: '' },
    ];
    const backups = identities.flatMap((identity, group) =>
      daily(4).map((row) => ({ ...row, ...identity, id: `${group}-${row.id}` })),
    );
    const plan = planRetention(backups, { keep: { last: 2 }, minBackups: 1 }, now);
    const kept = Map.groupBy(plan.keep, (entry) => entry.id.slice(2));
    expect([...kept.keys()].toSorted()).toEqual(['d1', 'd2']);
    expect(plan.keep).toHaveLength(2 * identities.length);
  });

  test('order is by recorded time: after pg_upgrade a new system whose ids sort lower keeps its newest', () => {
    const old = daily(5, { systemIdentifier: '7300000000000000001' }).map((row) => ({ ...row, id: `zz-${row.id}` }));
    const fresh = backup('aa-new', now, { systemIdentifier: '7200000000000000001' });
    const policy = { keep: { withinMs: 1 }, minBackups: 1 };
    expect(keptIds([...old, fresh], policy)).toEqual(['zz-d1', 'aa-new']);
    expect(reasonsOf('aa-new', [...old, fresh], policy)).toEqual(['newest', 'minimum', 'within']);
    expect(reasonsOf('zz-d1', [...old, fresh], policy)).toEqual(['newest', 'other-server', 'minimum']);
  });

  test('two servers under one name: neither takes the place of the other’s newest, minimum or last proven', () => {
    const staging = daily(9, { systemIdentifier: '1' });
    const prod = daily(9, { systemIdentifier: '2' }).map((row) => ({
      ...row,
      id: `p-${row.id}`,
      takenAt: new Date(row.takenAt.getTime() - 30 * DAY_MS),
      ...(row.id === 'd8' ? { provenAt: now } : {}),
    }));
    const unknown = daily(4).map((row) => ({ ...row, id: `u-${row.id}` }));
    const kept = keptIds([...staging, ...prod, ...unknown], { keep: { withinMs: 1 }, minBackups: 2 });
    expect(kept.toSorted()).toEqual(['d1', 'd2', 'p-d1', 'p-d2', 'p-d8', 'u-d1', 'u-d2']);
  });

  test('each of two servers under one name has its own last and daily ones', () => {
    const later = (row: RetainableBackup): Date => new Date(row.takenAt.getTime() + 3_600_000);
    const both = daily(9, { systemIdentifier: '1' }).flatMap((row) => [
      row,
      { ...row, id: `p-${row.id}`, systemIdentifier: '2', takenAt: later(row) },
    ]);
    for (const keep of [{ daily: 5 }, { last: 5 }]) expect(keptIds(both, { keep, minBackups: 1 })).toHaveLength(10);
  });

  test('what a server left behind that was upgraded goes in the course of time, down to its minimum', () => {
    const old = daily(40, { systemIdentifier: '1' });
    const policy = { keep: { daily: 7, monthly: 2 }, minBackups: 2 };
    const keptAfter = (days: number): string[] => {
      const later = new Date(now.getTime() + days * DAY_MS);
      const all = [...old, backup('new', later, { systemIdentifier: '2' })];
      return planRetention(all, policy, later).keep.map((entry) => entry.id);
    };
    expect(keptAfter(0)).toEqual(['d20', 'd7', 'd6', 'd5', 'd4', 'd3', 'd2', 'd1', 'new']);
    expect(keptAfter(4)).toEqual(['d20', 'd3', 'd2', 'd1', 'new']);
    expect(keptAfter(100)).toEqual(['d2', 'd1', 'new']);
  });

  test('of two backups of the same moment the higher id is the newer one', () => {
    const twins = [backup('b', now), backup('a', now), backup('c', now)];
    expect(keptIds(twins, { keep: { last: 1 }, minBackups: 1 })).toEqual(['c']);
  });

  test('what a kept incremental needs stays, near and far; a chain that nobody keeps goes, dependents first', () => {
    const chain = (name: string, day: number): RetainableBackup[] => [
      backup(`${name}-full`, new Date(now.getTime() - day * DAY_MS)),
      backup(`${name}-i1`, new Date(now.getTime() - (day - 1) * DAY_MS), { parents: [`${name}-full`] }),
      backup(`${name}-i2`, new Date(now.getTime() - (day - 2) * DAY_MS), { parents: [`${name}-i1`] }),
    ];
    const plan = planRetention([...chain('old', 12), ...chain('new', 6)], { keep: { last: 1 }, minBackups: 1 }, now);
    expect(plan.keep.map(({ id, reasons }) => [id, ...reasons])).toEqual([
      ['new-full', 'needed'],
      ['new-i1', 'needed'],
      ['new-i2', 'newest', 'minimum', 'last'],
    ]);
    expect(plan.remove.map((entry) => entry.id)).toEqual(['old-i2', 'old-i1', 'old-full']);
  });

  test('a dependent goes before its parent even if its recorded time is earlier', () => {
    const backups = [
      ...daily(1),
      backup('child', '2026-01-01T00:00:00Z', { parents: ['parent'] }),
      backup('parent', '2026-02-01T00:00:00Z'),
    ];
    const plan = planRetention(backups, { keep: { last: 1 }, minBackups: 1 }, now);
    expect(plan.remove.map((entry) => entry.id)).toEqual(['child', 'parent']);
  });

  test('parents that are missing or in a circle harm nothing', () => {
    const backups = [
      ...daily(2),
      backup('x', '2026-01-01T00:00:00Z', { parents: ['y', 'gone'] }),
      backup('y', '2026-01-02T00:00:00Z', { parents: ['x'] }),
    ];
    const plan = planRetention(backups, { keep: { last: 1 }, minBackups: 1 }, now);
    expect(plan.remove.map((entry) => entry.id).toSorted()).toEqual(['d2', 'x', 'y']);
  });

  test('a backup dated ahead of now stays and takes nobody’s place', () => {
    const ahead = backup('ahead', '2031-01-01T00:00:00Z');
    const kept = keptIds([...daily(6), ahead], { keep: { last: 3, daily: 3, yearly: 3 }, minBackups: 3 });
    expect(kept).toEqual(['d3', 'd2', 'd1', 'ahead']);
  });

  test('a time that is no time removes nothing', () => {
    const broken = backup('broken', new Date(Number.NaN));
    expect(keptIds([...daily(2), broken], { keep: { last: 1 }, minBackups: 1 })).toEqual(['d1', 'broken']);
    expect(planRetention(daily(9), { keep: { last: 1 } }, new Date(Number.NaN)).remove).toEqual([]);
  });

  test('two rows of one id both stay: which of them a removal would hit is not known', () => {
    const twins = [backup('twin', '2026-01-01T00:00:00Z'), backup('twin', '2026-01-01T00:00:00Z', { database: 'old' })];
    const plan = planRetention([...daily(2), ...twins], { keep: { last: 1 }, minBackups: 1 }, now);
    expect(plan.remove.map((entry) => entry.id)).toEqual(['d2']);
    expect(plan.keep.filter((entry) => entry.id === 'twin').map((entry) => entry.reasons)).toEqual([
      ['ambiguous'],
      ['ambiguous'],
    ]);
  });

  test.each([-1, 1.5, Number.NaN, Number.POSITIVE_INFINITY])('a rule of %d is refused by name', (value) => {
    expect(() => planRetention([], { keep: { weekly: value } }, now)).toThrow(/retention setting weekly is/);
    expect(() => planRetention([], { keep: {}, minBackups: value } satisfies RetentionPolicy, now)).toThrow(
      /minBackups/,
    );
  });
});

describe('calendar rules', () => {
  test('the newest of each of the last periods that have a backup stays', () => {
    const backups = [
      backup('y25', '2025-03-01T00:00:00Z'),
      backup('sep', '2026-09-30T23:59:59Z'),
      backup('oct-early', '2026-10-01T00:00:00Z'),
      backup('oct-late', '2026-10-31T23:00:00Z'),
      backup('nov-early', '2026-11-20T01:00:00Z'),
      backup('nov-late', '2026-11-20T02:00:00Z'),
    ];
    const only = { minBackups: 1 };
    expect(keptIds(backups, { keep: { monthly: 2 }, ...only })).toEqual(['oct-late', 'nov-late']);
    expect(keptIds(backups, { keep: { yearly: 2 }, ...only })).toEqual(['y25', 'nov-late']);
    expect(keptIds(backups, { keep: { hourly: 2 }, ...only })).toEqual(['nov-early', 'nov-late']);
    expect(reasonsOf('nov-late', backups, { keep: { hourly: 1, daily: 1 }, ...only })).toEqual([
      'newest',
      'minimum',
      'hourly',
      'daily',
    ]);
  });

  test('weeks begin on Monday, also across the turn of the year', () => {
    const backups = [
      backup('sunday', '2025-12-28T12:00:00Z'),
      backup('monday', '2025-12-29T12:00:00Z'),
      backup('next-sunday', '2026-01-04T12:00:00Z'),
      backup('next-monday', '2026-01-05T12:00:00Z'),
    ];
    expect(keptIds(backups, { keep: { weekly: 9 }, minBackups: 1 })).toEqual(['sunday', 'next-sunday', 'next-monday']);
  });

  test('a day is a day of the time zone given', () => {
    // 23:30 UTC of the 18th is 00:30 of the 19th in Berlin.
    const backups = [backup('late', '2026-11-18T23:30:00Z'), backup('next', '2026-11-19T12:00:00Z')];
    expect(keptIds(backups, { keep: { daily: 5 }, minBackups: 1 }, 'UTC')).toEqual(['late', 'next']);
    expect(keptIds(backups, { keep: { daily: 5 }, minBackups: 1 }, 'Europe/Berlin')).toEqual(['next']);
  });

  test('the night in which summer time ends has two hours of one name, and both count', () => {
    const backups = [backup('summer', '2026-10-25T00:30:00Z'), backup('winter', '2026-10-25T01:30:00Z')];
    const policy = { keep: { hourly: 5 }, minBackups: 1 };
    expect(keptIds(backups, policy, 'Europe/Berlin')).toEqual(['summer', 'winter']);
    expect(keptIds(backups, { keep: { daily: 5 }, minBackups: 1 }, 'Europe/Berlin')).toEqual(['winter']);
  });

  test('the night in which summer time begins is one day of 23 hours', () => {
    // Berlin, 29 March 2026: 00:30 +01:00, 03:30 +02:00, 23:30 +02:00, and 00:30 of the 30th.
    const backups = [
      backup('before', '2026-03-28T23:30:00Z'),
      backup('after', '2026-03-29T01:30:00Z'),
      backup('evening', '2026-03-29T21:30:00Z'),
      backup('next', '2026-03-29T22:30:00Z'),
    ];
    expect(keptIds(backups, { keep: { daily: 9 }, minBackups: 1 }, 'Europe/Berlin')).toEqual(['evening', 'next']);
    expect(keptIds(backups, { keep: { hourly: 9 }, minBackups: 1 }, 'Europe/Berlin')).toHaveLength(4);
  });

  test('an unknown time zone is refused by name', () => {
    expect(() => planRetention([], { keep: {} }, now, { timezone: 'Europe/Atlantis' })).toThrow(
      /time zone "Europe\/Atlantis" is unknown/,
    );
  });
});

describe('the limit of total bytes', () => {
  test('takes the oldest first, and no more than needed', () => {
    const plan = planRetention(daily(8), { keep: { last: 7 }, minBackups: 2, maxTotalBytes: 450 }, now);
    expect(plan.keep.map((entry) => entry.id)).toEqual(['d4', 'd3', 'd2', 'd1']);
    expect(plan.remove.map((entry) => [entry.id, entry.reason])).toEqual([
      ['d8', 'expired'],
      ['d7', 'over-total-bytes'],
      ['d6', 'over-total-bytes'],
      ['d5', 'over-total-bytes'],
    ]);
  });

  test('works without any rule, counts each database by itself, and stops at the minimum', () => {
    const other = daily(2, { database: 'small' }).map((row) => ({ ...row, id: `s-${row.id}` }));
    const kept = keptIds([...daily(8), ...other], { keep: {}, maxTotalBytes: 250 });
    expect(kept.filter((id) => id.startsWith('s-'))).toHaveLength(2);
    expect(kept.filter((id) => id.startsWith('d'))).toEqual(['d3', 'd2', 'd1']);
  });

  test('a parent goes only together with the last that needs it', () => {
    const chain = [
      backup('full', '2026-11-01T00:00:00Z', { bytes: 500 }),
      backup('inc', '2026-11-10T00:00:00Z', { parents: ['full'] }),
    ];
    const backups = [...chain, ...daily(3)];
    expect(keptIds(backups, { keep: {}, minBackups: 1, maxTotalBytes: 900 })).toHaveLength(5);
    expect(keptIds(backups, { keep: {}, minBackups: 1, maxTotalBytes: 899 })).toEqual(['d3', 'd2', 'd1']);
  });
});

describe('backups of whole servers', () => {
  test('are counted apart from those of the database that they lie with', () => {
    const logical = daily(3);
    const physical = daily(3, { kind: 'physical' }).map((row) => ({ ...row, id: `f-${row.id}` }));
    const plan = planRetention([...logical, ...physical], { keep: { last: 1 }, minBackups: 1 }, now);
    expect(plan.keep.map(({ id }) => id).sort()).toEqual(['d1', 'f-d1']);
    const overHalf = databasesOverHalf(plan).map(({ kind = 'logical', removeCount }) => `${kind} ${removeCount}`);
    expect(overHalf.sort()).toEqual(['logical 2', 'physical 2']);
  });
});

describe('the breaker', () => {
  test('half of what is there may go, more than half needs force', () => {
    const policy = (last: number): RetentionPolicy => ({ keep: { last }, minBackups: 1 });
    expect(databasesOverHalf(planRetention(daily(6), policy(3), now))).toEqual([]);
    expect(databasesOverHalf(planRetention(daily(7), policy(3), now))).toMatchObject([
      { removeCount: 4, totalCount: 7 },
    ]);
    expect(databasesOverHalf(planRetention([], policy(1), now))).toEqual([]);
  });

  test('many healthy databases do not hide one that would lose most of its backups', () => {
    const healthy = daily(3, { database: 'other' }).map((row) => ({ ...row, id: `o-${row.id}` }));
    const plan = planRetention([...daily(7), ...healthy, ...healthy], { keep: { last: 3 } }, now);
    expect(databasesOverHalf(plan)).toEqual([{ source: 'main', database: 'shop', removeCount: 4, totalCount: 7 }]);
  });
});
