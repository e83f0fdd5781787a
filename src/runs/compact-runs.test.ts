import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { FaultyStore } from '../../test/support/faulty-store.ts';
import { MemoryStore } from '../../test/support/memory-store.ts';
import { at, HistoryPlace, HOUR_MS } from '../../test/support/protection.ts';
import { silentLogger } from '../common/log.ts';
import { systemRandom } from '../common/random.ts';
import { makeRunId } from '../repository/ids.ts';
import { keys, monthOf, parseRunKey } from '../repository/keys.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { compactRuns } from './compact-runs.ts';
import { encodeCompactedRuns } from './compacted-runs.ts';
import { findRunRecord } from './find-runs.ts';
import { listRunRecords } from './list-run-records.ts';
import { newestRuns } from './newest-runs.ts';
import type { RunRecord } from './run-record.ts';

const NOW = at('2026-12-15T12:00:00Z');
const EVER = at('2020-01-01T00:00:00Z');
const DAY_MS = 86_400_000;
const options = { now: NOW, random: systemRandom, logger: silentLogger };
/** When what was compacted has replaced what it was made of. */
const later = { ...options, now: new Date(NOW.getTime() + 2 * HOUR_MS) };

function runKeys(store: MemoryStore): string[] {
  return [...store.objects.keys()].filter((key) => key.startsWith(keys.runsPrefix)).sort();
}

/** What a reader makes of it: ids and states, those that are running and dead alike. */
async function seen(store: ObjectStore): Promise<string[]> {
  const records = await listRunRecords(store, { since: EVER });
  return records.map(({ id, state }) => `${id} ${state === 'running' ? 'interrupted' : state}`);
}

function daysAgo(days: number): Date {
  return new Date(NOW.getTime() - days * DAY_MS);
}

async function placeWithRuns(days: readonly number[], state: RunRecord['state'] = 'succeeded') {
  const place = new HistoryPlace(NOW);
  const records: RunRecord[] = [];
  for (const day of days) {
    const start = daysAgo(day);
    const endedAt = state === 'running' ? undefined : new Date(start.getTime() + 60_000);
    records.push(await place.run(state, start, endedAt));
  }
  return { place, records };
}

