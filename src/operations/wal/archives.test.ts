import { describe, expect, test } from 'vitest';
import { FaultyStore } from '../../../test/support/faulty-store.ts';
import { ManualClock } from '../../../test/support/manual-clock.ts';
import { MemoryStore } from '../../../test/support/memory-store.ts';
import { madeSegment, WAL_IDENTITY } from '../../../test/support/wal-bytes.ts';
import { pieceOf, WAL_FOLDER } from '../../../test/support/wal-pieces.ts';
import { PgarkError } from '../../common/errors.ts';
import { silentLogger } from '../../common/log.ts';
import { systemRandom } from '../../common/random.ts';
import { putWalFile } from '../../formats/wal/store-piece.ts';
import type { WalPiece } from '../../formats/wal/wal-piece.ts';
import { walKey } from '../../repository/wal-keys.ts';
import { readWalRecord } from '../../repository/wal-record.ts';
import { Archives, type ArchivesOptions } from './archives.ts';

const { segmentBytes } = WAL_IDENTITY;
const signal = new AbortController().signal;
const OLDER = walKey(WAL_FOLDER, { kind: 'segment', name: '000000030000000000000009' }, '.zst');

/** Lets what goes on go on; no time passes. */
function turn(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}

function piece(number: number): WalPiece {
  const segment = { timeline: 1, number: BigInt(number) };
  return pieceOf(segment, madeSegment(segment));
}

/** Two storages, of which the second one can be made to refuse, or to take its time. */
class Scene {
  readonly clock = new ManualClock(new Date('2026-11-20T02:00:00Z'));
  readonly near = new MemoryStore();
  readonly far = new MemoryStore();
  readonly faulty = new FaultyStore(this.far);
  readonly failing: [string, string | undefined][] = [];
  /** Errors of the log. */
  readonly told: [string, string][] = [];

  refuse(): void {
    this.faulty.faults = {
      before: () => {
        throw new PgarkError('store-unreachable', 'the test refuses');
      },
    };
  }

  open(near = new FaultyStore(this.near), failing?: ArchivesOptions['failing']): Promise<Archives> {
    return Archives.open(
      [
        { name: 'near', store: near },
        { name: 'far', store: this.faulty },
      ],
      { ...WAL_FOLDER, segmentBytes },
      {
        clock: this.clock,
        random: systemRandom,
        logger: { ...silentLogger, error: (event, message) => void this.told.push([event, message]) },
        pgarkVersion: '0.1.0',
        sealing: { sealer: undefined, keys: { identities: [], passphrases: [] } },
        failing,
        onFailing: (storage, failure) => void this.failing.push([storage, failure?.code]),
      },
    );
  }

  /** Puts a piece, and turns the clock when the first storage has it. */
  async put(archives: Archives, number: number, waitedMs: number): Promise<boolean> {
    let isOver = false;
    const put = archives.putSegment(piece(number), signal).then(() => {
      isOver = true;
    });
    while (!this.numbers(this.near).includes(number)) await turn();
    await this.clock.advance(waitedMs);
    this.#putting = put;
    return isOver;
  }

  #putting: Promise<void> = Promise.resolve();

  /** Resolves when the last piece is archived. */
  async archived(): Promise<void> {
    await this.#putting;
  }

  /** Numbers of the whole segments in a storage. */
  numbers(store: MemoryStore): readonly number[] {
    const names = [...store.objects.keys()].filter((key) => key.includes('/00000001/') && key.endsWith('.zst'));
    return names.map((key) => Number.parseInt(key.slice(-12, -4), 16)).sort((a, b) => a - b);
  }
}

