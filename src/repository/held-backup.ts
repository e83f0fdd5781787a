import type { Clock } from '../common/clock.ts';
import { isPgarkError, messageOf, PgarkError } from '../common/errors.ts';
import { allOf } from '../common/in-parallel.ts';
import type { Logger } from '../common/log.ts';
import type { Random } from '../common/random.ts';
import type { ObjectKey, ObjectStore } from '../storage/object-store.ts';
import { type TermEnd, termFromNow } from './held-lease.ts';
import type { BackupId } from './ids.ts';
import { keys } from './keys.ts';
import { LAYOUT, type Manifest } from './manifest.ts';
import type { Reading } from './readers.ts';
import { writeState } from './state-object.ts';

/** How long a hold lives without being renewed. */
const TERM_MS = 600_000;
/** It is renewed when this is left of it. */
const RENEW_LEFT_MS = (TERM_MS * 2) / 3;
/** The clocks are looked at this often, so that a process that was stopped finds out soon after it goes on. */
const TICK_MS = 10_000;
/** Between two looks whether a prune goes on with a removal that it has announced, and how often is looked. */
const LOOK_MS = 500;
const LOOKS_MAX = 20;

export interface HoldOptions {
  readonly store: ObjectStore;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly signal: AbortSignal;
  readonly holder: Reading['holder'];
  /** How it is told that the storage takes no hold. */
  readonly untakenLevel: 'info' | 'warning';
}

/**
 * A backup, with those that it needs, that no prune removes while it is read. Reader and prune each write, then look: the
 * reader its hold, then for the note that the removal has begun; the prune that note, then for holds. In whatever order these
 * four steps happen, one of the two sees the other.
 *
 * Where the storage takes no hold, which needs a right to write, the backup is read all the same: what is needed in an emergency
 * does not wait for a right.
 */
export class HeldBackup {
  readonly #options: HoldOptions;
  readonly #manifest: Manifest;
  readonly #ids: readonly BackupId[];
  readonly #ended = new AbortController();
  /** Of all that was written. */
  readonly #keys = new Set<ObjectKey>();
  #token = '';
  #since: string | undefined;
  #end: TermEnd | undefined;
  /** Whether it was looked, since the hold was there without a gap, that no prune had come first. */
  #isSettled = false;
  #renewing: Promise<void> = Promise.resolve();

  private constructor(manifest: Manifest, options: HoldOptions) {
    this.#manifest = manifest;
    this.#options = options;
    this.#ids = [manifest.id, ...manifest.parents] as BackupId[];
  }

