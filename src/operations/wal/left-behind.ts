import type { ByteStream } from '../../common/bytes.ts';
import type { Clock } from '../../common/clock.ts';
import { asPgarkError, isPgarkError, PgarkError } from '../../common/errors.ts';
import type { Logger } from '../../common/log.ts';
import { readHistoryBytes } from '../../formats/wal/history-object.ts';
import { conflict, putTimelineHistory, toldSha256 } from '../../formats/wal/store-piece.ts';
import type { DecryptionKeys } from '../../pipeline/encryption/sealer.ts';
import { parseHistoryFileName } from '../../postgres/wal/timeline-history.ts';
import { readStateBytes } from '../../repository/state-object.ts';
import { parseWalKey, type WalFolder, type WalObject, walPrefix } from '../../repository/wal-keys.ts';
import type { CallOptions, ObjectKey, ObjectStore } from '../../storage/object-store.ts';

const AGAIN_MS = 30_000;

export interface LeftBehindOptions {
  /** For people. */
  readonly name: string;
  readonly store: ObjectStore;
  readonly folder: WalFolder;
  /** One that goes on. */
  readonly from: ObjectStore;
  readonly keys: DecryptionKeys;
  /** The first segment that it may lack; undefined: it may lack any. */
  readonly since: string | undefined;
  /** Tells, when it answers, what it needs of what the other one has. Default: all. */
  readonly needed?: ((call: CallOptions) => Promise<(wal: WalObject, storedAt: Date) => boolean>) | undefined;
  readonly clock: Clock;
  readonly logger: Logger;
}

/**
 * A storage that the others did not wait for any more. What it lacks is copied to it from one of them, object by object as
 * they are, until it has all whole segments that the other one has and it needs. What it has of another content is never
 * replaced: then it does not come back.
 */
export class LeftBehind {
  readonly #options: LeftBehindOptions;
  readonly #end = new AbortController();
  readonly #running: Promise<void>;
  #woken = Promise.withResolvers<void>();
  #isTold = false;
  #needs: ((wal: WalObject, storedAt: Date) => boolean) | undefined;
  /** The last whole segment of each timeline that both have, by the timeline's digits. */
  #levelWith: ReadonlyMap<string, string> = new Map();

  constructor(options: LeftBehindOptions) {
    this.#options = options;
    this.#running = this.#run();
  }

  /** Whether it has all that it needs up to that segment. */
  isLevelWith(segment: string): boolean {
    return (this.#levelWith.get(segment.slice(0, 8)) ?? '') >= segment;
  }

  /** There is more. */
  wake(): void {
    this.#woken.resolve();
  }

  async end(): Promise<void> {
    this.#end.abort(new Error('it is not left behind any more'));
    this.#woken.resolve();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { clock } = this.#options;
    const { signal } = this.#end;
    while (!signal.aborted) {
      this.#woken = Promise.withResolvers();
      try {
        this.#levelWith = await this.#copyMissing(signal);
        if (!signal.aborted) await this.#woken.promise;
      } catch (error) {
        if (signal.aborted) return;
        this.#tell(asPgarkError(error));
        await clock.sleep(AGAIN_MS, signal).catch(() => undefined);
      }
    }
  }

  /** One that is away is known to be; another content is news, once. */
  #tell({ code, message }: PgarkError): void {
    const { logger, name } = this.#options;
    const isNews = code === 'wal-conflict' && !this.#isTold;
    logger[isNews ? 'error' : 'debug']('wal.catch_up_failed', `${name}: ${message}`, { storage: name, code });
    this.#isTold ||= isNews;
  }

  async #copyMissing(signal: AbortSignal): Promise<ReadonlyMap<string, string>> {
    const { from, store, folder, since = '', needed } = this.#options;
    // Once: what is needed later is no more than that, but for what comes.
    this.#needs ??= needed === undefined ? () => true : await needed({ signal });
    const prefix = walPrefix(folder);
    const there = store.list(prefix, { signal })[Symbol.asyncIterator]();
    let next = await there.next();
    const last = new Map<string, string>();
    for await (const { key, bytes, modified } of from.list(prefix, { signal })) {
      const wal = parseWalKey(key);
      if (wal === undefined || wal.kind === 'delta') continue;
      if (wal.kind !== 'history' && (wal.name < since || !this.#needs(wal, modified))) continue;
      while (next.done !== true && next.value.key < key) next = await there.next();
      if (next.done === true || next.value.key !== key) await this.#copy(key, wal, signal);
      else if (next.value.bytes !== bytes) await this.#compare(key, wal, signal);
      if (wal.kind === 'segment') last.set(wal.name.slice(0, 8), wal.name);
    }
    return last;
  }

  async #copy(key: ObjectKey, wal: WalObject, signal: AbortSignal): Promise<void> {
    const { from, store, folder } = this.#options;
    try {
      if (wal.kind === 'history') {
        const found = await readHistoryBytes(from, folder, parseHistoryFileName(wal.name) ?? 1, { signal });
        if (found !== undefined) await putTimelineHistory({ store, folder }, wal.name, found, { signal });
        return;
      }
      const { info, body } = await from.get(key, { signal });
      const { metadata, bytes } = info;
      const whole = ofLength(body, bytes, key);
      await store.putStream(key, whole, { signal, bytesEstimateMax: bytes, ...(metadata && { metadata }) });
    } catch (error) {
      // Come into the one, or removed from the other, meanwhile.
      const isThere = isPgarkError(error, 'object-exists') || isPgarkError(error, 'store-condition-failed');
      if (isThere) await this.#compare(key, wal, signal);
      else if (!isPgarkError(error, 'object-not-found')) throw error;
    }
  }

  /**
   * The same content may have become objects of different lengths: by other versions, or for other keys. What nobody here can
   * read passes, as it does when it comes from the server again.
   */
  async #compare(key: ObjectKey, { kind }: WalObject, signal: AbortSignal): Promise<void> {
    const { from, store, keys } = this.#options;
    const call = { signal };
    const told = async (each: ObjectStore): Promise<string | undefined> => {
      if (kind !== 'history') return toldSha256({ store: each, keys }, key, call);
      const found = await readStateBytes(each, key, call);
      return found && Buffer.from(found.bytes).toString('latin1');
    };
    const [theirs, own] = await Promise.all([told(from), told(store)]);
    if (theirs !== undefined && own !== undefined && theirs !== own) throw conflict(store, key);
  }
}

/** Passes a body on that has so many bytes; one of another length ends with an error, and what it goes into is given up. */
async function* ofLength(body: ByteStream, bytes: number, key: ObjectKey): ByteStream {
  let passed = 0;
  for await (const block of body) {
    passed += block.length;
    yield block;
  }
  if (passed !== bytes) throw new PgarkError('corrupt', `${key} has ${bytes} bytes, and ${passed} came`);
}
