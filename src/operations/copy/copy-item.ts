import { assert, isPgarkError, messageOf, PgarkError } from '../../common/errors.ts';
import { inParallel } from '../../common/in-parallel.ts';
import { readStored, type StoredFacts } from '../../formats/sealed-object.ts';
import { type Confirmed, CopiedRecord } from '../../repository/copied-record.ts';
import type { Lease } from '../../repository/held-lease.ts';
import type { BackupId } from '../../repository/ids.ts';
import { IntentLog, mayOwn, type OpenIntent, type PlannedPlaces } from '../../repository/intents.ts';
import { keys } from '../../repository/keys.ts';
import { ID_METADATA } from '../../repository/owned-objects.ts';
import type { Run } from '../../runs/run.ts';
import { lockEnd } from '../../storage/object-lock.ts';
import type { ObjectKey, UploadInfo } from '../../storage/object-store.ts';
import { cleanUp } from '../backup-clean-up.ts';
import type { CopyPlace } from './copy-request.ts';
import { fromFirst } from './copy-source.ts';

/** Objects that are on their way at once. */
const OBJECTS_AT_ONCE = 4;

/** What is copied under an intent of its own, and exists by one record: a backup, or the globals of a server. */
export interface CopyItem {
  readonly id: BackupId;
  readonly source: string;
  /** Undefined for globals. */
  readonly database: string | undefined;
  readonly startedAt: Date;
  readonly host: string;
  readonly recordKey: ObjectKey;
  readonly objects: readonly StoredFacts[];
  readonly places: Required<PlannedPlaces>;
  /** Storages that have it, in the order in which they are asked. */
  readonly from: readonly CopyPlace[];
  /** Takes it away again, where it turns out that the lease was lost before the commit. */
  readonly withdraw: () => Promise<void>;
}

export interface CopyWorld {
  readonly to: CopyPlace;
  readonly run: Run;
  readonly lease: Lease;
  readonly signal: AbortSignal;
  /** Bytes have come, or gone, or wait for a limit of our own. */
  readonly onMoved: () => void;
  /** Makes a listener for the bytes of one object that are stored. */
  readonly tally: () => (bytesTotal: number) => void;
}

/** One item on its way: intent → objects → record → intent removed. */
export class CopyUnderWay {
  readonly item: CopyItem;
  readonly #world: CopyWorld;
  readonly #intent: OpenIntent;
  readonly #confirmed = new Map<ObjectKey, Confirmed>();
  #commitBegun = false;

  private constructor(item: CopyItem, world: CopyWorld, intent: OpenIntent) {
    this.item = item;
    this.#world = world;
    this.#intent = intent;
  }

  /** Error: `object-exists` where something lies where it goes; nothing is written then. */
  static async begin(item: CopyItem, world: CopyWorld): Promise<CopyUnderWay> {
    const { id, source, database, startedAt, places } = item;
    const { to, run, lease, signal } = world;
    refuseForeign(item);
    await refuseRemoval(item, world);
    const named = database === undefined ? {} : { database };
    const plan = { id, runId: run.id, lease, source, ...named, startedAt, ...places };
    const beginning = new IntentLog(to.store).begin(plan, { signal });
    return new CopyUnderWay(item, world, await beginning.catch(explainTaken));
  }