  /** Error: `backup-not-found` where it was removed meanwhile, or one that it needs. */
  static async hold(manifest: Manifest, options: HoldOptions): Promise<HeldBackup> {
    const held = new HeldBackup(manifest, options);
    const { signal } = options;
    try {
      if (!(await held.#take(signal))) return held;
      await held.#settle(signal);
    } catch (error) {
      await held.release();
      throw error;
    }
    held.#renewing = held.#keepRenewing();
    return held;
  }

  /** Lets retention decide again. Never rejects: what cannot be given back ends with its term. Idempotent. */
  async release(): Promise<void> {
    this.#ended.abort();
    await this.#renewing;
    const { store, logger } = this.#options;
    const written = [...this.#keys];
    this.#keys.clear();
    const deletions = await Promise.allSettled(written.map((key) => store.delete(key)));
    const failed = deletions.find((each) => each.status === 'rejected');
    if (failed === undefined) return;
    const what = `the hold on backup ${this.#manifest.id} ends by itself, since it cannot be removed`;
    logger.info('hold.left', `${what}: ${messageOf(failed.reason)}`, { backupId: this.#manifest.id });
  }

  /** What says that something is missing, or damaged, of a backup that was removed meanwhile says nothing of the backup. */
  async explain(thrown: unknown): Promise<unknown> {
    const { signal } = this.#options;
    const isOfMissing = (['object-not-found', 'corrupt', 'repository-damaged'] as const).some((code) =>
      isPgarkError(thrown, code),
    );
    if (!isOfMissing || signal.aborted) return thrown;
    const gone = await this.#findGone(signal).catch(() => undefined);
    return gone === undefined ? thrown : removed(gone, thrown);
  }

  async #take(signal: AbortSignal): Promise<boolean> {
    try {
      await this.#put(signal);
      return true;
    } catch (error) {
      signal.throwIfAborted();
      // What was refused is not there; of anything else it is not known.
      if (isPgarkError(error, 'store-access-denied')) this.#keys.clear();
      const { logger, untakenLevel } = this.#options;
      const { id } = this.#manifest;
      logger[untakenLevel](
        'hold.not_taken',
        `backup ${id} is read without being held, so that a prune may remove it meanwhile: ${messageOf(error)}`,
        { backupId: id },
      );
      return false;
    }
  }

  async #put(signal: AbortSignal): Promise<void> {
    const { store, clock, random, holder } = this.#options;
    // Whoever sees a hold whose term is over may remove it at any time: it is not written once more.
    const last = this.#end;
    if (this.#isOver(last)) this.#token = Buffer.from(random.bytes(16)).toString('hex');
    const end = termFromNow(clock, TERM_MS);
    const now = await store.now({ signal });
    this.#since ??= now.toISOString();
    const until = new Date(now.getTime() + TERM_MS).toISOString();
    const since = this.#since;
    await allOf(
      this.#ids.map(async (id) => {
        const key = keys.reading(id, this.#token);
        this.#keys.add(key);
        const reading: Reading = { layout: LAYOUT, id, holder, since, until };
        await writeState(store, key, reading, { signal });
      }),
    );
    this.#end = end;
    // A prune that came behind the end, also while this was written, has seen no hold.
    if (this.#isOver(last)) this.#isSettled = false;
  }

  /** Makes sure that whoever removes backups has seen the hold. */
  async #settle(signal: AbortSignal): Promise<void> {
    const { store, clock, logger } = this.#options;
    for (let looks = 0; looks < LOOKS_MAX; looks += 1) {
      if (looks > 0) await clock.sleep(LOOK_MS, signal);
      // The note first: a prune writes it before it removes the manifest, and takes it back where that stays.
      const notes = await allOf(this.#ids.map((id) => store.head(keys.deleted(id), { signal })));
      const gone = await this.#findGone(signal);
      if (gone !== undefined) throw removed(gone);
      this.#isSettled = notes.every((note) => note === undefined);
      if (this.#isSettled) return;
    }
    this.#isSettled = true;
    const { id } = this.#manifest;
    const what = `a prune has begun to remove backup ${id}, and not gone on: the next one sees that it is read, and lets it be`;
    logger.warning('hold.removal_begun', what, { backupId: id });
  }

  /** One of them that is no backup any more. */
  async #findGone(signal: AbortSignal): Promise<BackupId | undefined> {
    const { store } = this.#options;
    const { source, database } = this.#manifest;
    const found = await allOf(this.#ids.map((id) => store.head(keys.manifest(source, database.name, id), { signal })));
    return this.#ids.find((_, index) => found[index] === undefined);
  }

  /** Never rejects. A backup that is gone does not end its reader here: all may have been read of it. */
  async #keepRenewing(): Promise<void> {
    const { clock, logger } = this.#options;
    const { id } = this.#manifest;
    const { signal } = this.#ended;
    while (!signal.aborted) {
      try {
        await clock.sleep(TICK_MS, signal);
        if (leftMs(this.#end, clock) <= RENEW_LEFT_MS) await this.#put(signal);
        if (!this.#isSettled) await this.#settle(signal);
      } catch (error) {
        if (signal.aborted) return;
        if (isPgarkError(error, 'backup-not-found')) {
          const what = `the hold on backup ${id} was not renewed in time: ${error.message}`;
          logger.warning('hold.lost', `${what}; what was not read of it yet is missing`, { backupId: id });
          return;
        }
        logger.warning(
          'hold.renewal_failed',
          `the hold on backup ${id} could not be renewed yet: ${messageOf(error)}`,
          {
            backupId: id,
            leftMs: Math.round(leftMs(this.#end, clock)),
          },
        );
      }
    }
  }

  #isOver(end: TermEnd | undefined): boolean {
    return leftMs(end, this.#options.clock) <= 0;
  }
}

function leftMs(end: TermEnd | undefined, clock: Clock): number {
  if (end === undefined) return 0;
  return Math.min(end.monotonicMs - clock.monotonicMs(), end.wallMs - clock.now().getTime());
}

function removed(id: BackupId, cause?: unknown): PgarkError {
  return new PgarkError('backup-not-found', `retention deleted backup ${id} meanwhile`, {
    hint: 'pgark list shows what there is; a pin holds a backup before it is read',
    cause,
  });
}
