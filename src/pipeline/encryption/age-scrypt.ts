import { createCipheriv, createDecipheriv, randomBytes, scrypt } from 'node:crypto';
import { type Identity, type Recipient, Stanza } from 'age-encryption';
import { PgarkError } from '../../common/errors.ts';
import type { Secret } from '../../common/secret.ts';

/**
 * age's passphrase stanza, https://c2sp.org/age, section "The scrypt recipient type". The npm package has one too, in
 * JavaScript on the main thread: it would stop everything else of the process for seconds. This one runs natively in
 * the thread pool.
 */
export const SCRYPT_WORK_FACTOR = 18;
/**
 * Base-2 logarithm of the highest cost accepted from a file: 1 GiB of memory and seconds of work. A header is written by
 * whoever could write to the bucket, and could ask for any.
 */
export const SCRYPT_WORK_FACTOR_MAX = 20;

const LABEL = 'age-encryption.org/v1/scrypt';
const SALT_BYTES = 16;
const TAG_BYTES = 16;
const FILE_KEY_BYTES = 16;
const BLOCK_SIZE = 8;

/** One derivation at a time: at the default cost each takes 256 MiB, however many objects are opened side by side. */
let derivations: Promise<unknown> = Promise.resolve();

function deriveKey(passphrase: Uint8Array, salt: Uint8Array, workFactor: number): Promise<Buffer> {
  const cost = 2 ** workFactor;
  const options = { N: cost, r: BLOCK_SIZE, p: 1, maxmem: 2 * 128 * BLOCK_SIZE * cost };
  const derived = derivations.then(
    () =>
      new Promise<Buffer>((resolve, reject) => {
        scrypt(passphrase, Buffer.concat([Buffer.from(LABEL), salt]), 32, options, (error, key) => {
          if (error) reject(error);
          else resolve(key);
        });
      }),
  );
  derivations = derived.catch(() => {});
  return derived;
}

function base64WithoutPadding(bytes: Buffer): string {
  return bytes.toString('base64').replace(/=+$/, '');
}

export function scryptRecipient(passphrase: Uint8Array, workFactor: number): Recipient {
  return {
    async wrapFileKey(fileKey) {
      const salt = randomBytes(SALT_BYTES);
      const key = await deriveKey(passphrase, salt, workFactor);
      // The all-zero nonce is the format's: each key encrypts one file key, once.
      const cipher = createCipheriv('chacha20-poly1305', key, Buffer.alloc(12), { authTagLength: TAG_BYTES });
      const body = Buffer.concat([cipher.update(fileKey), cipher.final(), cipher.getAuthTag()]);
      return [new Stanza(['scrypt', base64WithoutPadding(salt), String(workFactor)], body)];
    },
  };
}

/** Throws where the stanza is malformed (a plain Error) or asks for too much work (`encryption-unsupported`). */
export function scryptIdentity(passphrase: Secret): Identity {
  return {
    async unwrapFileKey(stanzas) {
      const stanza = stanzas.find(({ args }) => args[0] === 'scrypt');
      if (stanza === undefined) return null;
      const { salt, workFactor } = parseStanza(stanza);
      const key = await deriveKey(Buffer.from(passphrase.reveal(), 'utf8'), salt, workFactor);
      const decipher = createDecipheriv('chacha20-poly1305', key, Buffer.alloc(12), { authTagLength: TAG_BYTES });
      decipher.setAuthTag(stanza.body.subarray(FILE_KEY_BYTES));
      const fileKey = decipher.update(stanza.body.subarray(0, FILE_KEY_BYTES));
      try {
        decipher.final();
      } catch {
        return null;
      }
      return fileKey;
    },
  };
}

function parseStanza(stanza: Stanza): { readonly salt: Buffer; readonly workFactor: number } {
  const [, saltText = '', workFactorText = ''] = stanza.args;
  const salt = Buffer.from(saltText, 'base64');
  if (
    stanza.args.length !== 3 ||
    salt.length !== SALT_BYTES ||
    base64WithoutPadding(salt) !== saltText ||
    !/^[1-9][0-9]*$/.test(workFactorText) ||
    stanza.body.length !== FILE_KEY_BYTES + TAG_BYTES
  ) {
    throw new Error('malformed scrypt stanza');
  }
  const workFactor = Number(workFactorText);
  if (workFactor > SCRYPT_WORK_FACTOR_MAX) {
    throw new PgarkError(
      'encryption-unsupported',
      `the encrypted data asks for 2^${workFactorText.slice(0, 12)} units of work to try a passphrase; pgark does up to 2^${SCRYPT_WORK_FACTOR_MAX}`,
      { hint: 'data of pgark’s own needs 2^18: unless another tool wrote this, somebody has tampered with it' },
    );
  }
  return { salt, workFactor };
}
