import { createDecipheriv, type Decipheriv } from 'node:crypto';
import { PgarkError } from '../../common/errors.ts';
import type { Transform } from '../transform.ts';
import {
  AES_BLOCK_BYTES,
  type CbcKey,
  deriveCbcKey,
  fitsFingerprint,
  ITERATIONS_DEFAULT,
  ITERATIONS_MAX,
  OPENSSL_MAGIC,
  SALT_BYTES,
} from './openssl-key.ts';
import { PASSPHRASE_MISSING_HINT } from './passphrase.ts';
import { looksLikeBackup, PLAUSIBILITY_BYTES } from './plausible-plaintext.ts';
import type { DecryptionKeys, OpenableRecord } from './sealer.ts';

const PREFIX_BYTES = OPENSSL_MAGIC.length + SALT_BYTES;
/** What is gathered before a key is chosen; the last block is kept out of the look at the plaintext: it may be padding. */
const HEAD_BYTES = PREFIX_BYTES + PLAUSIBILITY_BYTES + AES_BLOCK_BYTES;

/**
 * Decrypts what `opensslSealer` or `openssl enc -aes-256-cbc -pbkdf2` wrote. The record's fingerprint tells a wrong
 * passphrase (`wrong-key`) from damage (`corrupt`) before any data. Without one, the passphrase is taken under which the
 * first bytes look like something that is in backups, and damage cannot be told from a wrong passphrase: `wrong-key` that
 * says so. The stream never ends as if complete where the padding at its very end is wrong; damage that leaves the padding
 * right is for digests to find. Errors while reading, beside these: `encryption-unsupported`, `key-missing` at once.
 */
export function openOpenssl(record: OpenableRecord, keys: DecryptionKeys): Transform {
  const iterations = record.iterations ?? ITERATIONS_DEFAULT;
  if (!Number.isInteger(iterations) || iterations < 1 || iterations > ITERATIONS_MAX) {
    throw new PgarkError(
      'encryption-unsupported',
      `the record of the encryption asks for ${iterations} PBKDF2 iterations; pgark does up to ${ITERATIONS_MAX}`,
    );
  }
  if (keys.passphrases.length === 0) {
    throw new PgarkError('key-missing', 'the data is encrypted with a passphrase (openssl), and none was given', {
      hint: PASSPHRASE_MISSING_HINT,
    });
  }
  return async function* open(source) {
    let head: Uint8Array = new Uint8Array(0);
    let opener: Opener | undefined;
    for await (const block of source) {
      let sealed = block;
      if (opener === undefined) {
        head = Buffer.concat([head, block]);
        if (head.length < HEAD_BYTES) continue;
        opener = await openHead(head, record, keys, iterations);
        sealed = head.subarray(PREFIX_BYTES);
        head = new Uint8Array(0);
      }
      const plain = opener.push(sealed);
      if (plain.length > 0) yield plain;
    }
    if (opener === undefined) {
      opener = await openHead(head, record, keys, iterations);
      const plain = opener.push(head.subarray(PREFIX_BYTES));
      if (plain.length > 0) yield plain;
    }
    const plain = opener.end();
    if (plain.length > 0) yield plain;
  };
}

/** One decryption with a chosen key. OpenSSL holds the last block back until `end` has looked at its padding. */
class Opener {
  readonly #decipher: Decipheriv;
  readonly #keyKnownRight: boolean;
  #sealedBytes = 0;

  constructor({ key, iv }: CbcKey, options: { readonly keyKnownRight: boolean }) {
    this.#decipher = createDecipheriv('aes-256-cbc', key, iv);
    this.#keyKnownRight = options.keyKnownRight;
  }

  push(block: Uint8Array): Uint8Array {
    this.#sealedBytes += block.length;
    return this.#decipher.update(block);
  }

  end(): Uint8Array {
    if (this.#sealedBytes === 0 || this.#sealedBytes % AES_BLOCK_BYTES !== 0) throw cutOff();
    try {
      return this.#decipher.final();
    } catch {
      if (!this.#keyKnownRight) throw wrongOrDamaged('it does not end as encrypted data ends');
      throw new PgarkError(
        'corrupt',
        'the encrypted data is damaged or cut off: its last block is not what was encrypted',
      );
    }
  }
}

function cutOff(): PgarkError {
  return new PgarkError('corrupt', 'the encrypted data is cut off: its length is not that of whole blocks');
}

function wrongOrDamaged(what: string): PgarkError {
  return new PgarkError('wrong-key', `wrong passphrase, or the encrypted data is damaged: ${what}`, {
    hint: 'use the passphrase that it was encrypted with; pgark reads openssl enc -aes-256-cbc -pbkdf2 -md sha256 only',
  });
}

async function openHead(
  head: Uint8Array,
  record: OpenableRecord,
  keys: DecryptionKeys,
  iterations: number,
): Promise<Opener> {
  if (Buffer.from(head.subarray(0, OPENSSL_MAGIC.length)).toString('latin1') !== OPENSSL_MAGIC) {
    throw new PgarkError('corrupt', 'the encrypted data is damaged: it does not begin as openssl’s does');
  }
  if (head.length < PREFIX_BYTES + AES_BLOCK_BYTES) throw cutOff();
  const salt = head.subarray(OPENSSL_MAGIC.length, PREFIX_BYTES);
  const candidates = keys.passphrases.map((passphrase) => Buffer.from(passphrase.reveal(), 'utf8'));
  const known = await choose(candidates, record.keyFingerprints ?? [], iterations);
  if (known !== undefined) return new Opener(await deriveCbcKey(known, salt, iterations), { keyKnownRight: true });
  for (const candidate of candidates) {
    const key = await deriveCbcKey(candidate, salt, iterations);
    if (looksLikeBackup(firstPlaintext(head, key))) return new Opener(key, { keyKnownRight: false });
  }
  throw wrongOrDamaged('what comes out is nothing that is found in backups');
}

/** The passphrase that a fingerprint proves right; undefined where there is none that could tell; else `wrong-key`. */
async function choose(
  candidates: readonly Buffer[],
  fingerprints: readonly string[],
  iterations: number,
): Promise<Buffer | undefined> {
  let told = false;
  for (const fingerprint of fingerprints) {
    for (const candidate of candidates) {
      const fits = await fitsFingerprint(candidate, fingerprint, iterations);
      if (fits === true) return candidate;
      told ||= fits === false;
    }
  }
  if (!told) return undefined;
  throw new PgarkError('wrong-key', 'the passphrase is not the one that it was encrypted with', {
    hint: 'use the passphrase that was set when the backup was made',
  });
}

function firstPlaintext(head: Uint8Array, { key, iv }: CbcKey): Uint8Array {
  const wholeBytes = Math.floor((head.length - PREFIX_BYTES) / AES_BLOCK_BYTES) * AES_BLOCK_BYTES;
  const lookedAtBytes = Math.min(PLAUSIBILITY_BYTES, wholeBytes - AES_BLOCK_BYTES);
  const decipher = createDecipheriv('aes-256-cbc', key, iv).setAutoPadding(false);
  return decipher.update(head.subarray(PREFIX_BYTES, PREFIX_BYTES + lookedAtBytes));
}
