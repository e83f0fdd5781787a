import { afterEach, describe, expect, test } from 'vitest';
import { type Answer, status } from '../../test/support/http-receiver.ts';
import { ManualClock } from '../../test/support/manual-clock.ts';
import { MemoryStore } from '../../test/support/memory-store.ts';
import { manifestOf } from '../../test/support/repository-place.ts';
import { TellingPlace } from '../../test/support/telling.ts';
import { MIB } from '../common/bytes.ts';
import { PgarkError } from '../common/errors.ts';
import { silentLogger } from '../common/log.ts';
import { systemRandom } from '../common/random.ts';
import { silentTracing } from '../common/tracer.ts';
import { operationContext } from '../operations/context.ts';
import type { receiveWal } from '../operations/wal/receive.ts';
import type { ReceiveWalRequest } from '../operations/wal/receive-request.ts';
import { gapError } from '../operations/wal/receiver-world.ts';
import { formatLsn } from '../postgres/wal/lsn.ts';
import { segmentName } from '../postgres/wal/segment.ts';
import { makeBackupId } from '../repository/ids.ts';
import { keys } from '../repository/keys.ts';
import { Repository } from '../repository/repository.ts';
import { walKey } from '../repository/wal-keys.ts';
import { writeWalRecord } from '../repository/wal-record.ts';
import { Generation } from './generation.ts';
import { WalReceivers } from './wal-receivers.ts';

const FOLDER = { source: 'shop', systemIdentifier: '7380000000000000001' };
const start = new Date('2026-11-20T02:00:00Z');
const SOON_MS = 25_000;
const QUARTER_MS = 16 * 60_000;
const LOST = 'shop: WAL is lost';
const AGAIN = 'shop: recovery works again from here on';

let scene: Scene | undefined;

afterEach(() => scene?.close());

/** An archive in memory, of a server that is not there: what its receiver would archive, and meet, is the test's to say. */
class Scene {
  readonly clock = new ManualClock(start);
  readonly store = new MemoryStore({ clock: this.clock });
  readonly #repository = new Repository(this.store, { clock: this.clock, random: systemRandom });
  readonly #place: TellingPlace;
  readonly #generation: Generation;
  /** How often a base backup was asked for. */
  wanted = 0;
  #receivers: WalReceivers | undefined;
  #request: ReceiveWalRequest | undefined;
  /** Number of the segment behind the last one that is archived. */
  #next = 1;

