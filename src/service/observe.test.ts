import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { status } from '../../test/support/http-receiver.ts';
import { ManualClock } from '../../test/support/manual-clock.ts';
import { MemoryStore } from '../../test/support/memory-store.ts';
import { HistoryPlace } from '../../test/support/protection.ts';
import { TellingPlace } from '../../test/support/telling.ts';
import { type Clock, systemClock } from '../common/clock.ts';
import { PgarkError } from '../common/errors.ts';
import { isOverdue } from '../observability/protection-state.ts';
import { keys } from '../repository/keys.ts';
import type { ObjectInfo } from '../storage/object-store.ts';
import { type Observation, startObserving } from './observe.ts';

const MINUTE_MS = 60_000;
const start = new Date('2026-11-20T12:00:00Z');
const lastNight = new Date('2026-11-20T02:00:00Z');
let place: TellingPlace | undefined;
let watched: Observation | undefined;

afterEach(async () => {
  await watched?.close();
  await place?.[Symbol.asyncDispose]();
});

/** A source with two storages whose time is the test's; its server refuses connections. Begins to watch. */
async function watch(
  options: {
    readonly stores?: Readonly<Record<string, MemoryStore>>;
    readonly prepare?: (r2: HistoryPlace, nas: HistoryPlace) => Promise<unknown>;
    readonly answers?: Parameters<typeof TellingPlace.open>[0];
    /** Of what is told. Default: the test's; then its time must not pass while a message is on its way. */
    readonly tellingClock?: Clock;
  } = {},
) {
  const self = await TellingPlace.open({ on: '[overdue, recovery]', ...options.answers });
  place = self;
  const r2 = new HistoryPlace(start);
  const nas = new HistoryPlace(start);
  await options.prepare?.(r2, nas);
  const stores = { r2: r2.store, nas: nas.store, ...options.stores };
  for (const [name, store] of Object.entries(stores)) self.stores.set(name, store);
  const clock = new ManualClock(start);
  const teller = self.teller({ clock: options.tellingClock ?? clock });
  const observed = startObserving({ ...self.world({ clock }), config: self.config, teller });
  watched = observed;
  const state = () => observed.state();
  const overdue = (): readonly string[] =>
    (state()?.backups ?? []).filter((backup) => isOverdue(backup, clock.now())).map(({ storage }) => storage);
  return { self, observed, clock, r2, nas, state, overdue };
}

/** What needs no time of the clock's goes on until something holds: real connections take their moment. */
async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((resolve) => setTimeout(resolve, 5));
}

/** Messages whose arrival is known of. */
function delivered(self: TellingPlace): number {
  return self.lines.filter((line) => line.includes('"notification.delivered"')).length;
}

/** Hangs until it is told to end. */
class HangingStore extends MemoryStore {
  // oxlint-disable-next-line require-yield
  override async *list(_prefix: string, options: { signal?: AbortSignal } = {}): AsyncIterable<ObjectInfo> {
    await new Promise((_, reject) => {
      options.signal?.addEventListener('abort', () => reject(options.signal?.reason as Error));
    });
  }
}

