import { asPgarkError, isPgarkError, PgarkError } from '../common/errors.ts';
import { allOf } from '../common/in-parallel.ts';
import type { Logger } from '../common/log.ts';
import type { CallOptions, ObjectKey, ObjectStore, UploadInfo } from '../storage/object-store.ts';
import type { Lease } from './held-lease.ts';
import type { BackupId } from './ids.ts';
import { isGlobalsId, readGlobals, refuseForeignData } from './globals.ts';
import { commitKeyOf, IntentLog, type Intent } from './intents.ts';
import { keys } from './keys.ts';
import type { Leases } from './leases.ts';
import { parseManifest } from './manifest.ts';
import { OwnedObjects } from './owned-objects.ts';
import { finishRemoval, PRUNE_LEASE, withdrawIfKept } from './remove-backup.ts';
import type { Repository } from './repository.ts';
import { readStateBytes } from './state-object.ts';

/** The holder's command in leases that are taken to sweep what a dead run left under them: held for a moment only. */
export const SWEEP_COMMAND = 'pgark sweep';

export interface SweepOptions extends CallOptions {
  readonly repository: Repository;
  /** Of the run that sweeps; what it takes for that says so (`SWEEP_COMMAND`). */
  readonly leases: Leases;
  readonly logger: Logger;
  /** Leases that the caller holds: what dead runs left under these names is swept by their right. */
  readonly held?: readonly Lease[];
}

export interface SweepReport {
  /** Backups that a dead run had begun and never committed: what there was of them is gone. */
  readonly orphans: readonly BackupId[];
  /** Backups that were committed by a run that died right after: only the intent was removed. */
  readonly committed: readonly BackupId[];
  /** Deletions that were begun by a run that died, and are finished now. */
  readonly deletions: readonly BackupId[];
  /** Intents under a lease that somebody else holds now: that run's own, or left to it. */
  readonly busy: readonly BackupId[];
  readonly objectsDeleted: number;
  readonly uploadsAborted: number;
  /** Keys that were planned by a dead run and hold an object that is not its own. Never touched. */
  readonly foreign: readonly ObjectKey[];
  /** What could not be swept this time; everything else was. */
  readonly failures: readonly { readonly key: ObjectKey; readonly error: PgarkError }[];
}

/** Whether something may not be there any more that was before. */
export function mayHaveChanged(report: SweepReport): boolean {
  const { orphans, committed, deletions, failures, objectsDeleted, uploadsAborted } = report;
  const counts = [orphans.length, committed.length, deletions.length, failures.length, objectsDeleted, uploadsAborted];
  return counts.some((count) => count > 0);
}

/**
 * Removes what runs that died left behind, as their intents and the begun deletions name it; nothing else is ever
 * touched, whatever its age. An intent is swept only under its own lease, held by the caller or acquired for the
 * purpose, so that no run of the same name is at work. Idempotent; cut off anywhere, the next one finishes it. Rejects
 * only if the intents or deletions cannot be listed, or the signal is aborted.
 */
export async function sweep(options: SweepOptions): Promise<SweepReport> {
  return new Sweep(options).run();
}

