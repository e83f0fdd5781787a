import { formatBytes, formatDuration } from '../../common/bytes.ts';
import type { Clock } from '../../common/clock.ts';
import { asPgarkError, isPgarkError, PgarkError } from '../../common/errors.ts';
import type { Logger } from '../../common/log.ts';
import type { Random } from '../../common/random.ts';
import { type RetryPolicy, retryDelayMs } from '../../common/retry.ts';
import { type PutOutcome, putTimelineHistory, putWalDelta, putWalFile } from '../../formats/wal/store-piece.ts';
import type { WalPlace } from '../../formats/wal/store-piece.ts';
import type { SealedPiece, WalPiece } from '../../formats/wal/wal-piece.ts';
import type { WalFolder } from '../../repository/wal-keys.ts';
import { type WalHead, type WalRecord, writeWalRecord } from '../../repository/wal-record.ts';
import type { CallOptions, ObjectKey, ObjectStore } from '../../storage/object-store.ts';
import type { WalPolicy } from '../prune-archives.ts';
import { LeftBehind } from './left-behind.ts';
import { neededWal } from './needed-wal.ts';
import { openWalRecord } from './open-wal-record.ts';
import { StallWatch } from '../stall-watch.ts';

/** A storage that WAL goes into, by its name in the configuration. */
export interface WalStore {
  readonly name: string;
  readonly store: ObjectStore;
  /** What of the WAL may go from there. Default: nothing. */
  readonly policy?: WalPolicy | undefined;
}

export interface ArchivesOptions {
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly pgarkVersion: string;
  readonly sealing: Pick<WalPlace, 'sealer' | 'keys'>;
  /** Told when a storage refuses, when the others go on without it (`isLeft`), and when it takes WAL again (undefined). */
  readonly onFailing?: (storage: string, failure: PgarkError | undefined, isLeft: boolean) => void;
  /** Those that refused before, until they take something. Default: none. */
  readonly failing?: ReadonlyMap<string, PgarkError> | undefined;
}

/** A store that refuses is tried again for ever: the server keeps what is not stored. */
const PAUSES: RetryPolicy = { retriesMax: Number.MAX_SAFE_INTEGER, delayMs: 1_000, delayMsMax: 30_000 };
/** What moves nothing for so long is made again. */
const ATTEMPT_MS_MAX = 3 * 60_000;
const DELETES_AT_ONCE = 8;

/**
 * So long, all in all, those that have a piece wait for one that has not; half of the time in which nobody waits for it is
 * taken off again. Then they go on without it.
 */
const PATIENCE_MS = 5 * 60_000;

/** One attempt to put something into one storage. */
interface Attempt {
  readonly signal: AbortSignal;
  /** Told how much of it is stored by now, where the storage can tell. */
  readonly onBytesStored: (bytesTotal: number) => void;
  /** Called while it waits for a limit of our own. */
  readonly onHeldBack: () => void;
}

interface Archive {
  readonly name: string;
  readonly place: WalPlace;
  record: WalRecord;
  failure: PgarkError | undefined;
  /** How long others have waited for it, and when that was reckoned. */
  waitedMs: number;
  reckonedMs: number;
  /** The others do not wait for it. */
  left: LeftBehind | undefined;
}

/**
 * The archive of one server in one or several storages. A piece is archived when all of them have it; each takes it in its
 * own time, and is tried again until it does. One that keeps the others waiting for too long is left behind, and comes back
 * when what it lacks has been copied to it.
 */
export class Archives {
  readonly #archives: readonly Archive[];
  readonly #options: ArchivesOptions;
  #keepsDeltas = false;
  #lastWhole: string | undefined;

