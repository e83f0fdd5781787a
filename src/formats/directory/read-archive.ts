import { type ByteStream, MIB } from '../../common/bytes.ts';
import { PgarkError } from '../../common/errors.ts';
import { verifyDigest } from '../../pipeline/digest.ts';
import type { DecryptionKeys } from '../../pipeline/encryption/sealer.ts';
import { meter } from '../../pipeline/meter.ts';
import { keys } from '../../repository/keys.ts';
import type { Manifest, ManifestObject } from '../../repository/manifest.ts';
import type { ObjectStore } from '../../storage/object-store.ts';
import { missingPart, readPart } from '../missing-part.ts';
import { BackupOpener } from '../own-key.ts';
import {
  checkStoredSize,
  readDecrypted,
  readSealed,
  readStored,
  type ReadSealedOptions,
  type StoredFacts,
} from '../sealed-object.ts';
import { bareName, decryptedName, storedForm } from '../stored-form.ts';
import { comparingRows } from './comparing-rows.ts';
import { type ArchiveContents, type ArchiveFile, parseContents } from './contents.ts';

/** The objects of an archive that its manifest names; all others are named by the one of role `contents`. */
export type NamedRole = 'toc' | 'custom-toc' | 'contents' | 'sums';

/** What is known of an object as it is stored. */
export type StoredObjectFacts = StoredFacts & Pick<ManifestObject, 'role'>;

/** Far more than the contents of a million files or the TOC of a million objects take; beyond it memory would be at risk. */
const NAMED_BYTES_MAX = 1024 * MIB;

/** The objects of one backup of format directory, as they lie in a store. */
export class ArchiveObjects {
  readonly manifest: Manifest;
  /** What all its keys begin with: `shop/archive/20261120T020000Z-dabcdef/`. */
  readonly folder: string;
  readonly #store: ObjectStore;
  readonly #signal: AbortSignal;
  readonly #opener: BackupOpener;

  constructor(
    manifest: Manifest,
    access: { readonly store: ObjectStore; readonly keys: DecryptionKeys; readonly signal: AbortSignal },
  ) {
    this.manifest = manifest;
    this.folder = keys.archivePrefix(manifest.source, manifest.id);
    this.#store = access.store;
    this.#signal = access.signal;
    this.#opener = new BackupOpener(manifest, access.keys, (key) => this.read(key));
  }

  /** Error: `repository-damaged` for a manifest that does not name it. */
  named(role: NamedRole): ManifestObject {
    const found = this.manifest.objects.filter((object) => object.role === role);
    const [object] = found;
    if (object !== undefined && found.length === 1) return object;
    throw new PgarkError(
      'repository-damaged',
      `the manifest of ${this.manifest.id} names ${found.length} objects of role ${role}, where an archive has one`,
    );
  }

  /** What the list of contents says of a file as it is stored. */
  objectOf({ name, role, storedBytes, storedSha256 }: ArchiveFile): StoredObjectFacts {
    return { key: this.folder + name, role, storedBytes, storedSha256 };
  }

  /** All bytes of an object of the manifest. Errors as those of `read`. */
  async bytesOf(role: NamedRole): Promise<Uint8Array> {
    const object = this.named(role);
    if (object.plainBytes > NAMED_BYTES_MAX) {
      throw new PgarkError('archive-unsupported', `${object.key} has ${object.plainBytes} bytes, which are too many`);
    }
    const blocks: Uint8Array[] = [];
    for await (const block of this.read(object)) blocks.push(block);
    return Buffer.concat(blocks);
  }

  async contents(): Promise<ArchiveContents> {
    return parseContents(await this.bytesOf('contents'), this.named('contents').key);
  }

  /** The plain bytes of an object, checked as `readSealed` does. */
  async *read(object: ManifestObject, options: Omit<ReadSealedOptions, 'keys' | 'signal'> = {}): ByteStream {
    const { encryption, keys: opening } = await this.#opener.openingOf(object);
    const form = { compression: storedForm(object, this.manifest).compression, encryption };
    const how = { ...options, keys: opening, signal: this.#signal };
    yield* this.#part(object, readSealed(this.#store, form, object, how));
  }

  /** The plain bytes of a file, which ends normally only if they are those that were recorded, by their digest or as rows. */
  readFile(file: ArchiveFile, options: Omit<ReadSealedOptions, 'keys' | 'signal'> = {}): ByteStream {
    const { plainBytes, plainSha256 } = file;
    const content = this.read({ ...this.objectOf(file), plainBytes, plainSha256 }, options);
    return file.piece === undefined ? content : comparingRows(file, file.piece)(content);
  }

  /** The same as it lies in the store, compared with the digest of that; no key is needed. */
  readStored(object: StoredObjectFacts, options: Omit<ReadSealedOptions, 'keys' | 'signal'> = {}): ByteStream {
    return this.#part(object, readStored(this.#store, object, { ...options, signal: this.#signal }));
  }

  /** The same as it was compressed. */
  async *readDecrypted(
    object: StoredObjectFacts,
    options: Omit<ReadSealedOptions, 'keys' | 'signal'> = {},
  ): ByteStream {
    const { encryption, keys: opening } = await this.#opener.openingOf(object);
    const how = { ...options, keys: opening, signal: this.#signal };
    yield* this.#part(object, readDecrypted(this.#store, { encryption }, object, how));
  }

  /** The bytes that lie in the store, without a key, of what `SHA256SUMS` names. Errors: `corrupt`, `object-not-found`. */
  async *readSummed(
    key: string,
    sha256: string,
    { onStoredBytes }: { readonly onStoredBytes: (bytesTotal: number) => void },
  ): ByteStream {
    const { info, body } = await this.#store.get(key, { signal: this.#signal });
    yield* verifyDigest({ bytes: info.bytes, sha256 }, key)(meter(onStoredBytes)(body));
  }

  /** A file's name without what encryption and compression add to it. */
  bareName(name: string): string {
    return bareName(name, this.manifest);
  }

  decryptedName(name: string): string {
    return decryptedName(name, this.manifest);
  }

  /** Sizes of all objects in the folder by their keys; one listing. */
  async list(): Promise<ReadonlyMap<string, number>> {
    const sizes = new Map<string, number>();
    for await (const { key, bytes } of this.#store.list(this.folder, { signal: this.#signal })) sizes.set(key, bytes);
    return sizes;
  }

  /** Error: `corrupt` for the first of these objects that is not in the folder, or has another length. */
  checkPresence(objects: readonly StoredObjectFacts[], sizes: ReadonlyMap<string, number>): void {
    for (const object of objects) {
      const bytes = sizes.get(object.key);
      if (bytes === undefined) throw missingPart(object.key, this.manifest, this.#store);
      checkStoredSize(object, bytes);
    }
  }

  #part({ key }: Pick<ManifestObject, 'key'>, stream: ByteStream): ByteStream {
    return readPart(stream, key, this.manifest, this.#store);
  }
}
