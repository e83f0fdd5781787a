import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { planRetention, type RetainableBackup, type RetentionPlan } from './plan.ts';
import { PERIOD_NAMES, type RetentionPolicy } from './policy.ts';

const now = new Date('2026-11-20T12:00:00Z');
const HOUR_MS = 3_600_000;

const identity = fc.constantFrom(
  { source: 'main', database: 'shop' },
  { source: 'main', database: 'shop-eu' },
  { source: 'other', database: 'shop' },
);

/** Times in steps of six hours, so that equal ones and full periods occur; a few of them ahead of now. */
const row = fc
  .record({
    identity,
    stepsAgo: fc.integer({ min: -3, max: 2_000 }),
    bytes: fc.integer({ min: 0, max: 1_000 }),
    pinned: fc.boolean(),
    parentIndexes: fc.array(fc.nat(), { maxLength: 2 }),
    proven: fc.boolean(),
    drilled: fc.boolean(),
    system: fc.constantFrom(undefined, '7200000000000000001', '7300000000000000001'),
  })
  .map((fields) => ({ ...fields, takenAt: new Date(now.getTime() - fields.stepsAgo * 6 * HOUR_MS) }));

/** Rows of unique ids; parents lie anywhere, also in other groups, ahead in time, or in circles. */
const backupsArbitrary: fc.Arbitrary<RetainableBackup[]> = fc.array(row, { maxLength: 40 }).map((rows) =>
  rows.map(({ identity: names, takenAt, bytes, pinned, parentIndexes, proven, drilled, system }, index) => ({
    ...names,
    id: `id-${(index * 7_919) % 101}`,
    takenAt,
    bytes,
    pinned: pinned && index % 5 === 0,
    parents: parentIndexes.filter((parent) => parent % 3 === 0).map((parent) => `id-${((parent % 40) * 7_919) % 101}`),
    ...(proven && index % 4 === 0 ? { provenAt: now } : {}),
    ...(drilled && index % 3 === 0 ? { drilledAt: now } : {}),
    ...(system === undefined ? {} : { systemIdentifier: system }),
  })),
);

const count = fc.option(fc.integer({ min: 0, max: 6 }), { nil: undefined });
const policyArbitrary: fc.Arbitrary<RetentionPolicy> = fc
  .record({
    last: count,
    days: count,
    periods: fc.array(count, { minLength: PERIOD_NAMES.length, maxLength: PERIOD_NAMES.length }),
    minBackups: count,
    keepProven: count,
    maxTotalBytes: fc.option(fc.integer({ min: 0, max: 6_000 }), { nil: undefined }),
  })
  .map(({ last, days, periods, minBackups, keepProven, maxTotalBytes }) => ({
    keep: {
      last: last ?? 0,
      withinMs: (days ?? 0) * 24 * HOUR_MS,
      ...Object.fromEntries(PERIOD_NAMES.map((name, index) => [name, periods[index] ?? 0])),
    },
    ...(minBackups === undefined ? {} : { minBackups }),
    ...(keepProven === undefined ? {} : { keepProven }),
    ...(maxTotalBytes === undefined ? {} : { maxTotalBytes }),
  }));
const timezone = fc.constantFrom('UTC', 'Europe/Berlin', 'Australia/Lord_Howe', 'Pacific/Apia', 'America/St_Johns');

const newestFirst = (a: RetainableBackup, b: RetainableBackup): number =>
  b.takenAt.getTime() - a.takenAt.getTime() || (a.id < b.id ? 1 : -1);

/** What is counted by itself: one server's backups of one database of one source. */
const seriesOf = (backup: RetainableBackup): string =>
  `${backup.source} ${backup.database} ${backup.systemIdentifier ?? 'unknown'}`;

/** What must hold of every plan, said without the planner’s own helpers. */
function expectSound(backups: readonly RetainableBackup[], policy: RetentionPolicy, plan: RetentionPlan): void {
  const removed = new Set(plan.remove.map((entry) => entry.id));
  const kept = new Set(plan.keep.map((entry) => entry.id));
  expect(removed.size + kept.size).toBe(backups.length);
  for (const entry of plan.keep) expect(entry.reasons).not.toEqual([]);
  const mustStay = backups.filter((backup) => backup.pinned || backup.takenAt > now).map((backup) => backup.id);
  for (const backup of backups) mustStay.push(...(kept.has(backup.id) ? backup.parents : []));
  for (const group of Map.groupBy(backups, seriesOf).values()) {
    const past = group.filter((backup) => backup.takenAt <= now).sort(newestFirst);
    const lastProven = past.filter((backup) => backup.provenAt !== undefined).slice(0, 1);
    const lastDrilled = past.filter((backup) => backup.drilledAt !== undefined).slice(0, policy.keepProven ?? 1);
    const minimum = past.slice(0, Math.max(1, policy.minBackups ?? 3));
    mustStay.push(...[...minimum, ...lastProven, ...lastDrilled].map((backup) => backup.id));
  }
  expect(mustStay.filter((id) => removed.has(id))).toEqual([]);
}