describe('compaction of run records', () => {
  test('puts what is days old into one object for each month, and leaves what is recent', async () => {
    const { place } = await placeWithRuns([60, 59, 58, 20, 5, 2, 1]);
    const before = await seen(place.store);
    const report = await compactRuns(place.store, options);
    expect(report).toEqual({ compacted: 5, dropped: 0, logsDeleted: 0 });
    // Whoever is listing just now finds what it was shown.
    expect(runKeys(place.store)).toHaveLength(10);
    expect(await seen(place.store)).toEqual(before);
    expect(await compactRuns(place.store, later)).toEqual({ compacted: 0, dropped: 0, logsDeleted: 0 });
    const left = runKeys(place.store).map((key) => `${parseRunKey(key)?.month} ${parseRunKey(key)?.kind}`);
    expect(left).toEqual([
      '2026-10 compacted',
      '2026-11 compacted',
      '2026-12 single',
      '2026-12 single',
      '2026-12 compacted',
    ]);
    expect(await seen(place.store)).toEqual(before);
  });

  test('adds to a month that was compacted before, which stays one object', async () => {
    const { place } = await placeWithRuns([60, 59]);
    await compactRuns(place.store, options);
    await place.run('failed', daysAgo(58), daysAgo(58));
    const before = await seen(place.store);
    await compactRuns(place.store, options);
    expect(await seen(place.store)).toEqual(before);
    await compactRuns(place.store, later);
    expect(runKeys(place.store)).toHaveLength(1);
    expect(await seen(place.store)).toEqual(before);
  });

  test('does nothing where there is nothing to do, and asks little', async () => {
    const { place } = await placeWithRuns([90, 60, 30, 5, 1]);
    await compactRuns(place.store, options);
    await compactRuns(place.store, later);
    const store = new FaultyStore(place.store);
    expect(await compactRuns(store, later)).toEqual({ compacted: 0, dropped: 0, logsDeleted: 0 });
    expect(store.calls).toBe(2);
  });

  test('marks a dead run as interrupted, and leaves one that goes on', async () => {
    const { place, records } = await placeWithRuns([10, 9], 'running');
    const [dead, alive] = records;
    const lease = await place.leasesOf(alive?.id ?? '').acquire('shop/shop');
    await compactRuns(place.store, options);
    expect(await findRunRecord(place.store, dead?.id ?? '')).toMatchObject({ state: 'interrupted' });
    expect(await findRunRecord(place.store, alive?.id ?? '')).toEqual(alive);
    expect(runKeys(place.store)).toContain(keys.run(daysAgo(9), alive?.id ?? makeRunId(NOW, systemRandom)));
    await lease.release();
  });

  test('believes a run that was taken for dead and ended after all', async () => {
    const { place, records } = await placeWithRuns([10], 'running');
    await compactRuns(place.store, options);
    const ended = records.map((record) => ({ ...record, state: 'succeeded' as const, endedAt: NOW.toISOString() }));
    for (const record of ended) await place.write(record);
    expect(await listRunRecords(place.store, { since: EVER })).toEqual(ended);
    await compactRuns(place.store, later);
    expect(await listRunRecords(place.store, { since: EVER })).toEqual(ended);
    await compactRuns(place.store, { ...options, now: new Date(later.now.getTime() + 2 * HOUR_MS) });
    expect(await listRunRecords(place.store, { since: EVER })).toEqual(ended);
    expect(runKeys(place.store)).toHaveLength(1);
  });

  test('keeps the newest of a day, and what failed before what succeeded', async () => {
    const place = new HistoryPlace(NOW);
    const start = at('2026-11-10T00:00:00Z').getTime();
    const many: RunRecord[] = [];
    const template = await place.run('failed', new Date(start), new Date(start));
    for (let n = 1; n < 2_600; n += 1) {
      const startedAt = new Date(start + n * 1_000);
      many.push({
        ...template,
        id: makeRunId(startedAt, systemRandom),
        state: 'succeeded',
        startedAt: startedAt.toISOString(),
      });
    }
    const bytes = await encodeCompactedRuns('2026-11', { sources: [], runs: many });
    await place.store.putSmall(keys.compactedRuns('2026-11', makeRunId(daysAgo(1), systemRandom)), bytes);
    expect(await compactRuns(place.store, options)).toMatchObject({ compacted: 1, dropped: 599 });
    await compactRuns(place.store, later);
    const kept = await listRunRecords(place.store, { since: EVER });
    expect(kept).toHaveLength(2_001);
    expect(kept[0]).toEqual(template);
    expect(kept.slice(1)).toEqual(many.slice(-2_000));
  });

  test('passes on what a later version added, and leaves alone what it does not understand', async () => {
    const { place, records } = await placeWithRuns([40]);
    const [record] = records;
    if (record === undefined) throw new Error('no record');
    await place.write(Object.assign({ phases: [{ name: 'dump', ms: 5 }] }, record));
    const strange = keys.run(daysAgo(41), makeRunId(daysAgo(41), systemRandom));
    await place.store.putSmall(strange, Buffer.from('{"layout": 1, "kind": "teleport"}'));
    const ofNewer = keys.compactedRuns(monthOf(daysAgo(40)), makeRunId(daysAgo(2), systemRandom));
    const bytes = await encodeCompactedRuns(monthOf(daysAgo(40)), {
      sources: [],
      runs: [{ ...record, kind: 'teleport' as 'backup' }],
    });
    await place.store.putSmall(ofNewer, bytes);
    await compactRuns(place.store, options);
    await compactRuns(place.store, later);
    expect(runKeys(place.store)).toHaveLength(3);
    expect(runKeys(place.store)).toEqual(expect.arrayContaining([strange, ofNewer]));
    expect(await listRunRecords(place.store, { since: EVER })).toEqual([
      { ...record, phases: [{ name: 'dump', ms: 5 }] },
    ]);
  });

  test('deletes logs of a month ago and keeps those since', async () => {
    const place = new HistoryPlace(NOW);
    const ofDays = [60, 31, 29, 1].map((days) => keys.runLog(daysAgo(days), makeRunId(daysAgo(days), systemRandom)));
    for (const key of ofDays) await place.store.putSmall(key, Buffer.from('{}\n'));
    expect(await compactRuns(place.store, options)).toMatchObject({ logsDeleted: 2 });
    expect([...place.store.objects.keys()]).toEqual(ofDays.slice(2));
  });

  test('deletes nothing that it cannot read back', async () => {
    const { place } = await placeWithRuns([60, 59]);
    const before = runKeys(place.store);
    const put = place.store.putSmall.bind(place.store);
    place.store.putSmall = (key, body, given) => put(key, body.slice(0, -1), given);
    await expect(compactRuns(place.store, options)).rejects.toMatchObject({ code: 'store-integrity' });
    place.store.putSmall = put;
    await compactRuns(place.store, later);
    expect(runKeys(place.store)).toEqual(expect.arrayContaining(before));
  });
});

/** The day and the end of each run of a history. */
const historyOf = fc.array(
  fc.record({
    daysAgo: fc.integer({ min: 0, max: 70 }),
    state: fc.constantFrom<RunRecord['state']>('succeeded', 'failed', 'interrupted', 'running'),
  }),
  { minLength: 1, maxLength: 30 },
);

