import type { ByteStream } from '../common/bytes.ts';
import { PgarkError } from '../common/errors.ts';
import type { DecryptionKeys, EncryptionScheme } from '../pipeline/encryption/sealer.ts';
import type { Manifest, ManifestObject } from '../repository/manifest.ts';

/** How an object was encrypted, and what may open it. */
export interface Opening {
  readonly encryption: Manifest['encryption'];
  readonly keys: DecryptionKeys;
}

export const KEY_ROLE = 'key';
/** Name of the file in which that key lies, without what encryption adds to it. */
export const IDENTITY_FILE = 'identity';
/** Far more than one line of a key and one of a comment. */
const IDENTITY_BYTES_MAX = 4096;

/**
 * Opens the objects of a backup of many files: one by a passphrase has a key of its own, which the passphrase opens, once,
 * and that key opens the rest.
 */
export class BackupOpener {
  readonly #manifest: Pick<Manifest, 'encryption' | 'objects'>;
  readonly #keys: DecryptionKeys;
  readonly #read: (key: ManifestObject) => ByteStream;
  #own: Promise<Opening> | undefined;

  /** `read` gives the plain bytes of the object that holds the key. */
  constructor(
    manifest: Pick<Manifest, 'encryption' | 'objects'>,
    keys: DecryptionKeys,
    read: (key: ManifestObject) => ByteStream,
  ) {
    this.#manifest = manifest;
    this.#keys = keys;
    this.#read = read;
  }

  /** Errors: `corrupt`, `wrong-key`, `key-missing`, `store-…`. */
  async openingOf({ role }: Pick<ManifestObject, 'role'>): Promise<Opening> {
    if (role === 'sums') return { encryption: undefined, keys: this.#keys };
    const { encryption, objects } = this.#manifest;
    const key = objects.find((object) => object.role === KEY_ROLE);
    if (encryption === undefined || key === undefined || role === KEY_ROLE) return { encryption, keys: this.#keys };
    this.#own ??= this.#openingBy(key, encryption.scheme);
    return this.#own;
  }

  async #openingBy(key: ManifestObject, scheme: EncryptionScheme): Promise<Opening> {
    if (key.plainBytes > IDENTITY_BYTES_MAX) throw new PgarkError('corrupt', `${key.key} is no identity file of age`);
    const text = await textOf(this.#read(key));
    // Loaded where it is needed: who encrypts nothing starts without its library.
    const { fingerprintOfIdentity, parseIdentityFile } = await import('../pipeline/encryption/age-keys.ts');
    const identities = parseIdentityFile(text);
    const keyFingerprints = await Promise.all(identities.map(fingerprintOfIdentity));
    return { encryption: { scheme, keyFingerprints }, keys: { identities, passphrases: [] } };
  }
}

async function textOf(stream: ByteStream): Promise<string> {
  const blocks: Uint8Array[] = [];
  for await (const block of stream) blocks.push(block);
  return Buffer.concat(blocks).toString();
}