class Sweep {
  readonly #store: ObjectStore;
  readonly #options: SweepOptions;
  readonly #call: CallOptions;
  readonly #intents: IntentLog;
  readonly #leases: Leases;
  readonly #owned: OwnedObjects;
  readonly #report = {
    orphans: [] as BackupId[],
    committed: [] as BackupId[],
    deletions: [] as BackupId[],
    busy: [] as BackupId[],
    objectsDeleted: 0,
    uploadsAborted: 0,
    foreign: [] as ObjectKey[],
    failures: [] as { key: ObjectKey; error: PgarkError }[],
  };

  constructor(options: SweepOptions) {
    this.#store = options.repository.store;
    this.#options = options;
    this.#call = options.signal ? { signal: options.signal } : {};
    this.#intents = new IntentLog(this.#store);
    this.#leases = options.leases.as(SWEEP_COMMAND);
    this.#owned = new OwnedObjects(options.repository);
  }

  async run(): Promise<SweepReport> {
    const [, deletions] = await allOf([this.#sweepIntents(), this.#listDeletions()]);
    if (deletions.length > 0) await this.#guarded(keys.lease(PRUNE_LEASE), () => this.#finishDeletions(deletions));
    return this.#report;
  }

  /** By the right to prune, which whoever prunes now has: who removes backups decides alone whether a pin or a reader came in time. */
  async #finishDeletions(deletions: readonly ObjectKey[]): Promise<void> {
    const { held = [] } = this.#options;
    const own = held.find(({ name }) => name === PRUNE_LEASE);
    const lease = own ?? (await this.#tryAcquire(PRUNE_LEASE));
    if (lease === undefined) return;
    try {
      for (const key of deletions) {
        await lease.confirm();
        await this.#guarded(key, () => this.#finishDeletion(key));
      }
    } finally {
      if (own === undefined) await lease.release();
    }
  }

  async #sweepIntents(): Promise<void> {
    for await (const found of this.#intents.list(this.#call)) {
      if ('error' in found) this.#fail(found.key, found.error);
      else await this.#guarded(found.key, () => this.#sweepUnderLease(found.intent));
    }
  }

  async #listDeletions(): Promise<readonly ObjectKey[]> {
    const found: ObjectKey[] = [];
    for await (const { key } of this.#store.list(keys.deletedPrefix, this.#call)) found.push(key);
    return found;
  }

  /** One that fails does not keep the others from being swept. */
  async #guarded(key: ObjectKey, action: () => Promise<void>): Promise<void> {
    try {
      await action();
    } catch (error) {
      this.#options.signal?.throwIfAborted();
      this.#fail(key, asPgarkError(error));
    }
  }

  #fail(key: ObjectKey, error: PgarkError): void {
    this.#options.logger.warning('sweep.failed', `${key} could not be swept: ${error.message}`, {
      key,
      code: error.code,
    });
    this.#report.failures.push({ key, error });
  }

  async #sweepUnderLease(intent: Intent): Promise<void> {
    const { held = [] } = this.#options;
    const own = held.find((lease) => lease.name === intent.leaseName);
    if (own?.token === intent.token) return;
    if (own) {
      await this.#sweepIntent(intent, own);
      return;
    }
    const acquired = await this.#tryAcquire(intent.leaseName);
    if (acquired === undefined) {
      this.#report.busy.push(intent.id);
      return;
    }
    try {
      await this.#sweepIntent(intent, acquired);
    } finally {
      await acquired.release();
    }
  }

  async #tryAcquire(name: string): Promise<Lease | undefined> {
    try {
      return await this.#leases.acquire(name, this.#call);
    } catch (error) {
      if (isPgarkError(error, 'locked')) return undefined;
      throw error;
    }
  }

  async #sweepIntent(listed: Intent, lease: Lease): Promise<void> {
    const { logger, signal } = this.#options;
    const { id, source, database } = listed;
    const call = { signal: signal ? AbortSignal.any([signal, lease.lost]) : lease.lost };
    await lease.confirm();
    // Read again under the lease: its run may have ended well since the listing, and added uploads before it died.
    const intent = await this.#intents.find(id, call);
    if (intent === undefined) return;
    const manifestKey = commitKeyOf(listed);
    if (await this.#store.head(manifestKey, call)) {
      await this.#intents.remove(id, call);
      this.#report.committed.push(id);
      return;
    }
    await this.#abortUploads(intent, call);
    for (const key of intent.keys) await this.#deleteOwned(key, id, lease, call);
    for (const prefix of intent.prefixes) {
      for await (const { key } of this.#store.list(prefix, call)) {
        await this.#deleteOwned(key, id, lease, call);
      }
    }
    if (await this.#store.head(manifestKey, call)) await this.#withdraw(intent, manifestKey, call);
    await this.#intents.remove(id, call);
    this.#report.orphans.push(id);
    logger.info('sweep.orphan-removed', `removed what the dead run ${intent.runId} left of ${id}`, {
      backupId: id,
      source,
      database,
      deadRunId: intent.runId,
    });
  }

  async #abortUploads(intent: Intent, call: CallOptions): Promise<void> {
    const uploads: UploadInfo[] = [...intent.uploads];
    const known = new Set(uploads.map((upload) => upload.uploadId));
    for (const place of [...intent.keys, ...intent.prefixes]) {
      for await (const upload of this.#store.listUploads(place, call)) {
        // `listUploads` goes by prefix: `shop` would also give `shop-eu`.
        const planned = upload.key === place || intent.prefixes.includes(place);
        if (planned && !known.has(upload.uploadId)) uploads.push(upload);
      }
    }
    for (const upload of uploads) {
      await this.#store.abortUpload(upload, call);
      this.#report.uploadsAborted += 1;
    }
  }

  /**
   * A run that was stopped after its last look at the lease, and went on in the middle of this sweep, has committed what
   * is not there any more. It lost its lease, so it has committed nothing.
   */
  async #withdraw(intent: Intent, manifestKey: ObjectKey, call: CallOptions): Promise<void> {
    const { logger } = this.#options;
    await this.#store.delete(manifestKey, call);
    logger.error(
      'sweep.late-commit-withdrawn',
      `${intent.id} was committed by a run that had lost its lease; withdrawn`,
      {
        backupId: intent.id,
        deadRunId: intent.runId,
      },
    );
  }

  async #finishDeletion(key: ObjectKey): Promise<void> {
    const deletedId = key.slice(keys.deletedPrefix.length).replace(/\.json$/, '');
    if (isGlobalsId(deletedId)) return this.#finishGlobalsDeletion(key);
    const found = await readStateBytes(this.#store, key, this.#call);
    if (found === undefined) return;
    const manifest = parseManifest(found.bytes, key);
    const { id, source } = manifest;
    if (keys.deleted(id) !== key) throw new PgarkError('repository-damaged', `${key} is the manifest of ${id}`);
    const withdrawn = await withdrawIfKept(this.#options.repository, manifest, this.#call);
    if (withdrawn !== undefined) {
      const { kept } = withdrawn;
      const why = kept === 'pinned' ? 'it is pinned' : `it is read by ${kept.reader}`;
      const what = `the deletion of ${id} is not finished: ${why}, and stays`;
      this.#options.logger.info('sweep.deletion-withdrawn', what, { backupId: id, source });
      return;
    }
    const options = { ...this.#call, owned: this.#owned };
    const { objectsDeleted, foreign } = await finishRemoval(this.#options.repository, manifest, options);
    this.#report.objectsDeleted += objectsDeleted;
    for (const kept of foreign) this.#keepForeign(kept, id);
    this.#report.deletions.push(id);
    this.#options.logger.info('sweep.deletion-finished', `finished the deletion of ${id}`, { backupId: id, source });
  }

  async #finishGlobalsDeletion(key: ObjectKey): Promise<void> {
    const globals = await readGlobals(this.#store, key, this.#call);
    if (globals === undefined) return;
    const { id, source, object } = globals;
    refuseForeignData(globals, key);
    await this.#store.delete(keys.globalsRecord(source, id), this.#call);
    const deletion = await this.#owned.delete(object.key, id, { ...this.#call, recorded: object });
    if (deletion === 'deleted') this.#report.objectsDeleted += 1;
    if (deletion === 'foreign') this.#keepForeign(object.key, id);
    await this.#store.delete(key, this.#call);
    this.#report.deletions.push(id);
    this.#options.logger.info('sweep.deletion-finished', `finished the deletion of ${id}`, { backupId: id, source });
  }

  async #deleteOwned(key: ObjectKey, id: BackupId, lease: Lease, call: CallOptions): Promise<void> {
    const deletion = await this.#owned.delete(key, id, { ...call, beforeDelete: () => lease.lost.throwIfAborted() });
    if (deletion === 'deleted') this.#report.objectsDeleted += 1;
    if (deletion === 'foreign') this.#keepForeign(key, id);
  }

  #keepForeign(key: ObjectKey, id: BackupId): void {
    this.#options.logger.warning('sweep.foreign-kept', `${key} is not what ${id} wrote there; it stays`, {
      key,
      backupId: id,
    });
    this.#report.foreign.push(key);
  }
}