  /**
   * Opens the archives, and makes them where there is none yet. Errors: `wal-conflict` if one was made for segments of another
   * size; `store-…`, `repository-…`.
   */
  static async open(
    stores: readonly WalStore[],
    folder: WalFolder & { readonly segmentBytes: number },
    options: ArchivesOptions & CallOptions,
  ): Promise<Archives> {
    const { clock, random, logger } = options;
    const { source, systemIdentifier, segmentBytes } = folder;
    const records = await Promise.allSettled(stores.map(({ store }) => openWalRecord(store, folder, options)));
    const present = records.findIndex(({ status }) => status === 'fulfilled');
    const record = records[present];
    const archives = stores.map(({ name, store, policy }, index): Archive => {
      const own = records[index];
      const place = { store, folder: { source, systemIdentifier }, ...options.sealing };
      const base = { name, place, failure: options.failing?.get(name), waitedMs: 0, reckonedMs: clock.monotonicMs() };
      if (own?.status === 'fulfilled') return { ...base, record: own.value, left: undefined };
      const from = stores[present]?.store;
      const isFinal = isPgarkError(own?.reason, 'wal-conflict') || options.signal?.aborted === true;
      if (from === undefined || record?.status !== 'fulfilled' || isFinal) throw asPgarkError(own?.reason);
      const needed =
        policy &&
        ((call: CallOptions) =>
          neededWal({ store, from, folder: place.folder, segmentBytes, policy, clock, random }, call));
      const left = new LeftBehind({ ...place, name, from, since: undefined, needed, clock, logger });
      const { head: _, ...known } = record.value;
      return { ...base, record: known, left, failure: asPgarkError(own?.reason) };
    });
    const made = new Archives(archives, options);
    for (const { name, left, failure } of archives) {
      if (left !== undefined && failure !== undefined) made.#tellLeft(name, failure, 'it does not answer');
    }
    return made;
  }

  private constructor(archives: readonly Archive[], options: ArchivesOptions) {
    this.#archives = archives;
    this.#options = options;
  }

  get logger(): Logger {
    return this.#options.logger;
  }

  /** But those that were left behind. */
  get places(): readonly { readonly name: string; readonly place: WalPlace; readonly record: WalRecord }[] {
    return this.#archives.filter(({ left }) => left === undefined);
  }

