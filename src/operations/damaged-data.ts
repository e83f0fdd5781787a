import { isBackupId } from '../repository/ids.ts';
import { parseManifestKey } from '../repository/keys.ts';
import type { DamagedManifest } from '../repository/repository.ts';
import { ID_METADATA } from '../repository/owned-objects.ts';
import type { CallOptions, ObjectInfo, ObjectStore } from '../storage/object-store.ts';

/** Objects whose metadata is asked for, at one time. */
const HEADS_MAX = 100;

/**
 * Tells which objects are the data of backups whose manifests cannot be read: by the id in the object's metadata or name,
 * else by a name that has the database and the second at which the backup began, as the default template's has. For what
 * is shown to people only: nothing is ever deleted or restored by this.
 */
export class DamagedData {
  readonly #store: ObjectStore;
  readonly #lost: readonly { readonly key: string; readonly id: string; readonly database: string }[];
  #heads = 0;

  constructor(store: ObjectStore, damaged: readonly DamagedManifest[]) {
    this.#store = store;
    this.#lost = damaged.flatMap(({ key }) => {
      const parsed = parseManifestKey(key);
      // A name that no backup has is in the names of anything.
      return parsed === undefined || !isBackupId(parsed.id) ? [] : [{ key, id: parsed.id, database: parsed.database }];
    });
  }

  /** The key of the manifest that cannot be read and surely named this object; undefined if there is none. */
  async manifestOf(object: ObjectInfo, options: CallOptions): Promise<string | undefined> {
    if (this.#lost.length === 0) return undefined;
    const digits = object.key.replaceAll(/\D/gu, '');
    // An id in a name is surer than a second, in which there may be several.
    const named =
      this.#lost.find(({ id }) => object.key.includes(id)) ??
      this.#lost.find(({ id, database }) => {
        const second = id.slice(0, 'YYYYMMDDTHHMMSS'.length).replace('T', '');
        return digits.includes(second) && object.key.includes(database);
      });
    if (named !== undefined) return named.key;
    if (this.#heads === HEADS_MAX) return undefined;
    this.#heads += 1;
    const tag = (await this.#store.head(object.key, options))?.metadata?.[ID_METADATA];
    return tag === undefined ? undefined : this.#lost.find(({ id }) => id === tag)?.key;
  }
}
