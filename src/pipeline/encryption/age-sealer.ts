import { randomBytes } from 'node:crypto';
import { Encrypter, type Recipient } from 'age-encryption';
import { releaseBlock } from '../../common/block-memory.ts';
import { assert, PgarkError } from '../../common/errors.ts';
import { Secret } from '../../common/secret.ts';
import type { Transform } from '../transform.ts';
import { checkRecipient, fingerprintOfRecipient, generateAgeIdentity, KEYS_MAX } from './age-keys.ts';
import { PAYLOAD_NONCE_BYTES, PayloadSealer } from './age-payload.ts';
import { SCRYPT_WORK_FACTOR, SCRYPT_WORK_FACTOR_MAX, scryptRecipient } from './age-scrypt.ts';
import { usablePassphrase } from './passphrase.ts';
import { PASSPHRASE_FINGERPRINT, type Sealer, type SealerForMany } from './sealer.ts';

/** The nonce and the one empty chunk that the package writes behind the header of an empty file. */
const EMPTY_PAYLOAD_BYTES = PAYLOAD_NONCE_BYTES + 16;

export type AgeSealerOptions =
  | { readonly recipients: readonly string[] }
  | {
      readonly passphrase: Secret;
      /** Base-2 logarithm of scrypt's cost; default 18, as age's own: 256 MiB and about a second for each object. */
      readonly workFactor?: number;
    };

/**
 * Encrypts as age v1 (https://age-encryption.org/v1, https://c2sp.org/age), binary: `age -d -i IDENTITY FILE` decrypts.
 * Recipients: X25519 (`age1…`), post-quantum hybrid (`age1pq1…`), and hardware tags (`age1tag1…`, `age1tagpq1…`); each is
 * tried here once, so that a backup does not begin with one that cannot be encrypted to. Errors: `key-invalid`.
 */
export async function ageSealer(options: AgeSealerOptions): Promise<Sealer> {
  if ('passphrase' in options) {
    const workFactor = options.workFactor ?? SCRYPT_WORK_FACTOR;
    assert(
      Number.isInteger(workFactor) && workFactor >= 1 && workFactor <= SCRYPT_WORK_FACTOR_MAX,
      `scrypt work factor between 1 and ${SCRYPT_WORK_FACTOR_MAX}`,
    );
    const recipient = scryptRecipient(usablePassphrase(options.passphrase, 1), workFactor);
    const sealer = sealerFor([recipient], [PASSPHRASE_FINGERPRINT]);
    return { ...sealer, forMany: () => sealerForMany(sealer) };
  }
  const recipients = [...new Set(options.recipients)];
  checkRecipients(recipients);
  for (const [index, recipient] of recipients.entries()) {
    try {
      await newHeader([recipient]);
    } catch (error) {
      throw new PgarkError(
        'key-invalid',
        `nothing can be encrypted to recipient ${index + 1}: it is no point of its curve`,
        {
          cause: error,
        },
      );
    }
  }
  return sealerFor(recipients, recipients.map(fingerprintOfRecipient));
}

function checkRecipients(recipients: readonly string[]): void {
  if (recipients.length === 0) throw new PgarkError('key-invalid', 'encryption is on, but there is no recipient');
  if (recipients.length > KEYS_MAX) {
    throw new PgarkError('key-invalid', `there are ${recipients.length} recipients, more than ${KEYS_MAX}`);
  }
  recipients.forEach((recipient, index) => checkRecipient(recipient, `recipient ${index + 1}`));
  const postQuantum = recipients.filter((recipient) => /^age1(pq|tagpq)1/.test(recipient));
  if (postQuantum.length !== 0 && postQuantum.length !== recipients.length) {
    throw new PgarkError('key-invalid', 'post-quantum recipients (age1pq1…) are mixed with others', {
      hint: 'one classical recipient undoes the protection of the others, and age refuses it too: use one kind only',
    });
  }
}

function sealerFor(recipients: readonly (string | Recipient)[], keyFingerprints: readonly string[]): Sealer {
  return { suffix: '.age', record: { scheme: 'age', keyFingerprints }, seal: () => sealAge(recipients) };
}

/**
 * A key pair for one backup. Its recipient stands nowhere: whoever does not have the passphrase can neither read the files
 * nor make others that would be taken for the backup's.
 */
async function sealerForMany({ record }: Sealer): Promise<SealerForMany> {
  const { identity, recipient } = await generateAgeIdentity();
  return {
    sealer: { ...sealerFor([recipient], []), record },
    identityFile: new Secret(`# opens the other files of this backup\n${identity.reveal()}\n`),
  };
}

function sealAge(recipients: readonly (string | Recipient)[]): Transform {
  return async function* seal(source) {
    const { header, fileKey } = await newHeader(recipients);
    const nonce = randomBytes(PAYLOAD_NONCE_BYTES);
    const payload = new PayloadSealer(fileKey, nonce);
    yield Buffer.concat([header, nonce]);
    for await (const block of source) {
      const sealed = payload.push(block);
      releaseBlock(block);
      if (sealed.length > 0) yield sealed;
    }
    yield payload.end();
  };
}

/** A header for a fresh file key. The package makes both; a recipient that adds nothing to the header sees the key. */
async function newHeader(
  recipients: readonly (string | Recipient)[],
): Promise<{ readonly header: Uint8Array; readonly fileKey: Uint8Array }> {
  const encrypter = new Encrypter();
  for (const recipient of recipients) encrypter.addRecipient(recipient);
  let fileKey: Uint8Array | undefined;
  encrypter.addRecipient({
    wrapFileKey(key) {
      fileKey = Uint8Array.from(key);
      return [];
    },
  });
  const emptyFile = await encrypter.encrypt(new Uint8Array(0));
  assert(fileKey?.length === 16, 'an age file key has 16 bytes');
  return { header: emptyFile.subarray(0, emptyFile.length - EMPTY_PAYLOAD_BYTES), fileKey };
}
