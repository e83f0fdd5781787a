import { vi } from 'vitest';
import { ManualClock } from './manual-clock.ts';
import { MemoryStore } from './memory-store.ts';
import { manifestOf } from './repository-place.ts';
import { TellingPlace } from './telling.ts';
import { MIB } from '../../src/common/bytes.ts';
import { PgarkError } from '../../src/common/errors.ts';
import { silentLogger } from '../../src/common/log.ts';
import { systemRandom } from '../../src/common/random.ts';
import { silentTracing } from '../../src/common/tracer.ts';
import { operationContext } from '../../src/operations/context.ts';
import type { receiveWal } from '../../src/operations/wal/receive.ts';
import type { ReceiveWalRequest, WalReceiverState } from '../../src/operations/wal/receive-request.ts';
import { gapError } from '../../src/operations/wal/receiver-world.ts';
import { formatLsn } from '../../src/postgres/wal/lsn.ts';
import { serverTimeOfDate } from '../../src/postgres/wal/server-time.ts';
import { segmentName } from '../../src/postgres/wal/segment.ts';
import { makeBackupId } from '../../src/repository/ids.ts';
import { keys } from '../../src/repository/keys.ts';
import type { Manifest } from '../../src/repository/manifest.ts';
import { Repository } from '../../src/repository/repository.ts';
import { walKey, walPrefix } from '../../src/repository/wal-keys.ts';
import { writeWalRecord } from '../../src/repository/wal-record.ts';
import type { WalProtection } from '../../src/observability/wal-protection.ts';
import { archivedWal, newestArchive } from '../../src/service/archived-wal.ts';
import { Generation } from '../../src/service/generation.ts';
import { type KnownBefore, WalReceivers } from '../../src/service/wal-receivers.ts';

const FOLDER = { source: 'shop', systemIdentifier: '7380000000000000001' };
const start = new Date('2026-11-20T02:00:00Z');
/** How long a process has received before a test goes on. */
export const SOON_MS = 25_000;
export const LOST = 'shop: WAL is lost';
export const AGAIN = 'shop: recovery works again from here on';
export const LATE = 'shop: WAL is not archived';
export const IN_TIME = 'shop: WAL is archived in time again';
export const FULL = 'shop: replication slot fills up';
export const FREE = 'shop: replication slot holds back little again';

class Archive extends MemoryStore {
  /** How often it was looked through, or was to be. */
  looks = 0;
  /** It cannot be. */
  isUnread = false;

  override list(...[prefix, options]: Parameters<MemoryStore['list']>): ReturnType<MemoryStore['list']> {
    if (prefix === walPrefix(FOLDER)) {
      this.looks += 1;
      if (this.isUnread) throw new PgarkError('store-unreachable', 'there is no answer');
    }
    return super.list(prefix, options);
  }
}

/** An archive in memory, of a server that is not there: what its receiver would archive, and meet, is the test's to say. */
export class WalScene implements AsyncDisposable {
  readonly clock = new ManualClock(start);
  readonly archive = new Archive({ clock: this.clock });
  readonly #repository = new Repository(this.archive, { clock: this.clock, random: systemRandom });
  readonly #place: TellingPlace;
  readonly #generation: Generation;
  /** What the receiver says of itself. */
  received: Partial<WalReceiverState> = {};
  /** Why there is none. */
  sealerFailure: PgarkError | undefined;
  /** Whether who receives makes base backups where they are wanted. */
  makesBases = true;
  /** How often a base backup was asked for. */
  wanted = 0;
  #receivers: WalReceivers | undefined;
  #request: ReceiveWalRequest | undefined;
  /** Number of the segment behind the last one that is archived. */
  #next = 1;

