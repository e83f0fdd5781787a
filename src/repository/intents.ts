import { z } from 'zod';
import { assert, isPgarkError, PgarkError } from '../common/errors.ts';
import { allOf } from '../common/in-parallel.ts';
import type { CallOptions, ObjectKey, ObjectStore, UploadInfo } from '../storage/object-store.ts';
import type { Lease } from './held-lease.ts';
import { isBackupId, type BackupId } from './ids.ts';
import { keys, STATE_PREFIX } from './keys.ts';
import { LAYOUT } from './manifest.ts';
import { readState, writeState } from './state-object.ts';

/**
 * What a run is about to write, recorded before its first byte: the trace by which a sweep finds what a crashed run left.
 * Only keys that a backup may own pass, so that no damaged intent ever leads a sweep to anything else.
 */
const intentSchema = z
  .object({
    layout: z.literal(LAYOUT),
    /** The backup's id. */
    id: z.string().refine(isBackupId, 'is no backup id'),
    runId: z.string(),
    leaseName: z.string().min(1),
    /** The lease's token: the intent is live as long as the lease carries it. */
    token: z.string().min(1),
    source: z.string().min(1),
    /** Missing for globals, which are those of a whole server. */
    database: z.string().min(1).optional(),
    startedAt: z.iso.datetime(),
    /** Keys of objects to come, exactly. None of them existed when the intent was written. */
    keys: z.array(z.string().min(1)),
    /** Folders to come: their last segment is the id, so that nobody else's objects lie in them. */
    prefixes: z.array(z.string()),
    /** Uploads that were opened and may still be open. */
    uploads: z.array(z.object({ key: z.string().min(1), uploadId: z.string().min(1) })),
  })
  .superRefine((intent, context) => {
    const bad = [
      ...intent.keys.filter((key) => !mayOwn(intent.id, key)),
      ...intent.prefixes.filter((prefix) => !prefix.endsWith(`/${intent.id}/`) || prefix.startsWith(STATE_PREFIX)),
      ...intent.uploads.map((upload) => upload.key).filter((key) => !isPlanned(intent, key)),
    ];
    for (const key of bad) context.addIssue({ code: 'custom', message: `${key} cannot belong to ${intent.id}` });
  });

export type Intent = z.infer<typeof intentSchema>;

/** Where a run is about to write. */
export interface PlannedPlaces {
  readonly keys?: readonly ObjectKey[];
  /** Folders that end with `/ID/`. */
  readonly prefixes?: readonly string[];
}

export interface IntentPlan extends PlannedPlaces {
  readonly id: BackupId;
  readonly runId: string;
  /** The lease under which the run works; a sweep leaves the intent alone as long as it lives. */
  readonly lease: Lease;
  readonly source: string;
  /** Left out for globals. */
  readonly database?: string;
  readonly startedAt: Date;
}

/** An intent as a sweep finds it. */
export type FoundIntent =
  | { readonly key: ObjectKey; readonly intent: Intent }
  | { readonly key: ObjectKey; readonly error: PgarkError };

/** Whether a backup may own an object of this key at all: pgark's own state, but for the companion, is nobody's data. */
export function mayOwn(id: BackupId, key: ObjectKey): boolean {
  return !key.startsWith(STATE_PREFIX) || key === keys.companion(id);
}

/** Key of what makes the planned data a backup, or the globals of a server: if it is there, the run had come to its end. */
export function commitKeyOf({ id, source, database }: Pick<Intent, 'id' | 'source' | 'database'>): ObjectKey {
  return database === undefined ? keys.globalsRecord(source, id) : keys.manifest(source, database, id);
}

function isPlanned(intent: Pick<Intent, 'keys' | 'prefixes'>, key: ObjectKey): boolean {
  return intent.keys.includes(key) || intent.prefixes.some((prefix) => key.startsWith(prefix));
}

export class IntentLog {
  readonly #store: ObjectStore;

  constructor(store: ObjectStore) {
    this.#store = store;
  }