describe('the watch over backups', () => {
  test('knows nothing until each storage was tried, and then what lies in them', async () => {
    const { state } = await watch({ prepare: (r2) => r2.backup(lastNight) });
    expect(state()).toBeUndefined();
    await until(() => state() !== undefined);
    expect(state()?.storages).toMatchObject([
      { storage: 'r2', readAt: start },
      { storage: 'nas', readAt: start },
    ]);
    const shop = state()?.backups.filter(({ source }) => source === 'shop');
    expect(shop).toMatchObject([
      { storage: 'r2', backupCount: 1 },
      { storage: 'nas', backupCount: 0 },
    ]);
  });

  test('does not wait for a storage that hangs for longer than a minute, and ends although it hangs', async () => {
    const { state, clock, observed } = await watch({ stores: { nas: new HangingStore() } });
    await clock.advance(59_000);
    expect(state()).toBeUndefined();
    await clock.advance(2_000);
    expect(state()?.storages.map(({ readAt }) => readAt !== undefined)).toEqual([true, false]);
    await observed.close();
  });

  test('reads again each minute, and at once when a run has ended', async () => {
    const { state, clock, observed, r2 } = await watch();
    await until(() => state() !== undefined);
    const count = (): number | undefined => state()?.backups.find(({ storage }) => storage === 'r2')?.backupCount;
    await r2.backup(new Date('2026-11-20T12:00:00Z'));
    observed.refresh();
    await until(() => count() === 1);
    expect(clock.now()).toEqual(start);
    await r2.backup(new Date('2026-11-20T12:00:30Z'));
    await clock.advance(2 * MINUTE_MS);
    await until(() => count() === 2);
  });

  test('knows at once what a run of its own has proven, and what others have within a quarter of an hour', async () => {
    const { state, clock, observed, r2 } = await watch();
    const backup = await r2.backup(lastNight);
    const damage = () => state()?.backups.find(({ storage }) => storage === 'r2')?.disproof?.at;
    observed.refresh();
    await until(() => state()?.backups.some(({ backupCount }) => backupCount === 1) === true);
    await r2.prove(backup, 'verify', new Date('2026-11-20T05:00:00Z'), { passed: false });
    observed.refresh({ hasProven: true });
    await until(() => damage() !== undefined);
    expect(clock.now()).toEqual(start);
    await r2.prove(backup, 'verify', new Date('2026-11-20T12:00:30Z'), { passed: true });
    await clock.advance(16 * MINUTE_MS);
    await until(() => damage() === undefined);
  });

  test('holds nothing of what it has done when runs end again and again', async () => {
    setFlagsFromString('--expose-gc');
    const collect = runInNewContext('gc') as () => void;
    const made: WeakRef<AbortSignal>[] = [];
    const any = AbortSignal.any.bind(AbortSignal);
    vi.spyOn(AbortSignal, 'any').mockImplementation((signals) => {
      const signal = any(signals);
      made.push(new WeakRef(signal));
      return signal;
    });
    const { state, observed } = await watch();
    await until(() => state() !== undefined);
    for (let round = 0; round < 100; round += 1) {
      const before = made.length;
      observed.refresh();
      await until(() => made.length >= before + 4);
    }
    vi.restoreAllMocks();
    // What waits on a signal lets go of it a moment later.
    for (let round = 0; round < 5; round += 1) {
      await new Promise((resolve) => setTimeout(resolve, 10));
      collect();
    }
    expect(made.length).toBeGreaterThan(400);
    expect(made.filter((signal) => signal.deref() !== undefined).length).toBeLessThan(20);
  });

  test('keeps what it knew of a storage that is away', async () => {
    const { state, clock, self } = await watch({ prepare: (r2) => r2.backup(lastNight) });
    await until(() => state() !== undefined);
    self.stores.delete('r2');
    await clock.advance(3 * MINUTE_MS);
    expect(self.lines.filter((line) => line.includes('observe.storage_unread')).length).toBeGreaterThan(0);
    expect(state()?.storages[0]).toEqual({ storage: 'r2', readAt: start, damagedManifests: 0 });
    expect(state()?.backups.find(({ storage }) => storage === 'r2')?.backupCount).toBe(1);
  });

  test('tells of a backup that nobody makes, once, and not before it is due', { timeout: 300_000 }, async () => {
    const { clock, self, overdue, r2, nas, observed } = await watch({
      prepare: async (one, other) => Promise.all([one.backup(lastNight), other.backup(lastNight)]),
    });
    await clock.advance(14 * 60 * MINUTE_MS + 19 * MINUTE_MS);
    expect(clock.now()).toEqual(new Date('2026-11-21T02:19:00Z'));
    expect(overdue()).toEqual([]);
    expect(self.texts).toEqual([]);
    await clock.advance(3 * MINUTE_MS);
    expect(overdue()).toEqual(['r2', 'nas']);
    await until(() => self.texts.length === 2);
    expect(self.texts[0]).toContain('shop');
    expect(self.texts[0]).toContain('overdue');
    // A day of it makes no further message, but for the reminders that nobody asked for.
    for (let quarter = 0; quarter < 6; quarter += 1) {
      await clock.advance(16 * MINUTE_MS);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    expect(self.texts).toHaveLength(2);
    const startedAt = new Date(clock.now().getTime() - 10 * MINUTE_MS);
    await Promise.all([r2.backup(startedAt), nas.backup(startedAt)]);
    observed.refresh();
    await until(() => overdue().length === 0);
  });

  test('tells of the end where no run does, and of the next time', { timeout: 300_000 }, async () => {
    const { clock, self, overdue, r2, nas, observed } = await watch({
      prepare: async (one, other) => Promise.all([one.backup(lastNight), other.backup(lastNight)]),
      tellingClock: systemClock,
    });
    for (const round of [0, 1]) {
      while (overdue().length < 2) await clock.advance(15 * MINUTE_MS);
      await clock.advance(2 * MINUTE_MS);
      await until(() => delivered(self) === 4 * round + 2);
      for (const text of self.texts.slice(-2)) expect(text).toContain('shop: backup overdue');
      const startedAt = new Date(clock.now().getTime() - 10 * MINUTE_MS);
      await Promise.all([r2.backup(startedAt), nas.backup(startedAt)]);
      observed.refresh();
      await until(() => overdue().length === 0);
      await clock.advance(18 * MINUTE_MS);
      await until(() => delivered(self) === 4 * round + 4);
      for (const text of self.texts.slice(-2)) expect(text).toContain('shop: backup is up to date again');
    }
  });

  test('tells of no end that a run has told, and keeps nothing where nothing is wrong', {
    timeout: 300_000,
  }, async () => {
    const { clock, self, overdue, r2, nas, observed } = await watch({
      prepare: async (one, other) => Promise.all([one.backup(lastNight), other.backup(lastNight)]),
      tellingClock: systemClock,
    });
    const reads = vi.spyOn(r2.store, 'get');
    const asked = (): number => reads.mock.calls.filter(([key]) => key === keys.notifications).length;
    await clock.advance(60 * MINUTE_MS);
    expect(asked()).toBeGreaterThan(0);
    expect([self.texts, self.kept('r2'), self.kept('nas')]).toEqual([[], undefined, undefined]);
    while (overdue().length < 2) await clock.advance(15 * MINUTE_MS);
    await clock.advance(2 * MINUTE_MS);
    await until(() => delivered(self) === 2);
    const startedAt = new Date(clock.now().getTime() - 10 * MINUTE_MS);
    await Promise.all([r2.backup(startedAt), nas.backup(startedAt)]);
    observed.refresh();
    await until(() => overdue().length === 0);
    // The run goes on for a while: it prunes, and stores other databases.
    await clock.advance(5 * MINUTE_MS);
    const run = { source: 'shop', database: 'shop', job: 'nightly', startedAt, endedAt: clock.now() };
    await self.teller().backups(self.config, [
      { ...run, storage: 'r2' },
      { ...run, storage: 'nas' },
    ]);
    expect(self.texts).toHaveLength(3);
    expect(self.texts[2]).toContain('shop: backup is up to date again');
    const revision = self.kept('r2')?.['revision'];
    const before = asked();
    for (let quarter = 0; quarter < 6; quarter += 1) {
      await clock.advance(16 * MINUTE_MS);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    expect(asked()).toBeGreaterThan(before);
    expect(self.texts).toHaveLength(3);
    expect(self.kept('r2')).toMatchObject({ revision, problems: [] });
  });

  test('counts messages that could not be delivered, and hands them on again', { timeout: 300_000 }, async () => {
    const { clock, self, state } = await watch({
      prepare: (r2) => r2.backup(new Date('2026-11-18T02:00:00Z')),
      answers: { answers: [status(500), status(200)] },
    });
    await until(() => state() !== undefined);
    await clock.advance(2 * MINUTE_MS);
    await until(() => state()?.notificationFailures === 1);
    await clock.advance(16 * MINUTE_MS);
    await until(() => self.texts.length === 2);
    expect(state()?.notificationFailures).toBe(1);
  });

  test('tries servers and storages, and says once what does not answer', async () => {
    const { clock, self, state } = await watch({
      stores: {
        nas: new (class extends MemoryStore {
          // oxlint-disable-next-line require-yield
          override async *list(): AsyncIterable<ObjectInfo> {
            throw new PgarkError('store-access-denied', 'AccessDenied');
          }
        })(),
      },
    });
    await until(() => (state()?.probes ?? []).length === 4);
    expect(state()?.probes).toMatchObject([
      { kind: 'database', name: 'shop', at: start, failure: expect.stringContaining('ECONNREFUSED') },
      { kind: 'database', name: 'quiet', failure: expect.stringContaining('ECONNREFUSED') },
      { kind: 'storage', name: 'r2' },
      { kind: 'storage', name: 'nas', failure: 'AccessDenied' },
    ]);
    await clock.advance(6 * MINUTE_MS);
    await until(() => (state()?.probes[0]?.at ?? start) > start);
    expect(self.lines.filter((line) => line.includes('"probe.failed"'))).toHaveLength(3);
  });
});
