import type { Clock } from '../../common/clock.ts';
import { asPgarkError, isPgarkError } from '../../common/errors.ts';
import type { Logger } from '../../common/log.ts';
import { readStateBytes } from '../../repository/state-object.ts';
import { parseWalKey, type WalFolder, type WalObject, walPrefix } from '../../repository/wal-keys.ts';
import type { ObjectKey, ObjectStore } from '../../storage/object-store.ts';

const AGAIN_MS = 30_000;

export interface LeftBehindOptions {
  /** For people. */
  readonly name: string;
  readonly store: ObjectStore;
  readonly folder: WalFolder;
  /** One that goes on. */
  readonly from: ObjectStore;
  /** The first segment that it may lack; undefined: it may lack any. */
  readonly since: string | undefined;
  readonly clock: Clock;
  readonly logger: Logger;
}

/**
 * A storage that the others did not wait for any more. What it lacks is copied to it from one of them, object by object as
 * they are, until it has all whole segments that the other one has.
 */
export class LeftBehind {
  readonly #options: LeftBehindOptions;
  readonly #end = new AbortController();
  readonly #running: Promise<void>;
  #woken = Promise.withResolvers<void>();
  /** The last whole segment of each timeline that both have, by the timeline's digits. */
  #levelWith: ReadonlyMap<string, string> = new Map();

  constructor(options: LeftBehindOptions) {
    this.#options = options;
    this.#running = this.#run();
  }

  /** Whether it has all that the other one has up to that segment. */
  isLevelWith(segment: string): boolean {
    return (this.#levelWith.get(segment.slice(0, 8)) ?? '') >= segment;
  }

  /** There is more. */
  wake(): void {
    this.#woken.resolve();
  }

  async end(): Promise<void> {
    this.#end.abort(new Error('it is not left behind any more'));
    await this.#running;
  }

  async #run(): Promise<void> {
    const { clock, logger, name } = this.#options;
    const { signal } = this.#end;
    while (!signal.aborted) {
      this.#woken = Promise.withResolvers();
      try {
        this.#levelWith = await this.#copyMissing(signal);
        signal.addEventListener('abort', () => this.#woken.resolve(), { once: true });
        if (!signal.aborted) await this.#woken.promise;
      } catch (error) {
        if (signal.aborted) return;
        logger.debug('wal.catch_up_failed', `${name}: ${asPgarkError(error).message}`, { storage: name });
        await clock.sleep(AGAIN_MS, signal).catch(() => undefined);
      }
    }
  }

  async #copyMissing(signal: AbortSignal): Promise<ReadonlyMap<string, string>> {
    const { from, store, folder, since = '' } = this.#options;
    const prefix = walPrefix(folder);
    const there = store.list(prefix, { signal })[Symbol.asyncIterator]();
    let next = await there.next();
    const last = new Map<string, string>();
    for await (const { key } of from.list(prefix, { signal })) {
      const wal = parseWalKey(key);
      if (wal === undefined || wal.kind === 'delta' || (wal.kind !== 'history' && wal.name < since)) continue;
      while (next.done !== true && next.value.key < key) next = await there.next();
      if (next.done === true || next.value.key !== key) await this.#copy(key, wal, signal);
      if (wal.kind === 'segment') last.set(wal.name.slice(0, 8), wal.name);
    }
    return last;
  }

  async #copy(key: ObjectKey, { kind }: WalObject, signal: AbortSignal): Promise<void> {
    const { from, store } = this.#options;
    try {
      if (kind === 'history') {
        const found = await readStateBytes(from, key, { signal });
        if (found !== undefined) await store.putSmall(key, found.bytes, { signal, condition: { ifAbsent: true } });
        return;
      }
      const { info, body } = await from.get(key, { signal });
      const { metadata, bytes } = info;
      await store.putStream(key, body, { signal, bytesEstimateMax: bytes, ...(metadata && { metadata }) });
    } catch (error) {
      // Removed from the one, or come into the other, meanwhile.
      const isSettled = ['object-not-found', 'object-exists', 'store-condition-failed'] as const;
      if (!isSettled.some((code) => isPgarkError(error, code))) throw error;
    }
  }
}
