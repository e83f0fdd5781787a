import type { Secret } from '../../common/secret.ts';
import type { Transform } from '../transform.ts';

/** `age`: authenticated, for public keys or a passphrase. `openssl`: `openssl enc`'s own form, not authenticated. */
export type EncryptionScheme = 'age' | 'openssl';

/** A passphrase's header says of itself whether a passphrase opens it, before any data: no fingerprint is needed. */
export const PASSPHRASE_FINGERPRINT = 'passphrase';

/** What a manifest keeps of an encryption: enough to say which key is needed, nothing that helps to guess it. */
export interface EncryptionRecord {
  readonly scheme: EncryptionScheme;
  /**
   * age: each recipient (`fingerprintOfRecipient`), or `passphrase`. openssl: one value that only the passphrase gives,
   * at no smaller cost than trying it on the encrypted data.
   */
  readonly keyFingerprints: readonly string[];
  /** openssl: PBKDF2's iterations, `-iter` of the command line. */
  readonly iterations?: number;
}

/** Encrypts objects for one set of keys. */
export interface Sealer {
  /** What is appended to the name of an encrypted object. */
  readonly suffix: '.age' | '.enc';
  readonly record: EncryptionRecord;
  /** A stage for one object: each has a file key, salt and nonce of its own. */
  seal(): Transform;
  /** There where an object by itself costs too much for a backup of many. */
  readonly forMany?: () => Promise<SealerForMany>;
}

/** A key made for one backup, and what encrypts for it. */
export interface SealerForMany {
  /** Its record is that of the sealer which it was made by: what a restore needs is that one's key. */
  readonly sealer: Sealer;
  /** An age identity file: the secret that opens all. To be sealed by the sealer which it was made by. */
  readonly identityFile: Secret;
}

/** Everything that a restore may try. */
export interface DecryptionKeys {
  /** `AGE-SECRET-KEY-…` each. */
  readonly identities: readonly Secret[];
  readonly passphrases: readonly Secret[];
}

/** The part of a record that is needed to decrypt; what else it holds makes errors earlier and clearer. */
export type OpenableRecord = Pick<EncryptionRecord, 'scheme' | 'iterations'> & Partial<EncryptionRecord>;
