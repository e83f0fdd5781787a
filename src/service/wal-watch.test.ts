import { describe, expect, test } from 'vitest';
import { status } from '../../test/support/http-receiver.ts';
import { FREE, FULL, IN_TIME, LATE, SOON_MS, WalScene } from '../../test/support/wal-scene.ts';
import { MIB } from '../common/bytes.ts';
import { PgarkError } from '../common/errors.ts';

const MINUTE_MS = 60_000;
const HELD_UP = { on: '[wal_lag, wal_slot, recovery]' };
const REFUSAL = new PgarkError('store-access-denied', 'AccessDenied (403)', { hint: 'grant s3:PutObject' });

describe('WAL that is held up', () => {
  test('is told once, not each minute, and its end when it is in time again', async () => {
    await using self = await WalScene.open(HELD_UP);
    await self.begin();
    self.covers(1_000);
    await self.clock.advance(10 * MINUTE_MS);
    const since = self.clock.now();
    self.received = { ...self.received, failingStores: new Map([['r2', { failure: REFUSAL, since }]]) };
    await self.clock.advance(4 * MINUTE_MS);
    expect(self.titles).toEqual([]);
    await self.clock.advance(3 * MINUTE_MS);
    await self.told(1);
    await self.clock.advance(60 * MINUTE_MS);
    expect(self.titles).toEqual([LATE]);
    expect(self.texts[0]).toContain(
      'r2: AccessDenied (403). All that was committed until 2026-11-20 02:00 UTC is archived',
    );
    expect(self.texts[0]).toContain('Fix: grant s3:PutObject.');
    self.received = { ...self.received, failingStores: new Map() };
    self.covers(10 * MINUTE_MS);
    await self.clock.advance(2 * MINUTE_MS);
    expect(self.titles).toEqual([LATE]);
    self.covers(1_000);
    await self.clock.advance(2 * MINUTE_MS);
    await self.told(2);
    expect(self.titles).toEqual([LATE, IN_TIME]);
  });

  test('is over also for a process that was not there when it was told', async () => {
    await using self = await WalScene.open(HELD_UP);
    await self.begin();
    await self.clock.advance(17 * MINUTE_MS);
    await self.told(1);
    self.covers(1_000);
    await self.begin();
    await self.clock.advance(2 * MINUTE_MS);
    await self.told(2);
    expect(self.titles).toEqual([LATE, IN_TIME]);
  });

  test('is late at once after a reload that has changed nothing for it', async () => {
    await using self = await WalScene.open(HELD_UP);
    await self.begin(new Date('2026-11-20T01:30:00Z'));
    await self.clock.advance(MINUTE_MS);
    await self.told(1);
    expect(self.titles).toEqual([LATE]);
  });

  test('is told a little later to those who could not be reached', async () => {
    await using self = await WalScene.open({ ...HELD_UP, answers: [status(500), status(200)] });
    await self.begin();
    await self.clock.advance(17 * MINUTE_MS);
    await self.told(1);
    await self.clock.advance(10 * MINUTE_MS);
    expect(self.titles).toEqual([LATE]);
    await self.clock.advance(5 * MINUTE_MS);
    await self.told(2);
    await self.clock.advance(16 * MINUTE_MS);
    expect(self.titles).toEqual([LATE, LATE]);
  });

  test('is told with the reason where no receiver can begin', async () => {
    await using self = await WalScene.open(HELD_UP);
    self.sealerFailure = new PgarkError('key-missing', 'there is no such key', { hint: 'say which one' });
    await self.begin();
    await self.clock.advance(17 * MINUTE_MS);
    await self.told(1);
    expect(self.texts[0]).toContain('no WAL is known to be archived: there is no such key. Fix: say which one.');
    self.sealerFailure = undefined;
    self.covers(1_000);
    await self.clock.advance(3 * MINUTE_MS);
    await self.told(2);
    expect(self.titles).toEqual([LATE, IN_TIME]);
  });

  test('counts from what the archive says, not from the start of a process that knows nothing yet', async () => {
    await using self = await WalScene.open(HELD_UP);
    await self.archives(1);
    await self.clock.advance(60 * MINUTE_MS);
    await self.begin();
    expect(self.states()).toMatchObject([{ lagMs: 60 * MINUTE_MS + SOON_MS }]);
    await self.clock.advance(6 * MINUTE_MS);
    await self.told(1);
    expect(self.titles).toEqual([LATE]);
  });

  test('is not over because a base backup was copied there, or segments came that no receiver has noted', async () => {
    await using self = await WalScene.open(HELD_UP);
    await self.archives(9);
    await self.removes(3);
    await self.notes();
    await self.begin();
    self.covers(0);
    await self.clock.advance(20 * MINUTE_MS);
    await self.told(1);
    await self.copies(3);
    await self.clock.advance(31 * MINUTE_MS);
    expect(self.states()).toMatchObject([{ lagMs: 51 * MINUTE_MS, isGuess: false }]);
    await self.archives(1);
    await self.clock.advance(31 * MINUTE_MS);
    expect(self.states()).toMatchObject([{ lagMs: 82 * MINUTE_MS, isGuess: false }]);
    expect(self.titles).toEqual([LATE]);
  });

  test('wants no base backup because an older one was copied before what is archived', async () => {
    await using self = await WalScene.open(HELD_UP);
    await self.archives(9);
    for (const number of [1, 2, 3, 4]) await self.removes(number);
    await self.notes();
    await self.begin();
    await self.copies(3);
    for (let count = 0; count < 12; count += 1) {
      self.covers(0);
      await self.notes();
      await self.clock.advance(5 * MINUTE_MS);
    }
    expect(self.wanted).toBe(0);
    expect(self.states()).toMatchObject([{ gaps: 0, baseWantedFrom: undefined }]);
  });

  test('that another process receives is in time, as the archive says, and one of another server is not', async () => {
    await using self = await WalScene.open(HELD_UP);
    await self.archives(1);
    await self.notes();
    self.received = { phase: 'waiting', failure: new PgarkError('postgres-failed', 'the slot is in use') };
    await self.begin();
    for (let count = 0; count < 12; count += 1) {
      await self.notes();
      await self.clock.advance(4 * MINUTE_MS);
    }
    expect(self.titles).toEqual([]);
    self.received = { ...self.received, systemIdentifier: '7380000000000000002' };
    await self.clock.advance(2 * MINUTE_MS);
    await self.told(1);
    expect(self.titles).toEqual([LATE]);
  });

  test('in a storage that the others went on without is late there, since they did', async () => {
    await using self = await WalScene.open(HELD_UP);
    await self.begin();
    self.covers(1_000);
    const { coveredUntil } = self.received;
    const since = self.clock.now();
    const left = { failure: REFUSAL, since, left: { coveredUntil } };
    self.received = { ...self.received, failingStores: new Map([['r2', left]]) };
    await self.clock.advance(10 * MINUTE_MS);
    self.covers(1_000);
    expect(self.states()).toMatchObject([
      { lagMs: 1_000, storages: [{ storage: 'r2', lagMs: 10 * MINUTE_MS + 1_000 }] },
    ]);
    await self.clock.advance(4 * MINUTE_MS);
    self.covers(1_000);
    await self.clock.advance(3 * MINUTE_MS);
    await self.told(1);
    expect(self.texts[0]).toContain('r2: it has refused WAL, or lacked some, since 2026-11-20T02:00:25Z');
  });

  test('makes the slot fill, which is told once, and again where it cannot be dropped', async () => {
    await using self = await WalScene.open(HELD_UP);
    const slot = { restartLsn: 0n, state: 'extended', isActive: true, retainedBytes: 48 * MIB } as const;
    const retains = (mib: number): void => {
      self.covers(1_000);
      self.received = { ...self.received, slot: { ...slot, retainedBytes: mib * MIB, safeBytes: (64 - mib) * MIB } };
    };
    await self.begin();
    retains(48);
    await self.clock.advance(4 * MINUTE_MS);
    expect(self.titles).toEqual([]);
    for (const mib of [48, 50, 52]) {
      retains(mib);
      await self.clock.advance(3 * MINUTE_MS);
    }
    await self.told(1);
    expect(self.titles).toEqual([FULL]);
    self.received = { ...self.received, slotKept: new PgarkError('wal-slot-kept', 'it could not be dropped') };
    await self.clock.advance(3 * MINUTE_MS);
    await self.told(2);
    expect(self.texts[1]).toContain('it could not be dropped');
    expect(self.texts[1]).toContain('pg_drop_replication_slot');
    self.received = { ...self.received, slotKept: undefined };
    retains(45);
    await self.clock.advance(2 * MINUTE_MS);
    expect(self.titles).toEqual([FULL, FULL]);
    retains(1);
    await self.clock.advance(2 * MINUTE_MS);
    await self.told(3);
    expect(self.titles).toEqual([FULL, FULL, FREE]);
  });
});