/** What happens one after the other: some that compact side by side, each cut off after so many calls to the store. */
const events = fc.array(
  fc.record({
    cutAfter: fc.array(fc.integer({ min: 0, max: 60 }), { minLength: 1, maxLength: 3 }),
    answerLost: fc.boolean(),
    minutesLater: fc.constantFrom(0, 20, 70, 2_000),
    newRunDaysAgo: fc.option(fc.integer({ min: 0, max: 70 }), { nil: undefined }),
    oneByOne: fc.boolean(),
    turns: fc.infiniteStream(fc.integer({ min: 0, max: 6 })),
  }),
  { minLength: 1, maxLength: 6 },
);

/** A client of the store that dies at one of its calls, before or after it has taken effect, and takes its time for each. */
function mortal(store: ObjectStore, cutAfter: number, answerLost: boolean, turns: Iterator<number>): ObjectStore {
  const dies = ({ number }: { readonly number: number }): void => {
    if (number > cutAfter) throw new Error('killed');
  };
  const wait = async (): Promise<void> => {
    for (let left = turns.next().value ?? 0; left > 0; left -= 1) await Promise.resolve();
  };
  return new FaultyStore(store, {
    before: async (call) => {
      await wait();
      if (!answerLost) dies(call);
    },
    after: (call) => {
      if (answerLost) dies(call);
    },
  });
}

function* slowly(turns: Iterator<number>): Generator<number> {
  for (;;) yield 40 * (turns.next().value ?? 0);
}

describe('wherever those that compact are cut off, and however many do at once', () => {
  test('a listing gives the same runs, before, meanwhile and after', async () => {
    await fc.assert(
      fc.asyncProperty(historyOf, events, fc.boolean(), async (history, happening, conditionalWrites) => {
        let now = NOW;
        const store = new MemoryStore({ clock: { now: () => now }, conditionalWrites });
        const place = new HistoryPlace(NOW);
        Object.assign(place, { store });
        const write = async (days: number, state: RunRecord['state']): Promise<void> => {
          await place.run(state, daysAgo(days), state === 'running' ? undefined : daysAgo(days));
        };
        for (const { daysAgo: days, state } of history) await write(days, state);
        for (const { cutAfter, answerLost, minutesLater, newRunDaysAgo, oneByOne, turns } of happening) {
          now = new Date(now.getTime() + minutesLater * 60_000);
          const meanwhile = { ...options, now };
          const before = await seen(store);
          const iterator = turns[Symbol.iterator]();
          const reader = seen(mortal(store, Number.POSITIVE_INFINITY, false, slowly(iterator)));
          const compactions: Promise<unknown>[] = [];
          for (const calls of cutAfter) {
            const compaction = compactRuns(mortal(store, calls, answerLost, iterator), meanwhile);
            compactions.push(compaction.catch((error: unknown) => expect(error).toMatchObject({ message: 'killed' })));
            if (oneByOne) await compactions.at(-1);
          }
          await Promise.all(compactions);
          expect(await reader).toEqual(before);
          expect(await seen(store)).toEqual(before);
          if (newRunDaysAgo !== undefined) await write(newRunDaysAgo, 'failed');
        }
        const before = await seen(store);
        // Once all are old enough and nobody is cut off any more, there is one object for each month and nothing else.
        for (const laterMs of [20 * DAY_MS, 2 * HOUR_MS, 2 * HOUR_MS]) {
          now = new Date(now.getTime() + laterMs);
          await compactRuns(store, { ...options, now });
          expect(await seen(store)).toEqual(before);
        }
        expect(await seen(store)).toEqual(before);
        const left = runKeys(store).map((key) => parseRunKey(key));
        expect(left.every((key) => key?.kind === 'compacted')).toBe(true);
        expect(new Set(left.map((key) => key?.month)).size).toBe(left.length);
      }),
      { numRuns: 200 },
    );
  });

  test('a reader that was shown what is compacted meanwhile finds it', async () => {
    const { place } = await placeWithRuns([60, 20, 5, 4]);
    const before = await seen(place.store);
    const slow = new FaultyStore(place.store, {
      before: async ({ method }) => {
        if (method !== 'get') return;
        slow.faults = {};
        await compactRuns(place.store, options);
        await compactRuns(place.store, { ...options, now: new Date(NOW.getTime() + HOUR_MS / 2) });
      },
    });
    expect(await seen(slow)).toEqual(before);
  });

  test('whoever stops after the newest runs has read little', async () => {
    const { place } = await placeWithRuns(Array.from({ length: 60 }, (_, index) => 60 - index));
    await compactRuns(place.store, options);
    await compactRuns(place.store, later);
    const store = new FaultyStore(place.store);
    const found: string[] = [];
    for await (const { startedAt } of newestRuns(store, { since: EVER })) {
      found.push(startedAt);
      if (found.length === 10) break;
    }
    expect(found).toEqual(Array.from({ length: 10 }, (_, index) => daysAgo(index + 1).toISOString()));
    expect(store.calls).toBeLessThan(10);
  });
});