describe('of two storages', { timeout: 120_000 }, () => {
  test('one that refused before a connection broke refuses until it takes something', async () => {
    const scene = new Scene();
    const archives = await scene.open(
      undefined,
      new Map([['far', new PgarkError('store-unreachable', 'it was away')]]),
    );
    expect(scene.failing).toEqual([]);
    await archives.putSegment(piece(1), signal);
    expect(scene.failing).toEqual([['far', undefined]]);
    await archives.close();
  });

  test('one that refuses is waited for five minutes, then left behind, and comes back with all that it lacks', async () => {
    const scene = new Scene();
    const archives = await scene.open();
    // Of a timeline that was left behind, long before.
    for (const store of [scene.near, scene.far]) await store.putSmall(OLDER, Buffer.from('wal'));
    await archives.putSegment(piece(1), signal);
    scene.refuse();
    expect(await scene.put(archives, 2, 299_000)).toBe(false);
    expect(archives.places).toHaveLength(2);
    await scene.clock.advance(1_000);
    await scene.archived();
    expect(archives.places.map(({ name }) => name)).toEqual(['near']);
    // Nobody waits for it any more.
    await archives.putSegment(piece(3), signal);
    expect([scene.numbers(scene.near), scene.numbers(scene.far)]).toEqual([[1, 2, 3], [1]]);
    // It says nothing of itself that is not so.
    await archives.note(HEAD, signal);
    expect((await readWalRecord(scene.far, WAL_FOLDER))?.head).toBeUndefined();
    scene.faulty.faults = {};
    await scene.clock.advance(31_000);
    while (scene.numbers(scene.far).length < 3) await turn();
    // The first segment that comes when it lacks nothing brings it back.
    for (let number = 4; archives.places.length < 2; number += 1) {
      await archives.putSegment(piece(number), signal);
      while (scene.numbers(scene.far).length < number) await turn();
    }
    expect(scene.numbers(scene.far)).toEqual(scene.numbers(scene.near));
    const ofWal = (store: MemoryStore): unknown =>
      Object.fromEntries(
        [...store.objects].flatMap(([key, { bytes, info }]) =>
          key.startsWith('shop/') ? [[key, [bytes, info.metadata]]] : [],
        ),
      );
    expect(ofWal(scene.far)).toEqual(ofWal(scene.near));
    expect(scene.failing.at(-1)).toEqual(['far', undefined]);
    await archives.close();
  });

  test('one that is too slow for what comes is left behind, and one that is only the slower one is not', async () => {
    const scene = new Scene();
    const archives = await scene.open();
    scene.faulty.faults = {
      before: async ({ method }) => {
        if (method === 'putStream') await scene.clock.sleep(40_000);
      },
    };
    let number = 0;
    for (let round = 0; round < 8; round += 1) {
      number += 1;
      await scene.put(archives, number, 40_000);
      await scene.archived();
      await scene.clock.advance(90_000);
    }
    expect(archives.places).toHaveLength(2);
    let rounds = 0;
    while (archives.places.length === 2) {
      rounds += 1;
      number += 1;
      await scene.put(archives, number, 40_000);
      await scene.archived();
    }
    // The first one is made good by the time before it; after seven more there are 20 seconds left.
    expect(rounds).toBe(9);
    const closed = archives.close();
    await scene.clock.advance(60_000);
    await closed;
  });

  test('both that refuse are waited for, however long', async () => {
    const scene = new Scene();
    const near = new FaultyStore(scene.near);
    const archives = await scene.open(near);
    scene.refuse();
    near.faults = { before: () => Promise.reject(new PgarkError('store-unreachable', 'the test refuses')) };
    const put = archives.putSegment(piece(1), signal);
    for (let minute = 0; minute < 60; minute += 1) await scene.clock.advance(60_000);
    expect(archives.places).toHaveLength(2);
    near.faults = {};
    scene.faulty.faults = {};
    await scene.clock.advance(60_000);
    await put;
    expect([scene.numbers(scene.near), scene.numbers(scene.far)]).toEqual([[1], [1]]);
    await archives.close();
  });

  test('one that has something else under a name of the other one keeps it, and does not come back', async () => {
    const scene = new Scene();
    scene.refuse();
    const archives = await scene.open();
    for (const number of [1, 2]) await archives.putSegment(piece(number), signal);
    // Of the same content, as another version would have compressed it.
    const [key = ''] = [...scene.near.objects.keys()].filter((each) => each.endsWith('000001.zst'));
    const other = await scene.near.get(key);
    const { metadata } = other.info;
    const longer = async function* () {
      yield* other.body;
      yield Buffer.alloc(100);
    };
    await scene.far.putStream(key, longer(), { ...(metadata && { metadata }) });
    const foreign = { timeline: 1, number: 2n };
    const bytes = madeSegment(foreign, { seed: 9 }).fill(0, 0x8000);
    const place = {
      store: scene.far,
      folder: WAL_FOLDER,
      sealer: undefined,
      keys: { identities: [], passphrases: [] },
    };
    await putWalFile(place, pieceOf(foreign, bytes));
    const before = new Map(scene.far.objects);
    scene.faulty.faults = {};
    await scene.clock.advance(31_000);
    while (!scene.told.some(([event]) => event === 'wal.catch_up_failed')) await turn();
    await archives.putSegment(piece(3), signal);
    expect(archives.places.map(({ name }) => name)).toEqual(['near']);
    expect(scene.told.at(-1)).toEqual(['wal.catch_up_failed', expect.stringContaining('with another content')]);
    for (const [name, { bytes: kept }] of before)
      expect([name, scene.far.objects.get(name)?.bytes]).toEqual([name, kept]);
    await archives.close();
  });

  test('one that does not answer at the beginning is left behind at once, and gets what it lacks later', async () => {
    const scene = new Scene();
    scene.refuse();
    const archives = await scene.open();
    for (const number of [1, 2]) await archives.putSegment(piece(number), signal);
    expect(archives.places.map(({ name }) => name)).toEqual(['near']);
    scene.faulty.faults = {};
    await scene.clock.advance(31_000);
    while (scene.numbers(scene.far).length < 2) await turn();
    await archives.close();
  });
});

test.each([
  ['on a slow line is not begun anew as long as it moves', 'onBytesStored'],
  ['is not begun anew while it waits for a limit of our own', 'onHeldBack'],
] as const)('a large segment %s', async (_, moves) => {
  const scene = new Scene();
  let puts = 0;
  const begun = Promise.withResolvers<void>();
  class SlowStore extends MemoryStore {
    override async putStream(...[key, body, options]: Parameters<MemoryStore['putStream']>) {
      puts += 1;
      begun.resolve();
      for (const part of [1, 2]) {
        await scene.clock.sleep(120_000, options?.signal);
        options?.[moves]?.(part);
      }
      return super.putStream(key, body, options);
    }
  }
  const slow = new SlowStore();
  const archives = await scene.open(new FaultyStore(slow));
  const put = archives.putSegment(piece(1), signal);
  await begun.promise;
  // The other storage has no time to lose either.
  while (!scene.numbers(scene.far).includes(1)) await turn();
  await scene.clock.advance(250_000);
  expect(scene.failing).toEqual([]);
  await put;
  expect([puts, scene.numbers(slow)]).toEqual([1, [1]]);
  await archives.close();
});

const HEAD = {
  timeline: 1,
  lsn: '0/400000',
  serverTime: '2026-11-20T02:00:00.000000Z',
  writtenAt: '2026-11-20T02:00:00Z',
  slot: 'pgark_shop',
  host: 'h',
  pid: 1,
};