  constructor(place: TellingPlace) {
    this.#place = place;
    place.stores.set('r2', this.store);
    this.#generation = new Generation(place.config, {
      adapters: {
        openStore: () => Promise.resolve(this.store),
        sealerOf: () => Promise.resolve(undefined),
        openTracing: () => silentTracing,
      },
      context: operationContext({ logger: silentLogger, clock: this.clock }),
      environment: {},
    });
  }

  static async open(options: Parameters<typeof TellingPlace.open>[0] = {}): Promise<Scene> {
    const place = await TellingPlace.open({ on: '[wal_gap, recovery]', ...options, shop: 'wal: { to: [r2] }' });
    scene = new Scene(place);
    const { clock, store } = scene;
    await scene.#repository.initialise({ pgarkVersion: '0.1.0' });
    const createdAt = clock.now().toISOString();
    await writeWalRecord(store, { ...FOLDER, layout: 1, segmentBytes: MIB, createdAt, pgarkVersion: '0.1.0' });
    return scene;
  }

  /** What people were told so far. */
  get titles(): readonly string[] {
    return this.#place.texts.map((text) => [LOST, AGAIN].find((title) => text.includes(title)) ?? text);
  }

  /** Resolves when so many messages were sent, whether they were taken or not; no time of the clock's passes. */
  async told(count: number): Promise<void> {
    const sent = (): number =>
      this.#place.lines.filter((line) => /"notification\.(delivered|failed)"/.test(line)).length;
    while (sent() < count) await new Promise((resolve) => setTimeout(resolve, 5));
  }

  /** A process that receives, until the next one begins. */
  async begin(): Promise<void> {
    await this.#receivers?.stop();
    const startReceiving: typeof receiveWal = (request, { signal }) => {
      this.#request = request;
      const ended = new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
      return { ended, state: () => ({ ...STREAMING, archived: BigInt(this.#next * MIB) }) };
    };
    // With a clock of its own: time that the test lets pass must not end what is on its way.
    const teller = this.#place.teller();
    const adapters = { sealerOf: () => Promise.resolve(undefined) };
    const want = (): void => void (this.wanted += 1);
    this.#receivers = new WalReceivers(this.#generation, adapters, teller, want, startReceiving);
    await this.clock.advance(SOON_MS);
  }

  async archives(count: number): Promise<void> {
    for (let left = count; left > 0; left -= 1, this.#next += 1)
      await this.store.putSmall(
        walKey(FOLDER, { kind: 'segment', name: nameOf(this.#next) }, '.zst'),
        Buffer.from('wal'),
      );
  }

  /** So many segments were removed before they were received. */
  loses(count: number): void {
    const from = BigInt(this.#next * MIB);
    this.#next += count;
    const error = gapError('shop', formatLsn(from), formatLsn(BigInt(this.#next * MIB)), 'it is gone');
    this.#request?.onAlarm?.({ kind: 'gap', error });
  }

  /** What is not received yet may have been removed, or not. */
  losesSlot(): void {
    const error = new PgarkError('wal-slot', 'the slot was dropped');
    this.#request?.onAlarm?.({ kind: 'slot-dropped', error });
  }

  /** A base backup that begins and ends in what was archived last. */
  async base(): Promise<void> {
    const id = makeBackupId(this.clock.now(), 'f', systemRandom);
    const at = this.clock.now().toISOString();
    const plain = manifestOf(id, 'shop', [`${keys.basePrefix('shop', id)}base.tar.zst`]);
    const last = this.#next - 1;
    await this.#repository.commit({
      ...plain,
      format: 'physical',
      source: 'shop',
      server: { ...plain.server, systemIdentifier: FOLDER.systemIdentifier },
      startedAt: at,
      endedAt: at,
      storeTime: at,
      timeline: 1,
      startLsn: formatLsn(BigInt(last * MIB + 0x28)),
      stopLsn: formatLsn(BigInt(last * MIB + 0x100)),
      walNeeded: { from: nameOf(last), to: nameOf(last), segmentBytes: MIB },
    });
  }

  async close(): Promise<void> {
    await this.#receivers?.stop();
    await this.#place[Symbol.asyncDispose]();
  }
}

const STREAMING: ReturnType<ReturnType<typeof receiveWal>['state']> = {
  phase: 'streaming',
  systemIdentifier: FOLDER.systemIdentifier,
  timeline: 1,
  received: undefined,
  archived: undefined,
  server: undefined,
  heardAt: undefined,
  coveredUntil: undefined,
  gaps: 0,
  slot: undefined,
  failure: undefined,
  failingStores: new Map(),
};

function nameOf(number: number): string {
  return segmentName({ timeline: 1, number: BigInt(number) }, MIB);
}

describe('WAL that is lost', () => {
  test('is told each time, and its end when what follows has a base backup', async () => {
    const self = await Scene.open();
    await self.archives(2);
    await self.base();
    await self.begin();
    for (const round of [0, 1]) {
      const before = self.wanted;
      self.loses(2);
      await self.told(2 * round + 1);
      await self.archives(2);
      await self.clock.advance(SOON_MS);
      expect(self.wanted).toBeGreaterThan(before);
      expect(self.titles.slice(2 * round)).toEqual([LOST]);
      await self.base();
      await self.clock.advance(SOON_MS);
      await self.told(2 * round + 2);
    }
    await self.clock.advance(QUARTER_MS);
    expect(self.titles).toEqual([LOST, AGAIN, LOST, AGAIN]);
  });

  test('is told each time to those who want to hear of no end', async () => {
    const self = await Scene.open({ on: '[wal_gap]' });
    await self.archives(2);
    await self.begin();
    for (const count of [1, 2]) {
      self.loses(2);
      await self.told(count);
      await self.archives(2);
      await self.base();
      await self.clock.advance(QUARTER_MS);
    }
    expect(self.titles).toEqual([LOST, LOST]);
  });

  test('is over also for a process that was not there when it was told', async () => {
    const self = await Scene.open();
    await self.archives(2);
    await self.begin();
    self.loses(2);
    await self.told(1);
    await self.archives(2);
    await self.base();
    await self.begin();
    await self.clock.advance(QUARTER_MS);
    await self.told(2);
    expect(self.titles).toEqual([LOST, AGAIN]);
  });

  test('is over for those who could not be reached at first as soon as they can be', async () => {
    const self = await Scene.open({ answers: [status(200), status(500), status(200)] });
    await self.archives(2);
    await self.begin();
    self.loses(2);
    await self.told(1);
    await self.archives(2);
    await self.base();
    await self.clock.advance(SOON_MS);
    await self.told(2);
    await self.clock.advance(QUARTER_MS);
    await self.told(3);
    await self.clock.advance(QUARTER_MS);
    expect(self.titles).toEqual([LOST, AGAIN, AGAIN]);
  });

  test('is not over before the server has said whether any is', async () => {
    const self = await Scene.open();
    await self.archives(2);
    await self.base();
    await self.begin();
    self.losesSlot();
    await self.told(1);
    await self.clock.advance(1_000);
    self.loses(2);
    await self.told(2);
    await self.clock.advance(SOON_MS);
    expect(self.titles).toEqual([LOST, LOST]);
  });

  test('is over where none was, after all', async () => {
    const self = await Scene.open();
    await self.archives(2);
    await self.base();
    await self.begin();
    self.losesSlot();
    await self.archives(2);
    await self.clock.advance(SOON_MS);
    await self.told(2);
    expect(self.titles).toEqual([LOST, AGAIN]);
    expect(self.wanted).toBe(0);
  });

  test('is over also where the base backup is there before the message has arrived', async () => {
    const arrival = Promise.withResolvers<void>();
    const late: Answer = (response) => void arrival.promise.then(() => response.writeHead(200).end());
    const self = await Scene.open({ answers: [late, status(200)] });
    await self.archives(2);
    await self.begin();
    self.loses(2);
    await self.archives(2);
    await self.base();
    await self.clock.advance(SOON_MS);
    arrival.resolve();
    await self.told(2);
    expect(self.titles).toEqual([LOST, AGAIN]);
  });

  test('is not over while nothing of what follows can be recovered, although it is all that is left', async () => {
    const self = await Scene.open();
    await self.archives(2);
    await self.begin();
    self.loses(2);
    await self.told(1);
    await self.archives(2);
    for (const number of [1, 2])
      await self.store.delete(walKey(FOLDER, { kind: 'segment', name: nameOf(number) }, '.zst'));
    await self.clock.advance(QUARTER_MS);
    expect(self.titles).toEqual([LOST]);
  });
});