/** Some of the rows called suspicious. */
const doubtfulArbitrary = fc
  .tuple(backupsArbitrary, fc.array(fc.boolean(), { minLength: 40, maxLength: 40 }))
  .map(([backups, marks]) => backups.map((backup, index) => ({ ...backup, isSuspicious: marks[index] === true })));

describe('every plan over some that are suspicious', () => {
  test('removes nothing that would stay if these were not there, nor anything that would stay if they were not suspicious', () => {
    fc.assert(
      fc.property(doubtfulArbitrary, policyArbitrary, (backups, policy) => {
        const removed = planRetention(backups, policy, now).remove.map(({ id }) => id);
        const doubtful = new Set(backups.filter(({ isSuspicious }) => isSuspicious).map(({ id }) => id));
        for (let before = -1; before < doubtful.size; ) {
          before = doubtful.size;
          for (const { id, parents } of backups) if (parents.some((parent) => doubtful.has(parent))) doubtful.add(id);
        }
        const trusted = backups.filter(({ id }) => !doubtful.has(id));
        const stays = planRetention(trusted, policy, now).keep.map(({ id }) => id);
        const unmarked = backups.map((backup) => ({ ...backup, isSuspicious: false }));
        stays.push(...planRetention(unmarked, policy, now).keep.map(({ id }) => id));
        expect(stays.filter((id) => removed.includes(id))).toEqual([]);
        // And no more than that stays.
        expect(removed).toHaveLength(backups.length - new Set(stays).size);
      }),
      { numRuns: 500 },
    );
  });

  test('is sound, and leaves what loses nothing more when it is planned again', () => {
    fc.assert(
      fc.property(doubtfulArbitrary, policyArbitrary, (backups, policy) => {
        const plan = planRetention(backups, policy, now);
        expectSound(backups, policy, plan);
        const left = backups.filter((backup) => plan.keep.some((entry) => entry.id === backup.id));
        expect(planRetention(left, policy, now).remove).toEqual([]);
      }),
      { numRuns: 500 },
    );
  });
});

describe('every plan', () => {
  test('keeps the newest, the minimum, the last proven and drilled, pinned and needed ones, whatever the policy', () => {
    fc.assert(
      fc.property(backupsArbitrary, policyArbitrary, timezone, (backups, policy, zone) => {
        expectSound(backups, policy, planRetention(backups, policy, now, { timezone: zone }));
      }),
    );
  });

  test('leaves the newest backup of every server, by any policy and at any time', () => {
    const time = fc.integer({ min: -5_000, max: 5_000 }).map((hours) => new Date(now.getTime() + hours * HOUR_MS));
    fc.assert(
      fc.property(backupsArbitrary, policyArbitrary, time, (backups, policy, at) => {
        const removed = new Set(planRetention(backups, policy, at).remove.map((entry) => entry.id));
        const newest = [...Map.groupBy(backups, seriesOf).values()].map((each) => each.toSorted(newestFirst)[0]?.id);
        expect(newest.filter((id) => id !== undefined && removed.has(id))).toEqual([]);
      }),
    );
  });

  test('stays sound when any further backups come in', () => {
    fc.assert(
      fc.property(backupsArbitrary, backupsArbitrary, policyArbitrary, (backups, more, policy) => {
        const plan = planRetention(backups, policy, now);
        const left = backups.filter((backup) => plan.keep.some((entry) => entry.id === backup.id));
        const all = [...left, ...more.map((backup) => ({ ...backup, id: `more-${backup.id}` }))];
        expectSound(all, policy, planRetention(all, policy, now));
      }),
    );
  });

  test('leaves what, planned again at the same time, loses nothing more', () => {
    fc.assert(
      fc.property(backupsArbitrary, policyArbitrary, timezone, (backups, policy, zone) => {
        const plan = planRetention(backups, policy, now, { timezone: zone });
        const left = backups.filter((backup) => plan.keep.some((entry) => entry.id === backup.id));
        expect(planRetention(left, policy, now, { timezone: zone }).remove).toEqual([]);
      }),
      { numRuns: 500 },
    );
  });

  test('does not depend on the order of its input', () => {
    fc.assert(
      fc.property(
        backupsArbitrary.chain((backups) => fc.tuple(fc.constant(backups), shuffled(backups))),
        policyArbitrary,
        ([backups, other], policy) => {
          expect(planRetention(other, policy, now)).toEqual(planRetention(backups, policy, now));
        },
      ),
    );
  });

  test('removes dependents before what they depend on, as far as there are no circles', () => {
    fc.assert(
      fc.property(backupsArbitrary, policyArbitrary, (backups, policy) => {
        // Parents only among rows further up: no circles.
        const straight = backups.map((backup, index) => ({
          ...backup,
          parents: backup.parents.filter((id) => backups.findIndex((other) => other.id === id) < index),
        }));
        const order = planRetention(straight, policy, now).remove.map((entry) => entry.id);
        const wronglyOrdered = straight.filter(
          (backup) =>
            order.includes(backup.id) &&
            backup.parents.some((id) => order.includes(id) && order.indexOf(id) < order.indexOf(backup.id)),
        );
        expect(wronglyOrdered).toEqual([]);
      }),
    );
  });
});

function shuffled<T>(items: readonly T[]): fc.Arbitrary<T[]> {
  return fc.shuffledSubarray([...items], { minLength: items.length });
}
