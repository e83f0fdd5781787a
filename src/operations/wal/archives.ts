import { formatBytes, formatDuration } from '../../common/bytes.ts';
import type { Clock } from '../../common/clock.ts';
import { asPgarkError, isPgarkError, PgarkError } from '../../common/errors.ts';
import type { Logger } from '../../common/log.ts';
import type { Random } from '../../common/random.ts';
import { type RetryPolicy, retryDelayMs } from '../../common/retry.ts';
import { type PutOutcome, putTimelineHistory, putWalDelta, putWalFile } from '../../formats/wal/store-piece.ts';
import type { WalPiece, WalPlace } from '../../formats/wal/store-piece.ts';
import { Repository } from '../../repository/repository.ts';
import type { WalFolder } from '../../repository/wal-keys.ts';
import { readWalRecord, type WalHead, type WalRecord, writeWalRecord } from '../../repository/wal-record.ts';
import type { CallOptions, ObjectKey, ObjectStore } from '../../storage/object-store.ts';
import { StallWatch } from '../stall-watch.ts';

/** A storage that WAL goes into, by its name in the configuration. */
export interface WalStore {
  readonly name: string;
  readonly store: ObjectStore;
}

export interface ArchivesOptions {
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly pgarkVersion: string;
  readonly sealing: Pick<WalPlace, 'sealer' | 'keys'>;
  /** Told when a storage begins to refuse, and when it takes WAL again (undefined). */
  readonly onFailing?: (storage: string, failure: PgarkError | undefined) => void;
}

/** A store that refuses is tried again for ever: the server keeps what is not stored. */
const PAUSES: RetryPolicy = { retriesMax: Number.MAX_SAFE_INTEGER, delayMs: 1_000, delayMsMax: 30_000 };
/** A piece is small; a request that moves nothing for so long is made again. */
const ATTEMPT_MS_MAX = 3 * 60_000;
const DELETES_AT_ONCE = 8;

interface Archive {
  readonly name: string;
  readonly place: WalPlace;
  record: WalRecord;
  failure: PgarkError | undefined;
}

/**
 * The archive of one server in one or several storages. A piece is archived when all of them have it; each takes it in its
 * own time, and is tried again until it does.
 */
export class Archives {
  readonly #archives: readonly Archive[];
  readonly #options: ArchivesOptions;
  #keepsDeltas = false;

  /**
   * Opens the archives, and makes them where there is none yet. Errors: `wal-conflict` if one was made for segments of another
   * size; `store-…`, `repository-…`.
   */
  static async open(
    stores: readonly WalStore[],
    folder: WalFolder & { readonly segmentBytes: number },
    options: ArchivesOptions & CallOptions,
  ): Promise<Archives> {
    const opened = stores.map(async ({ name, store }): Promise<Archive> => {
      const record = await openWalRecord(store, folder, options);
      const { source, systemIdentifier } = folder;
      const place = { store, folder: { source, systemIdentifier }, ...options.sealing };
      return { name, place, record, failure: undefined };
    });
    return new Archives(await Promise.all(opened), options);
  }

  private constructor(archives: readonly Archive[], options: ArchivesOptions) {
    this.#archives = archives;
    this.#options = options;
  }

  get places(): readonly { readonly name: string; readonly place: WalPlace; readonly record: WalRecord }[] {
    return this.#archives;
  }

  /**
   * Resolves when every storage has the piece. Rejects with the signal's reason, or with what no further try would change:
   * `wal-conflict`, `corrupt` for an object of its name that is damaged.
   */
  async put(piece: WalPiece, signal: AbortSignal): Promise<void> {
    await this.#everywhere(signal, async ({ place }, call) => {
      if (piece.wal.kind === 'delta') await putWalDelta(place, piece, call);
      else this.#note(place, piece, await putWalFile(place, piece, call));
    });
  }

  async putHistory(name: string, content: Uint8Array, signal: AbortSignal): Promise<void> {
    await this.#everywhere(signal, async ({ place }, call) => {
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
      this.#archives.map(async ({ name, place }) => {
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
      this.#archives.map(async (archive) => {
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

  async #everywhere(
    signal: AbortSignal,
    work: (archive: Archive, call: { readonly signal: AbortSignal }) => Promise<void>,
  ): Promise<void> {
    if (this.#archives.length === 1) {
      for (const archive of this.#archives) await this.#untilDone(archive, signal, work);
      return;
    }
    const stop = new AbortController();
    const either = AbortSignal.any([signal, stop.signal]);
    const works = this.#archives.map(async (archive) => {
      try {
        await this.#untilDone(archive, either, work);
      } catch (error) {
        stop.abort(error);
        throw error;
      }
    });
    await Promise.allSettled(works);
    await Promise.all(works);
  }

  async #untilDone(
    archive: Archive,
    signal: AbortSignal,
    work: (archive: Archive, call: { readonly signal: AbortSignal }) => Promise<void>,
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
      try {
        await work(archive, { signal: AbortSignal.any([signal, watch.signal]) });
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
    this.#options.onFailing?.(name, failure);
  }

  #works(archive: Archive): void {
    if (archive.failure === undefined) return;
    archive.failure = undefined;
    this.#options.logger.info('wal.store_recovered', `${archive.name} takes WAL again`, { storage: archive.name });
    this.#options.onFailing?.(archive.name, undefined);
  }

  #note({ store }: WalPlace, { wal, facts }: WalPiece, outcome: PutOutcome): void {
    const what = outcome === 'stored' ? `archived ${wal.name}` : `${wal.name} was archived already`;
    this.#options.logger.debug('wal.segment_stored', `${what} (${formatBytes(facts.bytes)}) in ${store.location}`, {
      segment: wal.name,
      outcome,
    });
  }
}

type RecordOptions = Pick<ArchivesOptions, 'clock' | 'random' | 'pgarkVersion'> & CallOptions;

/**
 * Finds the record of an archive, or makes it, and the repository, where there is none yet. Error: `wal-conflict` if it was made
 * for segments of another size.
 */
export async function openWalRecord(
  store: ObjectStore,
  folder: WalFolder & { readonly segmentBytes: number },
  { clock, random, pgarkVersion, signal }: RecordOptions,
): Promise<WalRecord> {
  const call = signal === undefined ? {} : { signal };
  const { source, systemIdentifier, segmentBytes } = folder;
  const present = await readWalRecord(store, folder, call);
  if (present !== undefined) {
    if (present.segmentBytes === segmentBytes) return present;
    throw new PgarkError(
      'wal-conflict',
      `the archive of ${source} in ${store.location} has segments of ${formatBytes(present.segmentBytes)}, the server now makes them of ${formatBytes(segmentBytes)}`,
      {
        hint: 'pg_resetwal has changed their size: archive under another source name or prefix from now on',
      },
    );
  }
  // Makes the directory of a file storage, too.
  await store.probe({ ...call, write: true });
  await new Repository(store, { clock, random }).initialise({ ...call, pgarkVersion });
  const record: WalRecord = {
    layout: 1,
    source,
    systemIdentifier,
    segmentBytes,
    createdAt: clock.now().toISOString(),
    pgarkVersion,
  };
  await writeWalRecord(store, record, call);
  return record;
}

function silentStore({ location }: ObjectStore): PgarkError {
  return new PgarkError('stalled', `${location} has given no answer for ${formatDuration(ATTEMPT_MS_MAX)}`);
}
