import { createHash } from 'node:crypto';
import type { CallOptions, ObjectInfo, ObjectKey, ObjectStore } from '../storage/object-store.ts';
import type { BackupId } from './ids.ts';
import { IntentLog, mayOwn } from './intents.ts';
import type { ManifestObject } from './manifest.ts';
import { dataKeysOf, type Repository } from './repository.ts';

/** Metadata by which a data object says which backup it belongs to. */
export const ID_METADATA = 'pgark-id';

/** What the deletion of an object came to; `foreign`: somebody else's took its place, and stays. */
export type Deletion = 'deleted' | 'absent' | 'foreign';

interface DeleteOptions extends CallOptions {
  /** As the manifest describes the object, where there is a manifest. */
  readonly recorded?: ManifestObject | undefined;
  /** Called before the object is deleted; if it throws, nothing is. */
  readonly beforeDelete?: () => void;
}

/**
 * Deletes objects of backups, and nothing that somebody else put in their place. One of these serves one sweep or prune:
 * who claims which key is read once.
 */
export class OwnedObjects {
  readonly #repository: Repository;
  readonly #store: ObjectStore;
  readonly #intents: IntentLog;
  #claims: Promise<ReadonlyMap<ObjectKey, ReadonlySet<string>>> | undefined;

  constructor(repository: Repository) {
    this.#repository = repository;
    this.#store = repository.store;
    this.#intents = new IntentLog(repository.store);
  }

  async delete(key: ObjectKey, id: BackupId, options: DeleteOptions = {}): Promise<Deletion> {
    const info = await this.#store.head(key, options);
    return info === undefined ? 'absent' : this.deleteFound(info, id, options);
  }

  /** The same of an object that is there. */
  async deleteFound(info: ObjectInfo, id: BackupId, options: DeleteOptions = {}): Promise<Deletion> {
    if (!(await this.#isOwned(info, id, options.recorded, options))) return 'foreign';
    options.beforeDelete?.();
    await this.#store.delete(info.key, options);
    return 'deleted';
  }

  /** Whether an object is surely the backup's own, by the best evidence there is. */
  async #isOwned(
    info: ObjectInfo,
    id: BackupId,
    recorded: ManifestObject | undefined,
    call: CallOptions,
  ): Promise<boolean> {
    if (!mayOwn(id, info.key)) return false;
    const tag = info.metadata?.[ID_METADATA];
    if (tag !== undefined) return tag === id;
    // The id is unique, so a key that carries it is evidence by itself.
    if (info.key.split('/').some((segment) => segment === id || segment.startsWith(`${id}.`))) return true;
    if (recorded !== undefined) {
      if (!(await this.#isAsRecorded(info, recorded, call))) return false;
      // A later backup may have written the very same bytes under the same name.
      return this.#isClaimedByNoOther(info.key, id, call);
    }
    // An object store keeps the metadata that every data object is written with.
    if (info.metadata !== undefined || this.#store.kind === 's3') return false;
    return this.#isSurelyUnclaimed(info.key, id, call);
  }

  /** By its tag; or by its bytes, since a repository that was copied elsewhere has other tags there. */
  async #isAsRecorded(info: ObjectInfo, recorded: ManifestObject, call: CallOptions): Promise<boolean> {
    if (recorded.etag !== undefined && info.etag === recorded.etag) return true;
    if (info.bytes !== recorded.storedBytes) return false;
    const hash = createHash('sha256');
    const { body } = await this.#store.get(info.key, call);
    for await (const block of body) hash.update(block);
    return hash.digest('hex') === recorded.storedSha256;
  }

  /** Records that cannot be read claim nothing here: the object is known to be what the backup wrote. */
  async #isClaimedByNoOther(key: ObjectKey, id: BackupId, call: CallOptions): Promise<boolean> {
    this.#claims ??= this.#readClaims(call);
    const claimants = (await this.#claims).get(key) ?? new Set();
    return [...claimants].every((claimant) => claimant === id);
  }

  async #readClaims(call: CallOptions): Promise<ReadonlyMap<ObjectKey, ReadonlySet<string>>> {
    const claims = new Map<ObjectKey, Set<string>>();
    const claim = (key: ObjectKey, id: string): void => {
      const claimants = claims.get(key) ?? new Set();
      claims.set(key, claimants.add(id));
    };
    const { manifests } = await this.#repository.backups({}, call);
    for (const manifest of manifests) for (const key of dataKeysOf(manifest)) claim(key, manifest.id);
    for await (const found of this.#intents.list(call)) {
      if ('intent' in found) for (const key of found.intent.keys) claim(key, found.intent.id);
    }
    return claims;
  }

  /** Where nothing else proves it: no other backup has it, and no other intent plans it. Rejects if one of them cannot be read. */
  async #isSurelyUnclaimed(key: ObjectKey, id: BackupId, call: CallOptions): Promise<boolean> {
    const { manifests, damaged } = await this.#repository.backups({}, call);
    for (const { error } of damaged) throw error;
    if (manifests.some((manifest) => manifest.id !== id && dataKeysOf(manifest).includes(key))) return false;
    for await (const found of this.#intents.list(call)) {
      if ('error' in found) throw found.error;
      if (found.intent.id !== id && found.intent.keys.includes(key)) return false;
    }
    return true;
  }
}
