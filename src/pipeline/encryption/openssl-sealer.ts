import { createCipheriv, randomBytes } from 'node:crypto';
import { releaseBlock } from '../../common/block-memory.ts';
import { PgarkError } from '../../common/errors.ts';
import type { Secret } from '../../common/secret.ts';
import {
  deriveCbcKey,
  ITERATIONS_DEFAULT,
  ITERATIONS_MAX,
  OPENSSL_MAGIC,
  passphraseFingerprint,
  SALT_BYTES,
} from './openssl-key.ts';
import { usablePassphrase } from './passphrase.ts';
import type { Sealer } from './sealer.ts';

const PASSPHRASE_CHARACTERS_MIN = 32;

export interface OpensslSealerOptions {
  /** 32 characters at least. */
  readonly passphrase: Secret;
  /** PBKDF2 iterations; default 10,000, openssl's own, so that its command line needs no -iter. */
  readonly iterations?: number;
}

/**
 * Encrypts as `openssl enc -aes-256-cbc -pbkdf2 -iter N -md sha256` does;
 * `openssl enc -d -aes-256-cbc -pbkdf2 -pass file:FILE` decrypts.
 *
 * The default of 10,000 iterations is openssl's own and slows guessing down but little. What carries the strength is the
 * passphrase: fewer than 32 characters are refused with `key-invalid`. The format is not authenticated: whoever can write
 * to the store can change data unseen by the decryption; the digests in the manifest show damage, age shows both.
 */
export async function opensslSealer(options: OpensslSealerOptions): Promise<Sealer> {
  const iterations = options.iterations ?? ITERATIONS_DEFAULT;
  if (!Number.isInteger(iterations) || iterations < ITERATIONS_DEFAULT || iterations > ITERATIONS_MAX) {
    throw new PgarkError(
      'config-invalid',
      `the number of PBKDF2 iterations must be a whole number from ${ITERATIONS_DEFAULT} to ${ITERATIONS_MAX}`,
    );
  }
  const passphrase = usablePassphrase(options.passphrase, PASSPHRASE_CHARACTERS_MIN);
  const fingerprint = await passphraseFingerprint(passphrase, iterations);
  return {
    suffix: '.enc',
    record: { scheme: 'openssl', keyFingerprints: [fingerprint], iterations },
    seal: () =>
      async function* seal(source) {
        const salt = randomBytes(SALT_BYTES);
        const { key, iv } = await deriveCbcKey(passphrase, salt, iterations);
        const cipher = createCipheriv('aes-256-cbc', key, iv);
        yield Buffer.concat([Buffer.from(OPENSSL_MAGIC), salt]);
        for await (const block of source) {
          const sealed = cipher.update(block);
          releaseBlock(block);
          if (sealed.length > 0) yield sealed;
        }
        yield cipher.final();
      },
  };
}
