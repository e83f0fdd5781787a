import { PgarkError } from '../../common/errors.ts';
import { drain } from '../../pipeline/drain.ts';
import type { Manifest, ManifestObject } from '../../repository/manifest.ts';
import type { BackupCheck, CheckListener } from '../check-backup.ts';
import { isOfKeys } from '../key-failure.ts';
import type { SourceAccess } from '../load-source.ts';
import { missingPart } from '../missing-part.ts';
import { checkStoredSize, readSealed, readStored, type ReadSealedOptions } from '../sealed-object.ts';

/** The check of a backup whose objects are all named by its manifest. */
export class DumpCheck implements BackupCheck {
  readonly #manifest: Manifest;
  readonly #access: SourceAccess;

  constructor(manifest: Manifest, access: SourceAccess) {
    this.#manifest = manifest;
    this.#access = access;
  }

  async presence(): Promise<void> {
    const { store, signal } = this.#access;
    for (const object of this.#manifest.objects) {
      const info = await store.head(object.key, { signal });
      if (!info) throw missingPart(object.key, this.#manifest, store);
      checkStoredSize(object, info.bytes);
    }
  }

  async content(told: CheckListener): Promise<void> {
    const { store, signal, keys } = this.#access;
    let isLocked = false;
    for (const object of this.#manifest.objects) {
      const onStoredBytes = (bytes: number): void =>
        told.onStoredBytes({ subject: object.key, bytes, bytesTotal: object.storedBytes });
      const options = { signal, onStoredBytes };
      const keyFailure: PgarkError | undefined = isLocked ? undefined : await this.#read(object, { ...options, keys });
      if (keyFailure !== undefined) told.onLocked(keyFailure);
      isLocked ||= keyFailure !== undefined;
      // Also if the key was named: a wrong one and a damaged header cannot always be told apart.
      if (isLocked) await drain(readStored(store, object, options), signal);
    }
  }

  /** Reads the content of an object to its end. Returns why no key opens it, if so. */
  async #read(object: ManifestObject, options: ReadSealedOptions): Promise<PgarkError | undefined> {
    try {
      await drain(readSealed(this.#access.store, this.#manifest, object, options), options.signal);
      return undefined;
    } catch (error) {
      if (error instanceof PgarkError && isOfKeys(error)) return error;
      throw error;
    }
  }
}
