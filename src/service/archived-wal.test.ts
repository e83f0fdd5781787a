import { describe, expect, test } from 'vitest';
import { ManualClock } from '../../test/support/manual-clock.ts';
import { MemoryStore } from '../../test/support/memory-store.ts';
import { TellingPlace } from '../../test/support/telling.ts';
import { baseOfSegment } from '../../test/support/wal-scene.ts';
import { MIB } from '../common/bytes.ts';
import { systemRandom } from '../common/random.ts';
import type { Config, SourceConfig } from '../config/model.ts';
import { judgeWal } from '../observability/wal-protection.ts';
import { formatLsn } from '../postgres/wal/lsn.ts';
import { segmentName } from '../postgres/wal/segment.ts';
import { Repository } from '../repository/repository.ts';
import { walKey } from '../repository/wal-keys.ts';
import { type WalHead, writeWalRecord } from '../repository/wal-record.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { newestArchive } from './archived-wal.ts';
import { examineProtection } from './protection.ts';
import { walEvents } from './wal-events.ts';

const FOLDER = { source: 'shop', systemIdentifier: '7380000000000000001' };
const start = new Date('2026-11-20T02:00:00Z');
const MINUTE_MS = 60_000;

/** Storages in memory, into which a test archives as a receiver does, or an archive_command; the server is away. */
class Place {
  readonly clock = new ManualClock(start);
  readonly stores: ReadonlyMap<string, MemoryStore>;
  readonly config: Config;
  #next = 1;

  private constructor(config: Config) {
    this.config = config;
    this.stores = new Map(['r2', 'nas'].map((name) => [name, new MemoryStore({ clock: this.clock })]));
  }

  static async open(to = '[r2]'): Promise<Place> {
    await using telling = await TellingPlace.open({ shop: `wal: { to: ${to} }` });
    return new Place(telling.config);
  }

