import { isDeepStrictEqual } from 'node:util';
import { z } from 'zod';
import { isPgarkError, messageOf } from '../common/errors.ts';
import type { Logger } from '../common/log.ts';
import { emptyNotificationState, type NotificationState, notificationStateSchema } from '../notify/state.ts';
import { keys } from '../repository/keys.ts';
import { readState, writeState } from '../repository/state-object.ts';
import type { CallOptions, ObjectStore, WriteCondition } from '../storage/object-store.ts';

/** Others that wrote in between, one after the other, before a storage is given up. */
const LOST_RACES_MAX = 10;

/** `.pgark/notifications.json`: what was told to whom, and how often that was written, so that of several copies one is the newest. */
const keptSchema = notificationStateSchema.extend({ revision: z.number().int().nonnegative() });
type Kept = z.infer<typeof keptSchema>;

interface Place {
  readonly name: string;
  readonly store: ObjectStore;
  readonly found: { readonly kept: Kept; readonly etag: string } | undefined;
}

/** What is known of the state at one moment. */
export interface Recollection {
  readonly state: NotificationState;
  /** Storages that could be read, in the order of the configuration. */
  readonly places: readonly Place[];
}

/**
 * Where the state of notifications is kept: in the first storage of the configuration that takes it, whose conditional
 * writes keep processes apart, with copies in all others; and in this process for as long as no storage takes it. All
 * storages are read, and the copy with the highest revision counts: while the first storage is away the next one goes on
 * from its copy, and what is told meanwhile is not forgotten when the first one is back.
 */
export class NotificationMemory {
  readonly #logger: Logger;
  #own: Kept = { ...emptyKept };

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  /** Never rejects: a storage that cannot be read is left out, and is not written to either. */
  async recall(stores: ReadonlyMap<string, () => Promise<ObjectStore>>, call: CallOptions): Promise<Recollection> {
    const read = await Promise.all(
      [...stores].map(async ([name, open]): Promise<readonly Place[]> => {
        try {
          const store = await open();
          const found = await readState(store, keys.notifications, keptSchema, call);
          return [{ name, store, found: found && { kept: found.value, etag: found.etag } }];
        } catch (error) {
          const sentence = `what was told before could not be read from the storage ${name}: ${messageOf(error)}`;
          this.#logger.warning('notification.state_unread', sentence, { storage: name });
          return [];
        }
      }),
    );
    const places = read.flat();
    return { state: newest([this.#own, ...keptIn(places)]), places };
  }

  /**
   * Keeps what `change` makes of the state: of the one recalled, or of a newer one if somebody else wrote it in between; so
   * `change` may be called several times. Never rejects; what no storage takes is remembered by this process alone.
   */
  async keep(
    recalled: Recollection,
    change: (state: NotificationState) => NotificationState,
    call: CallOptions,
  ): Promise<void> {
    for (const place of recalled.places) {
      try {
        const kept = await this.#keepIn(place, recalled, change, call);
        this.#remember(kept);
        await this.#copy(
          kept,
          recalled.places.filter((other) => other !== place),
          call,
        );
        return;
      } catch (error) {
        const sentence = `what was told could not be kept in the storage ${place.name}: ${messageOf(error)}`;
        this.#logger.debug('notification.state_refused', sentence, { storage: place.name });
      }
    }
    const base = newest([this.#own, ...keptIn(recalled.places)]);
    const state = change(base);
    if (isDeepStrictEqual(state, base)) return;
    this.#remember(withRevision(state, base.revision + 1));
    const sentence = 'no storage takes what was told to whom: another process may tell it again, or miss a recovery';
    this.#logger.warning('notification.state_unkept', sentence);
  }

  async #keepIn(
    place: Place,
    recalled: Recollection,
    change: (state: NotificationState) => NotificationState,
    call: CallOptions,
  ): Promise<Kept> {
    const { store } = place;
    let { found } = place;
    for (let lost = 0; ; lost += 1) {
      const base = newest([this.#own, ...keptIn(recalled.places), ...(found === undefined ? [] : [found.kept])]);
      const state = change(base);
      // Most runs change nothing, and write nothing. What only this process knows is written with the next change.
      if (isDeepStrictEqual(state, base)) return base;
      const kept = withRevision(state, base.revision + 1);
      try {
        await writeIfUnchanged(store, kept, found, call);
        return kept;
      } catch (error) {
        if (!isPgarkError(error, 'store-condition-failed') || lost >= LOST_RACES_MAX) throw error;
        const again = await readState(store, keys.notifications, keptSchema, call);
        found = again && { kept: again.value, etag: again.etag };
      }
    }
  }

  /** Where a copy is missing or old. One that is newer by now, or cannot be written, is as good as it is. */
  async #copy(kept: Kept, places: readonly Place[], call: CallOptions): Promise<void> {
    const old = places.filter(({ found }) => (found?.kept.revision ?? 0) < kept.revision);
    await Promise.all(
      old.map(async ({ name, store, found }) => {
        try {
          await writeIfUnchanged(store, kept, found, call);
        } catch (error) {
          const sentence = `what was told could not be copied to the storage ${name}: ${messageOf(error)}`;
          this.#logger.debug('notification.state_refused', sentence, { storage: name });
        }
      }),
    );
  }

  #remember(kept: Kept): void {
    this.#own = newest([this.#own, kept]);
  }
}

/** Without conditional writes the last one wins; two runs that end at once may tell something twice then. */
async function writeIfUnchanged(
  store: ObjectStore,
  kept: Kept,
  found: Place['found'],
  call: CallOptions,
): Promise<void> {
  const condition: WriteCondition = found === undefined ? { ifAbsent: true } : { ifMatch: found.etag };
  const { conditionalWrites } = await store.probe(call);
  await writeState(store, keys.notifications, kept, { ...call, ...(conditionalWrites ? { condition } : {}) });
}

const emptyKept: Kept = { ...withRevision(emptyNotificationState, 0) };

function keptIn(places: readonly Place[]): readonly Kept[] {
  return places.flatMap(({ found }) => (found === undefined ? [] : [found.kept]));
}

/** Of equals the last one: a storage's own counts more than what this process remembers. */
function newest(copies: readonly Kept[]): Kept {
  return copies.reduce((best, each) => (each.revision >= best.revision ? each : best), emptyKept);
}

/** With what a later version has written beside it, which is kept as it is. */
function withRevision(state: NotificationState, revision: number): Kept {
  return { ...state, revision };
}