  /**
   * Records the plan; nothing may be written before this resolves. Rejects with `object-exists` if a planned key is
   * taken, or a planned folder has something in it: what is found there later is therefore the run's own, also in stores
   * that keep no metadata.
   */
  async begin(plan: IntentPlan, options: CallOptions = {}): Promise<OpenIntent> {
    const planned = intentSchema.parse({
      layout: LAYOUT,
      id: plan.id,
      runId: plan.runId,
      leaseName: plan.lease.name,
      token: plan.lease.token,
      source: plan.source,
      ...(plan.database === undefined ? {} : { database: plan.database }),
      startedAt: plan.startedAt.toISOString(),
      keys: [...(plan.keys ?? [])],
      prefixes: [...(plan.prefixes ?? [])],
      uploads: [],
    } satisfies z.input<typeof intentSchema>);
    const { conditionalWrites } = await this.#store.probe({ ...options, asKnown: true });
    await this.refuseTaken(planned, options);
    const condition = { ifAbsent: true } as const;
    const etag = await writeState(this.#store, keys.intent(planned.id), planned, { ...options, condition });
    return new OpenIntent(this.#store, planned, { etag, conditionalWrites });
  }

  /** Error: `object-exists` if one of these keys is taken, or one of these folders has something in it. */
  async refuseTaken({ keys: planned = [], prefixes = [] }: PlannedPlaces, options: CallOptions): Promise<void> {
    const taken = await allOf([
      ...planned.map(async (key) => (await this.#store.head(key, options))?.key),
      ...prefixes.map((prefix) => this.#firstIn(prefix, options)),
    ]);
    for (const key of taken) {
      if (key === undefined) continue;
      throw new PgarkError('object-exists', `${key} is already in ${this.#store.location}`);
    }
  }

  /** All intents, of live runs and dead ones; those that cannot be read come with their error. */
  async *list(options: CallOptions = {}): AsyncIterable<FoundIntent> {
    for await (const { key } of this.#store.list(keys.intentsPrefix, options)) {
      try {
        const intent = await this.#read(key, options);
        // Removed between the listing and now: its run has just ended.
        if (intent) yield { key, intent };
      } catch (error) {
        if (!isPgarkError(error, 'repository-damaged') && !isPgarkError(error, 'repository-unknown-layout'))
          throw error;
        yield { key, error };
      }
    }
  }

  async find(id: BackupId, options: CallOptions = {}): Promise<Intent | undefined> {
    return this.#read(keys.intent(id), options);
  }

  async remove(id: BackupId, options: CallOptions = {}): Promise<void> {
    await this.#store.delete(keys.intent(id), options);
  }

  async #firstIn(prefix: string, options: CallOptions): Promise<ObjectKey | undefined> {
    for await (const { key } of this.#store.list(prefix, options)) return key;
    return undefined;
  }

  async #read(key: ObjectKey, options: CallOptions): Promise<Intent | undefined> {
    const found = await readState(this.#store, key, intentSchema, options);
    if (found === undefined || key === keys.intent(found.value.id)) return found?.value;
    throw new PgarkError('repository-damaged', `${key} in ${this.#store.location} is the intent of ${found.value.id}`);
  }
}

/** The intent of a run that is going on. */
export class OpenIntent {
  readonly id: BackupId;
  readonly #store: ObjectStore;
  readonly #conditionalWrites: boolean;
  readonly #intent: Intent;
  readonly #uploads = new Set<UploadInfo>();
  #etag: string;
  #queue: Promise<unknown> = Promise.resolve();

  constructor(
    store: ObjectStore,
    intent: Intent,
    state: { readonly etag: string; readonly conditionalWrites: boolean },
  ) {
    this.id = intent.id;
    this.#store = store;
    this.#intent = intent;
    this.#etag = state.etag;
    this.#conditionalWrites = state.conditionalWrites;
  }

  /**
   * For `putStream`'s `onUploadOpened`: after this resolves, a sweep finds the upload. May be called for several at once.
   * Rejects with `lease-lost` if a sweep has taken this run for dead, so that it uploads nothing more.
   */
  async addUpload(upload: UploadInfo, options: CallOptions = {}): Promise<void> {
    assert(isPlanned(this.#intent, upload.key), `${upload.key} is planned by the intent ${this.id}`);
    const run = this.#queue.then(async () => {
      this.#uploads.add(upload);
      await this.#write(options);
    });
    this.#queue = run.catch(() => {});
    await run;
  }

  /** Forgets an upload that is completed or aborted, with the next write: keeps the record of a backup of many files small. */
  uploadEnded(upload: UploadInfo): void {
    for (const open of this.#uploads) if (open.uploadId === upload.uploadId) this.#uploads.delete(open);
  }

  /** To be called after the manifest is written, or after a failed run has removed what it wrote. */
  async finish(options: CallOptions = {}): Promise<void> {
    await this.#queue;
    await this.#store.delete(keys.intent(this.id), options);
  }

  async #write(options: CallOptions): Promise<void> {
    const uploads = [...this.#uploads].map(({ key, uploadId }) => ({ key, uploadId }));
    const condition = this.#conditionalWrites ? { condition: { ifMatch: this.#etag } } : {};
    try {
      const intent: Intent = { ...this.#intent, uploads };
      this.#etag = await writeState(this.#store, keys.intent(this.id), intent, { ...options, ...condition });
    } catch (error) {
      if (!isPgarkError(error, 'store-condition-failed')) throw error;
      throw new PgarkError(
        'lease-lost',
        `the intent of ${this.id} was removed by another run, which took this one for dead`,
        { cause: error },
      );
    }
  }
}