  async segment(names: readonly string[] = ['r2']): Promise<void> {
    const key = walKey(FOLDER, { kind: 'segment', name: nameOf(this.#next) }, '.zst');
    this.#next += 1;
    for (const name of names) await this.#store(name).putSmall(key, Buffer.from('wal'));
  }

  /** Its WAL is stored first, then the backup itself: made now, or copied here, since it was made elsewhere so long ago. */
  async base(number: number, agoMs: number): Promise<void> {
    const store = this.#store('r2');
    const name = nameOf(number);
    await store.putSmall(walKey(FOLDER, { kind: 'segment', name }, '.zst'), Buffer.from('wal'));
    const ended = new Date(this.clock.now().getTime() - agoMs);
    const repository = new Repository(store, { clock: this.clock, random: systemRandom });
    await repository.initialise({ pgarkVersion: '0.1.0' });
    await repository.commit(baseOfSegment(number, ended));
  }

  /** The record of the archive; with the note of a receiver, if its times are given. */
  async note(names: readonly string[], serverTime?: Date, writtenAt = this.clock.now(), segments = 1): Promise<void> {
    const head: WalHead | undefined = serverTime && {
      timeline: 1,
      lsn: formatLsn(BigInt(segments * MIB)),
      serverTime: serverTime.toISOString().replace('Z', '000Z'),
      writtenAt: writtenAt.toISOString(),
      slot: 'pgark_shop',
      host: 'tester',
      pid: 1,
    };
    const createdAt = start.toISOString();
    const record = { ...FOLDER, layout: 1 as const, segmentBytes: MIB, createdAt, pgarkVersion: '0.1.0' };
    for (const name of names) await writeWalRecord(this.#store(name), { ...record, ...(head && { head }) });
  }

  /** Retention, say, removes a segment. */
  async removes(number: number): Promise<void> {
    await this.#store('r2').delete(walKey(FOLDER, { kind: 'segment', name: nameOf(number) }, '.zst'));
  }

  /** What a command says of it. */
  async wal(openStore?: (name: string) => ObjectStore) {
    // Nothing but WAL, so that its storages are looked at for its sake.
    const source = { ...(this.config.databases.get('shop') as SourceConfig), jobs: new Map() };
    const { state, failures } = await examineProtection(this.config, [source], {
      clock: this.clock,
      random: systemRandom,
      signal: new AbortController().signal,
      openStore: async ({ name }) => Promise.resolve(openStore?.(name) ?? this.#store(name)),
    });
    const [wal] = state.wal;
    if (wal === undefined) throw new Error('its WAL is to be archived');
    const { problems, notes } = judgeWal(wal, state.at);
    return {
      problems: problems.map(({ sentence }) => sentence),
      notes,
      events: walEvents([wal], state.at).map(({ event, storage }) => [event, storage]),
      failures: failures.map(({ code }) => code),
      latest: wal.latest,
      gaps: wal.gaps,
    };
  }

  /** Up to when each stretch of what is archived can be recovered to. */
  async ends(): Promise<readonly (Date | undefined)[]> {
    const source = this.config.databases.get('shop') as SourceConfig;
    const world = { clock: this.clock, random: systemRandom, signal: new AbortController().signal };
    const newest = await newestArchive(source, this.#store('r2'), world);
    return newest?.windows.map(({ latest }) => latest) ?? [];
  }

  #store(name: string): MemoryStore {
    const store = this.stores.get(name);
    if (store === undefined) throw new Error(`there is no ${name}`);
    return store;
  }
}

function nameOf(number: number): string {
  return segmentName({ timeline: 1, number: BigInt(number) }, MIB);
}

const RESOLVED = [['resolved', undefined]];
const LATE = [['wal_lag', undefined]];

describe('WAL, by what lies in the storage', () => {
  test('is in time where a receiver has noted so of late, also of a server that is idle', async () => {
    const place = await Place.open();
    await place.segment();
    await place.clock.advance(300 * MINUTE_MS);
    await place.note(['r2'], place.clock.now());
    await place.clock.advance(4 * MINUTE_MS);
    expect(await place.wal()).toMatchObject({ problems: [], notes: [], events: RESOLVED });
    await place.clock.advance(12 * MINUTE_MS);
    expect(await place.wal()).toMatchObject({
      problems: ['nothing committed since 2026-11-20T07:00:00Z is known to be archived (16 min 00 s)'],
      events: LATE,
    });
  });

  test('is late while a receiver works off what has waited, however fresh its note is', async () => {
    const place = await Place.open();
    await place.clock.advance(60 * MINUTE_MS);
    await place.segment();
    await place.note(['r2'], start);
    expect(await place.wal()).toMatchObject({ problems: [expect.stringContaining('(1 h 00 min)')], events: LATE });
  });

  test('is late where something is gone of what a receiver has noted as archived', async () => {
    const place = await Place.open();
    await place.segment();
    await place.segment();
    await place.clock.advance(30 * MINUTE_MS);
    await place.segment();
    await place.note(['r2'], place.clock.now(), place.clock.now(), 4);
    expect((await place.wal()).problems).toEqual([]);
    await place.removes(3);
    expect((await place.wal()).problems).toEqual([expect.stringContaining('nothing committed since')]);
  });

  test('is late where nothing was ever archived, and has some minutes where that has begun', async () => {
    const place = await Place.open();
    expect(await place.wal()).toMatchObject({ problems: ['no WAL is known to be archived'], events: LATE });
    await place.note(['r2']);
    expect(await place.wal()).toMatchObject({ problems: [], notes: [] });
    await place.clock.advance(16 * MINUTE_MS);
    expect(await place.wal()).toMatchObject({ problems: [expect.stringContaining('(16 min 00 s)')] });
  });

  test('that comes by archive_command is in time while it comes, and then nobody knows', async () => {
    const place = await Place.open();
    await place.note(['r2']);
    await place.clock.advance(60 * MINUTE_MS);
    await place.segment();
    expect(await place.wal()).toMatchObject({ problems: [], notes: [] });
    await place.clock.advance(60 * MINUTE_MS);
    expect(await place.wal()).toMatchObject({
      problems: [],
      notes: ['r2: WAL came last 1 h 00 min ago, and no receiver notes whether the server has written any since'],
      // Neither that it is wrong, nor that it is right.
      events: [],
      failures: ['postgres-unreachable'],
    });
  });

  test('that came by a receiver once, and by archive_command since, goes by what came since', async () => {
    const place = await Place.open();
    await place.note(['r2'], start);
    await place.clock.advance(600 * MINUTE_MS);
    await place.segment();
    // Whether that is all of it nobody knows: what was told as late is not over.
    expect(await place.wal()).toMatchObject({ problems: [], notes: [], events: [] });
  });

  test.each([
    ['an older one', 3],
    ['one behind all that is archived', 30],
    ['one that adjoins what is archived', 20],
  ])('stays late when a base backup is copied there: %s', async (_, segment) => {
    const place = await Place.open();
    for (let count = 0; count < 19; count += 1) await place.segment();
    for (const number of [1, 2, 3, 4]) await place.removes(number);
    await place.note(['r2'], start, start, 20);
    await place.clock.advance(600 * MINUTE_MS);
    const before = await place.wal();
    expect(before).toMatchObject({ problems: [expect.stringContaining('(10 h 00 min)')], latest: start });
    await place.base(segment, 60 * MINUTE_MS);
    expect(await place.wal()).toEqual(before);
  });

  test('is not lost before what was archived, where an older base backup was copied there', async () => {
    const place = await Place.open();
    for (let count = 0; count < 19; count += 1) await place.segment();
    for (const number of [1, 2, 3, 4, 5, 6, 7]) await place.removes(number);
    await place.base(10, 0);
    await place.note(['r2'], start, start, 20);
    for (const number of [5, 1]) {
      await place.clock.advance(MINUTE_MS);
      await place.base(number, 6_000 * MINUTE_MS);
      expect(await place.wal()).toMatchObject({ gaps: 0, problems: [], latest: start });
    }
  });

  test('is lost behind a base backup, where nothing was archived before it was made', async () => {
    const place = await Place.open();
    await place.note(['r2']);
    await place.segment();
    await place.base(1, 0);
    await place.clock.advance(MINUTE_MS);
    for (let count = 0; count < 19; count += 1) await place.segment();
    for (const number of [2, 3]) await place.removes(number);
    expect(await place.wal()).toMatchObject({
      gaps: 1,
      problems: [expect.stringMatching(/^WAL is lost, and no base backup follows: nothing from 0\/400000 on/)],
    });
  });

  test('that comes by archive_command is as old as before when a base backup is copied there', async () => {
    const place = await Place.open();
    for (let count = 0; count < 19; count += 1) await place.segment();
    for (const number of [1, 2, 3, 4]) await place.removes(number);
    await place.note(['r2']);
    await place.clock.advance(600 * MINUTE_MS);
    await place.base(3, 6_000 * MINUTE_MS);
    expect(await place.wal()).toMatchObject({ latest: start, notes: [expect.stringContaining('10 h 00 min ago')] });
    // What a newer one says is that the server had come so far by then.
    await place.base(30, 60 * MINUTE_MS);
    expect(await place.wal()).toMatchObject({
      latest: new Date('2026-11-20T11:00:00Z'),
      notes: [expect.stringContaining('1 h 00 min ago')],
      events: [],
    });
    expect(await place.ends()).toEqual(
      ['2026-11-16T08:00:00Z', '2026-11-20T02:00:00Z', '2026-11-20T11:00:00Z'].map((time) => new Date(time)),
    );
  });

  test('ends, by what a receiver has noted, where that came to, not in a base backup behind it that was copied', async () => {
    const place = await Place.open();
    for (let count = 0; count < 19; count += 1) await place.segment();
    await place.clock.advance(5 * MINUTE_MS);
    await place.note(['r2'], place.clock.now(), place.clock.now(), 20);
    await place.clock.advance(600 * MINUTE_MS);
    await place.base(30, 60 * MINUTE_MS);
    expect(await place.ends()).toEqual([new Date('2026-11-20T02:05:00Z'), new Date('2026-11-20T11:05:00Z')]);
  });

  test('can be had at the end of a base backup, also when nobody has noted since that it can', async () => {
    const place = await Place.open();
    await place.note(['r2'], start, start, 2);
    await place.clock.advance(MINUTE_MS);
    await place.base(2, 0);
    const [source] = place.config.databases.values();
    const clock = { clock: place.clock, random: systemRandom, signal: new AbortController().signal };
    const found = source && (await newestArchive(source, place.stores.get('r2') ?? new MemoryStore(), clock));
    const end = place.clock.now();
    expect(found?.windows).toMatchObject([{ earliest: end, latest: end }]);
  });

  test('is not taken for covered in the future: neither by a server’s clock that is ahead nor by a receiver’s', async () => {
    const place = await Place.open();
    const ahead = new Date(start.getTime() + 10 * 3_600_000);
    await place.segment();
    await place.note(['r2'], ahead);
    await place.clock.advance(20 * MINUTE_MS);
    expect(await place.wal()).toMatchObject({ problems: [expect.stringContaining('(20 min 00 s)')] });
    await place.note(['r2'], ahead, ahead);
    expect(await place.wal()).toMatchObject({
      notes: [expect.stringContaining('came last 20 min 00 s ago')],
      events: [],
    });
  });

  test('is looked at in each storage', async () => {
    const place = await Place.open('[r2, nas]');
    await place.segment(['r2', 'nas']);
    await place.note(['r2', 'nas'], start);
    await place.clock.advance(20 * MINUTE_MS);
    await place.note(['r2'], place.clock.now());
    expect(await place.wal()).toMatchObject({
      problems: ['nas: nothing committed since 2026-11-20T02:00:00Z is known to be archived (20 min 00 s)'],
      events: [['wal_lag', 'nas']],
    });
  });

  test('is not said to be well where a storage cannot be read', async () => {
    const place = await Place.open('[r2, nas]');
    await place.segment(['r2', 'nas']);
    await place.note(['r2', 'nas'], start);
    const away = (name: string): ObjectStore => {
      if (name === 'nas') throw new Error('it is away');
      return place.stores.get(name) as ObjectStore;
    };
    expect(await place.wal(away)).toMatchObject({
      problems: [],
      notes: [],
      events: [],
      failures: ['postgres-unreachable', 'internal'],
    });
  });
});
