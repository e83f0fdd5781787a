import { pbkdf2, randomBytes, timingSafeEqual } from 'node:crypto';
import { promisify } from 'node:util';

/**
 * Keys as `openssl enc -aes-256-cbc -pbkdf2 -md sha256` derives them (apps/enc.c of OpenSSL): the file begins with
 * `Salted__` and 8 bytes of salt; PBKDF2-HMAC-SHA-256 gives 48 bytes, the key and then the IV.
 */
export const OPENSSL_MAGIC = 'Salted__';
export const SALT_BYTES = 8;
export const AES_BLOCK_BYTES = 16;
/** openssl's own default for -pbkdf2, and therefore what it takes when no -iter is said. */
export const ITERATIONS_DEFAULT = 10_000;
/** A few seconds of work. Manifests lie in the bucket and could ask for any. */
export const ITERATIONS_MAX = 10_000_000;

const KEY_BYTES = 32;
const FINGERPRINT = /^pbkdf2:([A-Za-z0-9_-]{22}):([0-9a-f]{16})$/;
const FINGERPRINT_DOMAIN = 'pgark openssl passphrase fingerprint\0';

const derive = promisify(pbkdf2);

export interface CbcKey {
  readonly key: Uint8Array;
  readonly iv: Uint8Array;
}

export async function deriveCbcKey(passphrase: Uint8Array, salt: Uint8Array, iterations: number): Promise<CbcKey> {
  const bytes = await derive(passphrase, salt, iterations, KEY_BYTES + AES_BLOCK_BYTES, 'sha256');
  return { key: bytes.subarray(0, KEY_BYTES), iv: bytes.subarray(KEY_BYTES) };
}

async function fingerprintWith(passphrase: Uint8Array, salt: Uint8Array, iterations: number): Promise<Buffer> {
  const bytes = await derive(
    passphrase,
    Buffer.concat([Buffer.from(FINGERPRINT_DOMAIN), salt]),
    iterations,
    32,
    'sha256',
  );
  return bytes.subarray(0, 8);
}

/**
 * `pbkdf2:SALT:HEX`. Guessing by it costs as much as guessing by the data: the same function and iterations, with a salt
 * of its own, random, so that nothing can be computed ahead and two fingerprints do not show that they are of one passphrase.
 */
export async function passphraseFingerprint(passphrase: Uint8Array, iterations: number): Promise<string> {
  const salt = randomBytes(16);
  const check = await fingerprintWith(passphrase, salt, iterations);
  return `pbkdf2:${salt.toString('base64url')}:${check.toString('hex')}`;
}

/** Undefined where the fingerprint is of a kind that this version does not know. */
export async function fitsFingerprint(
  passphrase: Uint8Array,
  fingerprint: string,
  iterations: number,
): Promise<boolean | undefined> {
  const [, salt, check] = FINGERPRINT.exec(fingerprint) ?? [];
  if (salt === undefined || check === undefined) return undefined;
  const found = await fingerprintWith(passphrase, Buffer.from(salt, 'base64url'), iterations);
  return timingSafeEqual(found, Buffer.from(check, 'hex'));
}