test('a base backup is wanted where WAL is lost behind another one, by who receives and by who looks', async () => {
  await using self = await WalScene.open();
  await self.archives(2);
  await self.begin();
  self.loses(2);
  await self.archives(2);
  await self.clock.advance(SOON_MS);
  const wanted = async () => [self.states()[0]?.baseWantedFrom, (await self.looked()).baseWantedFrom];
  // Nothing could be recovered before either.
  expect(await wanted()).toEqual([undefined, undefined]);
  await self.base();
  await self.clock.advance(SOON_MS);
  self.loses(2);
  await self.archives(2);
  await self.clock.advance(SOON_MS);
  expect(await wanted()).toEqual(['0/900000', '0/900000']);
  await self.base();
  await self.clock.advance(SOON_MS);
  expect(await wanted()).toEqual([undefined, undefined]);
});

test('a reload forgets nothing of what is archived before the archive was looked through again', async () => {
  await using self = await WalScene.open(HELD_UP);
  await self.archives(2);
  await self.base();
  self.loses(2);
  await self.archives(2);
  await self.base();
  await self.begin();
  for (let count = 0; count < 5; count += 1) {
    self.covers(1_000);
    await self.clock.advance(4 * MINUTE_MS);
  }
  self.covers(1_000);
  const [before] = self.states();
  self.archive.isUnread = true;
  await self.reload();
  const [after] = self.states();
  const { watchedSince, earliest, storedBytes } = before ?? {};
  expect(earliest).toBeDefined();
  expect(after).toMatchObject({ watchedSince, earliest, storedBytes, gaps: 1, lagMs: 1_000 + SOON_MS });
  await self.clock.advance(10 * MINUTE_MS);
  expect(self.titles).toEqual([]);
  await self.clock.advance(10 * MINUTE_MS);
  await self.told(1);
  expect(self.titles).toEqual([LATE]);
  self.received = { systemIdentifier: '7380000000000000002' };
  expect(self.states()[0]?.lagMs).toBeUndefined();
});

