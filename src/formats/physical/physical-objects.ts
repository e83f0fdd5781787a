import type { ByteStream } from '../../common/bytes.ts';
import { PgarkError } from '../../common/errors.ts';
import { keys } from '../../repository/keys.ts';
import type { Manifest, ManifestObject } from '../../repository/manifest.ts';
import type { SourceAccess } from '../load-source.ts';
import { missingPart, readPart } from '../missing-part.ts';
import { BackupOpener, type KEY_ROLE } from '../own-key.ts';
import { checkStoredSize, readDecrypted, readSealed, type ReadSealedOptions, type Seal } from '../sealed-object.ts';
import { bareName, decryptedName, storedForm } from '../stored-form.ts';
import { archiveName, type ArchiveOf } from './archive-files.ts';

/** What the objects of a physical backup are. */
export type PhysicalRole = 'base' | 'tablespace' | 'backup_manifest' | 'sums' | typeof KEY_ROLE;

/** Names of its files besides the archives, without the endings of encryption. */
export const FILES = { manifest: 'backup_manifest', sums: 'SHA256SUMS' } as const;

/** What stands for the data directory where tablespaces are told by their oids. */
export const DATA_DIRECTORY = 'base';

/** As stock tools want it. */
export const UNCOMPRESSED: Seal = { compression: { algorithm: 'none', level: 0 } };

/** An archive of a physical backup, as it lies in a store. */
export interface StoredArchive extends ArchiveOf {
  /** Where the tablespace was on the server; empty for the data directory. */
  readonly location: string;
  readonly object: ManifestObject;
}

type ReadOptions = Pick<ReadSealedOptions, 'onStoredBytes' | 'blocksInFlightMax'> & { readonly signal: AbortSignal };

/** The objects of one physical backup. */
export class PhysicalObjects {
  readonly manifest: Manifest;
  /** What all its keys begin with: `main/base/20261120T020000Z-fabcdef/`. */
  readonly folder: string;
  readonly access: SourceAccess;
  readonly #opener: BackupOpener;

  constructor(manifest: Manifest, access: SourceAccess) {
    this.manifest = manifest;
    this.folder = keys.basePrefix(manifest.source, manifest.id);
    this.access = access;
    const { signal } = access;
    this.#opener = new BackupOpener(manifest, access.keys, (key) => this.read(key, { signal }));
  }

  /** Error: `repository-damaged` for a manifest that does not name it. */
  named(role: Exclude<PhysicalRole, 'tablespace'>): ManifestObject {
    return this.#one((object) => object.role === role, `role ${role}`);
  }

  /** The data directory first, which is the longest as a rule. Error: `repository-damaged`. */
  archives(): readonly StoredArchive[] {
    const tablespaces = (this.manifest.tablespaces ?? []).map(({ oid, location }) => {
      const name = archiveName({ oid });
      return { oid, location, object: this.#one((object) => this.#bare(object) === name, `name ${name}`) };
    });
    return [{ oid: undefined, location: '', object: this.named('base') }, ...tablespaces];
  }

  /** Error: `corrupt` for the first object that is not in the store, or has another length. */
  async checkPresence(): Promise<void> {
    const { store, signal } = this.access;
    const sizes = new Map<string, number>();
    for await (const { key, bytes } of store.list(this.folder, { signal })) sizes.set(key, bytes);
    for (const object of this.manifest.objects) {
      const bytes = sizes.get(object.key);
      if (bytes === undefined) throw missingPart(object.key, this.manifest, store);
      checkStoredSize(object, bytes);
    }
  }

  /** The plain bytes of an object, checked as `readSealed` does. */
  async *read(object: ManifestObject, options: ReadOptions): ByteStream {
    const { encryption, keys: opening } = await this.#opener.openingOf(object);
    const form = { compression: storedForm(object, this.manifest).compression, encryption };
    yield* this.#part(object, readSealed(this.access.store, form, object, { ...options, keys: opening }));
  }

  /** The same as it was compressed. */
  async *readDecrypted(object: ManifestObject, options: ReadOptions): ByteStream {
    const { encryption, keys: opening } = await this.#opener.openingOf(object);
    yield* this.#part(object, readDecrypted(this.access.store, { encryption }, object, { ...options, keys: opening }));
  }

  /** A file's name without what encryption adds to it. */
  decryptedName({ key }: ManifestObject): string {
    return decryptedName(key.slice(this.folder.length), this.manifest);
  }

  #part({ key }: ManifestObject, stream: ByteStream): ByteStream {
    return readPart(stream, key, this.manifest, this.access.store);
  }

  #bare({ key }: ManifestObject): string {
    return bareName(key.slice(this.folder.length), this.manifest);
  }

  #one(matches: (object: ManifestObject) => boolean, what: string): ManifestObject {
    const found = this.manifest.objects.filter(matches);
    const [object] = found;
    if (object !== undefined && found.length === 1) return object;
    throw new PgarkError(
      'repository-damaged',
      `the manifest of ${this.manifest.id} names ${found.length} objects of ${what}, where a physical backup has one`,
    );
  }
}