  /** Ends what goes on in the background. No other call follows. */
  async close(): Promise<void> {
    for (const { left } of this.#archives) await left?.end();
  }

  /**
   * Resolves when every storage has the segment, which is the one behind the last: one call at a time. Rejects with the signal's reason, or with what no further try would change:
   * `wal-conflict`, `corrupt` for an object of its name that is damaged.
   */
  async putSegment(segment: WalPiece | SealedPiece, signal: AbortSignal): Promise<void> {
    await this.#takeBack();
    const { name } = segment.wal;
    await this.#everywhere(name, signal, async ({ place }, call) =>
      this.#note(place, segment, await putWalFile(place, segment, call)),
    );
    this.#lastWhole = name;
    for (const { left } of this.#archives) left?.wake();
  }

  /** The same of a part of the segment behind the last one. */
  async putDelta(delta: WalPiece, signal: AbortSignal): Promise<void> {
    await this.#everywhere(delta.wal.name, signal, async ({ place }, call) => {
      await putWalDelta(place, delta, call);
    });
  }

  async putHistory(name: string, content: Uint8Array, signal: AbortSignal): Promise<void> {
    await this.#everywhere(undefined, signal, async ({ place }, call) => {
      const outcome = await putTimelineHistory(place, name, content, call);
      if (outcome === 'stored') this.#options.logger.info('wal.history_stored', `archived ${name}`, { name });
    });
  }

  /**
   * Removes deltas that nobody needs any more. A storage that does not allow it keeps them, which does no harm and is said
   * once.
   */
  async removeDeltas(keysOf: (place: WalPlace) => readonly ObjectKey[], signal: AbortSignal): Promise<void> {
    await Promise.all(
      this.places.map(async ({ name, place }) => {
        try {
          const keys = keysOf(place).values();
          const workers = Array.from({ length: DELETES_AT_ONCE }, async () => {
            for (const key of keys) await place.store.delete(key, { signal });
          });
          await Promise.all(workers);
        } catch (error) {
          if (signal.aborted || this.#keepsDeltas) return;
          this.#keepsDeltas = true;
          const { message, hint } = asPgarkError(error);
          this.#options.logger.warning(
            'wal.deltas_kept',
            `${name} does not let go of deltas that are in whole segments by now: ${message}; ${hint}`,
            { storage: name },
          );
        }
      }),
    );
  }

  /** Notes how far everything is. A failure is no harm: the note is for those who look on, and the next one says more. */
  async note(head: WalHead, signal: AbortSignal): Promise<void> {
    await Promise.all(
      this.#present().map(async (archive) => {
        archive.record = { ...archive.record, head };
        try {
          await writeWalRecord(archive.place.store, archive.record, { signal });
        } catch (error) {
          if (signal.aborted) return;
          this.#options.logger.debug('wal.note_failed', `${archive.name}: ${asPgarkError(error).message}`);
        }
      }),
    );
  }

  #present(): readonly Archive[] {
    return this.#archives.filter(({ left }) => left === undefined);
  }

  /** `since` is the first segment that one lacks which is left behind now. */
  async #everywhere(
    since: string | undefined,
    signal: AbortSignal,
    work: (archive: Archive, attempt: Attempt) => Promise<void>,
  ): Promise<void> {
    const { clock } = this.#options;
    const present = this.#present();
    const [only, ...others] = present;
    if (only !== undefined && others.length === 0) {
      await this.#untilDone(only, signal, work);
      return;
    }
    const stop = new AbortController();
    const oneIsDone = Promise.withResolvers<Archive>();
    let doneMs: number | undefined;
    const works = present.map(async (archive) => {
      const leave = new AbortController();
      const over = new AbortController();
      const patience = oneIsDone.promise.then((done) => this.#patience(archive, done, since, leave, over.signal));
      patience.catch(() => undefined);
      try {
        await this.#untilDone(archive, AbortSignal.any([signal, stop.signal, leave.signal]), work);
        doneMs ??= clock.monotonicMs();
        oneIsDone.resolve(archive);
        reckon(archive, doneMs, clock.monotonicMs());
      } catch (error) {
        if (leave.signal.aborted && !signal.aborted && !stop.signal.aborted) return;
        stop.abort(error);
        throw error;
      } finally {
        over.abort();
      }
    });
    await Promise.allSettled(works);
    await Promise.all(works);
  }

  /** Leaves an archive behind when others have waited long enough for it. */
  async #patience(
    archive: Archive,
    done: Archive,
    since: string | undefined,
    leave: AbortController,
    over: AbortSignal,
  ): Promise<void> {
    const { clock } = this.#options;
    await clock.sleep(Math.max(0, PATIENCE_MS - archive.waitedMs), over);
    over.throwIfAborted();
    const failure =
      archive.failure ??
      new PgarkError('stalled', `${archive.place.store.location} takes WAL more slowly than it comes`);
    this.#leave(archive, done, since, failure, `it has kept WAL waiting for ${formatDuration(PATIENCE_MS)}`);
    leave.abort(failure);
  }

  /**
   * Leaves those behind that lack WAL which others have and the server keeps no more: from the segment on that is named for
   * each, they get it from the place that has most.
   */
  leaveBehind(behind: ReadonlyMap<WalPlace, string>, most: WalPlace): void {
    const done = this.#archives.find(({ place }) => place === most);
    for (const archive of this.#archives) {
      const since = behind.get(archive.place);
      if (since === undefined || done === undefined || archive.left !== undefined) continue;
      const failure = new PgarkError('stalled', `${archive.place.store.location} lacks WAL that ${done.name} has`);
      this.#leave(archive, done, since, failure, 'it lacks WAL that the server does not have any more');
    }
  }

  #leave(archive: Archive, done: Archive, since: string | undefined, failure: PgarkError, why: string): void {
    const { clock, logger } = this.#options;
    const { name, place } = archive;
    archive.left = new LeftBehind({ ...place, name, from: done.place.store, since, clock, logger });
    archive.failure = failure;
    this.#tellLeft(name, failure, why);
  }

  #tellLeft(name: string, failure: PgarkError, why: string): void {
    const what = `WAL goes on without ${name}, which gets what it lacks from another storage as soon as it takes it`;
    this.#options.logger.error('wal.store_left', `${what}: ${why} (${failure.message})`, { storage: name });
    this.#options.onFailing?.(name, failure, true);
  }

  /** Those that lack nothing by now are among the others again, before the next segment. */
  async #takeBack(): Promise<void> {
    for (const archive of this.#archives) {
      if (this.#lastWhole === undefined || archive.left?.isLevelWith(this.#lastWhole) !== true) continue;
      await archive.left.end();
      archive.left = undefined;
      archive.waitedMs = 0;
      archive.reckonedMs = this.#options.clock.monotonicMs();
      this.#works(archive);
    }
  }

  async #untilDone(
    archive: Archive,
    signal: AbortSignal,
    work: (archive: Archive, attempt: Attempt) => Promise<void>,
  ): Promise<void> {
    const { clock, random } = this.#options;
    for (let attempt = 1; ; attempt += 1) {
      signal.throwIfAborted();
      using watch = new StallWatch({
        clock,
        stallMs: ATTEMPT_MS_MAX,
        isDue: () => true,
        stalled: () => silentStore(archive.place.store),
      });
      let storedBytes = 0;
      const onBytesStored = (bytesTotal: number): void => {
        if (bytesTotal > storedBytes) watch.moved();
        storedBytes = bytesTotal;
      };
      try {
        const onHeldBack = (): void => watch.moved();
        await work(archive, { signal: AbortSignal.any([signal, watch.signal]), onBytesStored, onHeldBack });
        this.#works(archive);
        return;
      } catch (error) {
        signal.throwIfAborted();
        if (isPgarkError(error, 'wal-conflict') || isPgarkError(error, 'corrupt')) throw error;
        this.#fails(archive, asPgarkError(error));
      }
      await clock.sleep(retryDelayMs(PAUSES, attempt, random), signal);
    }
  }

  #fails(archive: Archive, failure: PgarkError): void {
    const { name } = archive;
    if (archive.failure === undefined || archive.failure.message !== failure.message) {
      const { message, hint, code } = failure;
      this.#options.logger.error('wal.store_failed', `${name} does not take WAL: ${message}; ${hint}`, {
        storage: name,
        code,
      });
    }
    archive.failure = failure;
    this.#options.onFailing?.(name, failure, false);
  }

  #works(archive: Archive): void {
    if (archive.failure === undefined) return;
    archive.failure = undefined;
    this.#options.logger.info('wal.store_recovered', `${archive.name} takes WAL again`, { storage: archive.name });
    this.#options.onFailing?.(archive.name, undefined, false);
  }

  #note({ store }: WalPlace, { wal, facts }: WalPiece | SealedPiece, outcome: PutOutcome): void {
    const what = outcome === 'stored' ? `archived ${wal.name}` : `${wal.name} was archived already`;
    this.#options.logger.debug('wal.segment_stored', `${what} (${formatBytes(facts.bytes)}) in ${store.location}`, {
      segment: wal.name,
      outcome,
    });
  }
}

/** Adds the time since the first one was done with a piece, and takes half of that off in which nobody waited. */
function reckon(archive: Archive, sinceMs: number, nowMs: number): void {
  const waitedMs = nowMs - sinceMs;
  const idleMs = Math.max(0, nowMs - archive.reckonedMs - waitedMs);
  archive.waitedMs = Math.max(0, archive.waitedMs + waitedMs - idleMs / 2);
  archive.reckonedMs = nowMs;
}

function silentStore({ location }: ObjectStore): PgarkError {
  return new PgarkError('stalled', `${location} has given no answer for ${formatDuration(ATTEMPT_MS_MAX)}`);
}