test('gaps are not counted before the archive was looked through: old ones are no new ones after a restart', async () => {
  await using self = await WalScene.open();
  await self.archives(2);
  await self.base();
  self.loses(2);
  await self.archives(2);
  self.archive.isUnread = true;
  await self.begin();
  expect(self.states()[0]?.gaps).toBeUndefined();
  self.received = { gaps: 1 };
  expect(self.states()[0]?.gaps).toBe(1);
  self.received = {};
  self.archive.isUnread = false;
  await self.clock.advance(SOON_MS);
  expect(self.states()[0]?.gaps).toBe(1);
});

test('an archive in which nobody here makes the base backup behind a gap is not looked through again and again', async () => {
  await using self = await WalScene.open();
  self.makesBases = false;
  await self.archives(2);
  await self.base();
  await self.begin();
  self.loses(2);
  await self.archives(2);
  const before = self.archive.looks;
  await self.clock.advance(SOON_MS);
  expect(self.wanted).toBeGreaterThan(0);
  await self.clock.advance(60 * MINUTE_MS);
  expect(self.archive.looks - before).toBeGreaterThan(10);
  expect(self.archive.looks - before).toBeLessThan(20);
  // Another one is news.
  self.loses(2);
  await self.archives(2);
  const again = self.wanted;
  await self.clock.advance(SOON_MS);
  expect(self.wanted).toBeGreaterThan(again);
});

test('an archive whose base backup behind a gap is made here and keeps failing is looked through less and less often', async () => {
  await using self = await WalScene.open();
  await self.archives(2);
  await self.base();
  await self.begin();
  self.loses(2);
  await self.archives(2);
  await self.clock.advance(SOON_MS);
  const before = self.archive.looks;
  await self.clock.advance(2 * MINUTE_MS);
  const soon = self.archive.looks - before;
  expect(soon).toBeGreaterThan(1);
  await self.clock.advance(58 * MINUTE_MS);
  expect(self.archive.looks - before).toBeGreaterThan(10);
  expect(self.archive.looks - before).toBeLessThan(25);
  expect(self.wanted).toBeGreaterThan(10);
  // The one that is made at last is found within five minutes, and another gap is news.
  await self.base();
  await self.clock.advance(5 * MINUTE_MS);
  expect(self.states()[0]?.baseWantedFrom).toBeUndefined();
  self.loses(2);
  await self.archives(2);
  const again = self.wanted;
  await self.clock.advance(SOON_MS);
  expect(self.wanted).toBeGreaterThan(again);
});