  /** Errors: `corrupt` where no storage gives an object as it was recorded; `store-…`. */
  async putAll(): Promise<void> {
    const { objects } = this.item;
    await inParallel(objects, OBJECTS_AT_ONCE, this.#world.signal, async (take, signal) => {
      for (let object = take(); object !== undefined; object = take()) await this.#put(object, signal);
    });
  }

  /** The lease looked at, the record, the lease looked at again. From then on it exists. */
  async commit(): Promise<void> {
    const { lease, run, signal, to } = this.#world;
    const { id, from, recordKey } = this.item;
    const lockedUntil = await this.#lockEnd();
    const work = { what: id, logger: run.logger, signal };
    const record = await fromFirst(from, work, ({ store }) => CopiedRecord.read(store, recordKey, { signal }));
    await refuseRemoval(this.item, this.#world);
    await lease.confirm();
    signal.throwIfAborted();
    // From here on nothing is taken back: a record that may have arrived keeps its data. No signal cuts this short.
    this.#commitBegun = true;
    await record.commit(to.store, this.#confirmed, lockedUntil);
    await this.#confirmCommit();
    await this.#intent.finish().catch((error: unknown) => {
      const what = `the intent of the copy ${id} stays until the next run: ${messageOf(error)}`;
      run.logger.warning('intent.finish_failed', what);
    });
  }

  /** Of a backup in a store that locks; the record of globals says nothing of it. */
  async #lockEnd(): Promise<Date | undefined> {
    const { to, signal } = this.#world;
    const { lock } = await to.store.probe({ signal });
    return lock === undefined || this.item.database === undefined
      ? undefined
      : lockEnd(await to.store.now({ signal }), lock);
  }

  /** Removes what there is of one that was not committed. Never rejects. */
  async giveUp(error: PgarkError, signal: AbortSignal): Promise<void> {
    if (this.#commitBegun) return;
    const { id, startedAt, places } = this.item;
    const { to, run, lease } = this.#world;
    const name = { id, startedAt, key: this.item.recordKey, ...places };
    const etags = new Map([...this.#confirmed].map(([key, { etag }]) => [key, etag]));
    const left = { name, etags, intent: this.#intent, lost: lease.lost.aborted, error };
    await cleanUp(to.store, left, { logger: run.logger, signal });
  }

  async #put(object: StoredFacts, signal: AbortSignal): Promise<void> {
    const { run } = this.#world;
    let failure: unknown;
    const work = { what: this.item.id, logger: run.logger, signal };
    const attempt = (place: CopyPlace): Promise<void> =>
      this.#putFrom(place, object, {
        signal,
        onSourceFailure: (thrown) => {
          failure = thrown;
        },
      });
    await fromFirst(this.item.from, work, attempt, (thrown) => thrown === failure);
  }

  async #putFrom(
    { store }: CopyPlace,
    object: StoredFacts,
    { signal, onSourceFailure }: { readonly signal: AbortSignal; readonly onSourceFailure: (thrown: unknown) => void },
  ): Promise<void> {
    const { to, onMoved, tally } = this.#world;
    const { id, places, objects, startedAt, database, host } = this.item;
    const { key, storedBytes } = object;
    const onBytes = tally();
    const uploads: UploadInfo[] = [];
    const body = async function* (): AsyncGenerator<Uint8Array> {
      try {
        // What completes it is given away only when the digest is right.
        for await (const block of readStored(store, object, { signal, onStoredBytes: onMoved })) yield block;
      } catch (error) {
        onSourceFailure(error);
        throw error;
      }
    };
    try {
      const stored = await to.store.putStream(key, body(), {
        metadata: {
          [ID_METADATA]: id,
          'pgark-timestamp': startedAt.toISOString(),
          ...(database === undefined ? {} : { 'pgark-database': database }),
          'pgark-host': host,
        },
        bytesEstimateMax: storedBytes,
        nameIsFree: places.prefixes.some((prefix) => key.startsWith(prefix)),
        putsAtOnce: Math.min(OBJECTS_AT_ONCE, objects.length),
        onUploadOpened: async (upload) => {
          uploads.push(upload);
          await this.#intent.addUpload(upload);
        },
        onBytesStored: (bytes) => {
          onMoved();
          onBytes(bytes);
        },
        onHeldBack: onMoved,
        signal,
      });
      assert(stored.bytes === storedBytes, `the store holds ${stored.bytes} bytes of ${key}, ${storedBytes} were sent`);
      this.#confirmed.set(key, { etag: stored.etag, confirmedBy: stored.confirmedBy });
    } finally {
      for (const upload of uploads) this.#intent.uploadEnded(upload);
    }
  }

  /** A run that was stopped before its record arrived may have been swept meanwhile: it takes its copy back. */
  async #confirmCommit(): Promise<void> {
    const { lease, run } = this.#world;
    try {
      await lease.confirm();
    } catch (error) {
      if (isPgarkError(error, 'lease-lost')) {
        await this.item.withdraw();
        throw error;
      }
      const what = `the lease could not be looked at after the commit: ${messageOf(error)}`;
      run.logger.warning('lease.unconfirmed', what);
    }
  }
}

/** That something has the place of a copy is nothing that another name would change. */
export function explainTaken(error: unknown): never {
  if (!isPgarkError(error, 'object-exists')) throw error;
  throw new PgarkError('object-exists', `${error.message}, where the copy would lie, and is not of it`, {
    hint: 'nothing is ever replaced: see what it is, and move it away; or copy into another storage',
    cause: error,
  });
}

/** The record comes from a storage into which others may write. Error: `repository-damaged`. */
export function refuseForeign({ id, objects, places, recordKey }: CopyItem): void {
  const isPlanned = (key: ObjectKey): boolean =>
    places.keys.includes(key) || places.prefixes.some((prefix) => key.startsWith(prefix));
  const foreign = objects.find(({ key }) => !mayOwn(id, key) || !isPlanned(key));
  if (foreign === undefined) return;
  throw new PgarkError('repository-damaged', `${recordKey} names ${foreign.key}, which cannot be of ${id}`);
}

/**
 * A removal that was begun there and not finished would take the copy with it: the record that it goes by is of the same id.
 * Error: `locked`.
 */
export async function refuseRemoval(
  { id }: Pick<CopyItem, 'id'>,
  { to, signal }: Pick<CopyWorld, 'to' | 'signal'>,
): Promise<void> {
  if ((await to.store.head(keys.deleted(id), { signal })) === undefined) return;
  throw new PgarkError('locked', `a prune is removing an earlier copy of ${id} from ${to.name} at this moment`, {
    hint: `wait for it to end, or finish it: pgark prune --storage ${to.name}; then copy again`,
  });
}