  constructor(place: TellingPlace) {
    this.#place = place;
    place.stores.set('r2', this.archive);
    this.#generation = new Generation(place.config, {
      adapters: {
        openStore: () => Promise.resolve(this.archive),
        sealerOf: () => Promise.resolve(undefined),
        openTracing: () => silentTracing,
      },
      context: operationContext({ logger: silentLogger, clock: this.clock }),
      environment: {},
    });
  }

  static async open(options: Parameters<typeof TellingPlace.open>[0] = {}): Promise<WalScene> {
    const place = await TellingPlace.open({ on: '[wal_gap, recovery]', ...options, shop: 'wal: { to: [r2] }' });
    const scene = new WalScene(place);
    const { clock } = scene;
    const store = scene.archive;
    await scene.#repository.initialise({ pgarkVersion: '0.1.0' });
    await writeWalRecord(store, recordAt(clock.now()));
    return scene;
  }

  /** What people were told so far. */
  get titles(): readonly string[] {
    return this.#place.texts.map(
      (text) => [LOST, AGAIN, LATE, IN_TIME, FULL, FREE].find((title) => text.includes(title)) ?? text,
    );
  }

  /** Resolves when so many messages were sent, whether they were taken or not; no time of the clock's passes. */
  async told(count: number): Promise<void> {
    const sent = (): number =>
      this.#place.lines.filter((line) => /"notification\.(delivered|failed)"/.test(line)).length;
    await vi.waitUntil(() => sent() >= count, { timeout: 20_000, interval: 5 });
  }

  /** A process that receives, until the next one begins. */
  async begin(watchedSince?: Date): Promise<void> {
    await this.#receivers?.stop();
    await this.#receive(watchedSince);
  }

  /** The same process, with a configuration that wants the same of the WAL; its new receiver has heard nothing yet. */
  async reload(): Promise<void> {
    await this.#receivers?.stop();
    this.received = {};
    await this.#receive(this.states()[0]?.watchedSince, this.#receivers?.known());
  }

  async #receive(watchedSince?: Date, before?: KnownBefore): Promise<void> {
    const startReceiving: typeof receiveWal = (request, { signal }) => {
      this.#request = request;
      const state = (): WalReceiverState => ({ ...STREAMING, archived: BigInt(this.#next * MIB), ...this.received });
      let last: WalReceiverState | undefined;
      const ended = new Promise<void>((resolve) => {
        const end = (): void => {
          last = state();
          resolve();
        };
        signal.addEventListener('abort', end, { once: true });
      });
      return { ended, state: () => last ?? state() };
    };
    // With a clock of its own: time that the test lets pass must not end what is on its way.
    const teller = this.#place.teller();
    const adapters = {
      sealerOf: () => (this.sealerFailure ? Promise.reject(this.sealerFailure) : Promise.resolve(undefined)),
    };
    const want = (): boolean => {
      this.wanted += 1;
      return this.makesBases;
    };
    this.#receivers = new WalReceivers({
      generation: this.#generation,
      adapters,
      teller,
      onBaseWanted: want,
      startReceiving,
      ...(before && { before }),
      ...(watchedSince === undefined ? {} : { watchedSince: new Map([['shop', watchedSince]]) }),
    });
    await this.clock.advance(SOON_MS);
  }

  /** The server is heard, and what it had committed so long before is archived. */
  covers(lagMs: number): void {
    const heardAt = this.clock.now();
    const time = serverTimeOfDate(heardAt);
    this.received = {
      ...this.received,
      server: { time, end: 0n },
      heardAt,
      coveredUntil: time - BigInt(lagMs) * 1_000n,
    };
  }

  states() {
    return this.#receivers?.states() ?? [];
  }

  /** What a command finds in the storage. */
  async looked(): Promise<WalProtection> {
    const source = this.#place.config.databases.get('shop');
    if (source === undefined) throw new Error('the configuration has a shop');
    const world = { clock: this.clock, random: systemRandom, signal: new AbortController().signal };
    const newest = await newestArchive(source, this.archive, world);
    return archivedWal(source, { flushMs: 10_000 }, [{ name: 'r2', newest }], this.clock.now());
  }

  get texts(): readonly string[] {
    return this.#place.texts;
  }

  async archives(count: number): Promise<void> {
    for (let left = count; left > 0; left -= 1, this.#next += 1)
      await this.archive.putSmall(
        walKey(FOLDER, { kind: 'segment', name: nameOf(this.#next) }, '.zst'),
        Buffer.from('wal'),
      );
  }

  /** A receiver, of this process or another one, notes that all that is committed by now is archived. */
  async notes(): Promise<void> {
    const writtenAt = this.clock.now().toISOString();
    const serverTime = writtenAt.replace('Z', '000Z');
    const by = { slot: 'pgark_shop', host: 'elsewhere', pid: 1 };
    const head = { timeline: 1, lsn: formatLsn(BigInt(this.#next * MIB)), serverTime, writtenAt, ...by };
    await writeWalRecord(this.archive, { ...recordAt(start), head });
  }

  /** Retention, say, removes a segment. */
  async removes(number: number): Promise<void> {
    await this.archive.delete(walKey(FOLDER, { kind: 'segment', name: nameOf(number) }, '.zst'));
  }

  /** A base backup that began and ended in a segment is copied here; its WAL is stored anew. */
  async copies(number: number): Promise<void> {
    await this.archive.putSmall(walKey(FOLDER, { kind: 'segment', name: nameOf(number) }, '.zst'), Buffer.from('wal'));
    await this.#commit(number);
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
    await this.#commit(this.#next - 1);
  }

  async #commit(segment: number): Promise<void> {
    await this.#repository.commit(baseOfSegment(segment, this.clock.now()));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#receivers?.stop();
    await this.#place[Symbol.asyncDispose]();
  }
}

const STREAMING: WalReceiverState = {
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
  slotKept: undefined,
  failure: undefined,
  failingStores: new Map(),
};

function recordAt(createdAt: Date) {
  return {
    ...FOLDER,
    layout: 1 as const,
    segmentBytes: MIB,
    createdAt: createdAt.toISOString(),
    pgarkVersion: '0.1.0',
  };
}

function nameOf(number: number): string {
  return segmentName({ timeline: 1, number: BigInt(number) }, MIB);
}

/** A base backup that begins and ends in one segment of the first timeline, by its number. */
export function baseOfSegment(number: number, ended: Date): Manifest {
  const id = makeBackupId(ended, 'f', systemRandom);
  const at = ended.toISOString();
  const plain = manifestOf(id, 'shop', [`${keys.basePrefix('shop', id)}base.tar.zst`]);
  return {
    ...plain,
    format: 'physical',
    source: 'shop',
    server: { ...plain.server, systemIdentifier: FOLDER.systemIdentifier },
    startedAt: at,
    endedAt: at,
    storeTime: at,
    timeline: 1,
    startLsn: formatLsn(BigInt(number * MIB + 0x28)),
    stopLsn: formatLsn(BigInt(number * MIB + 0x100)),
    walNeeded: { from: nameOf(number), to: nameOf(number), segmentBytes: MIB },
  };
}
