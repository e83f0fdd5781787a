import { Decrypter, identityToRecipient, type Stanza } from 'age-encryption';
import { KIB } from '../../common/bytes.ts';
import { PgarkError } from '../../common/errors.ts';
import type { Transform } from '../transform.ts';
import { checkIdentity, fingerprintOfRecipient } from './age-keys.ts';
import { PAYLOAD_NONCE_BYTES, PayloadOpener } from './age-payload.ts';
import { scryptIdentity } from './age-scrypt.ts';
import { PASSPHRASE_MISSING_HINT } from './passphrase.ts';
import type { DecryptionKeys, OpenableRecord } from './sealer.ts';

export const AGE_MAGIC = 'age-encryption.org/';
export const AGE_ARMOR_MAGIC = '-----BEGIN AGE ENCRYPTED FILE-----';
const VERSION_LINE = `${AGE_MAGIC}v1\n`;
/** Room for hundreds of recipients. */
const HEADER_BYTES_MAX = 256 * KIB;

/**
 * Decrypts age v1. Nothing is yielded before a key has opened the header and the header's MAC was right, and no byte of
 * data before its chunk was authenticated. Errors while reading: `key-missing`, `wrong-key`, `corrupt`,
 * `encryption-unsupported` (armored, another version, a passphrase cost beyond bounds).
 */
export function openAge(record: OpenableRecord, keys: DecryptionKeys): Transform {
  keys.identities.forEach((identity, index) =>
    checkIdentity(identity, `identity ${index + 1} of ${keys.identities.length}`),
  );
  return async function* open(source) {
    let head: Uint8Array = new Uint8Array(0);
    let payload: PayloadOpener | undefined;
    for await (const block of source) {
      let sealed = block;
      if (payload === undefined) {
        head = Buffer.concat([head, block]);
        const headerBytes = headerLength(head);
        if (headerBytes === undefined || head.length < headerBytes + PAYLOAD_NONCE_BYTES) continue;
        const fileKey = await openHeader(head.subarray(0, headerBytes), record, keys);
        sealed = head.subarray(headerBytes + PAYLOAD_NONCE_BYTES);
        payload = new PayloadOpener(fileKey, head.subarray(headerBytes, headerBytes + PAYLOAD_NONCE_BYTES));
        head = new Uint8Array(0);
      }
      const plain = payload.push(sealed);
      if (plain.length > 0) yield plain;
    }
    if (payload === undefined) throw damagedHeader(head.length === 0 ? 'it is empty' : 'it is cut off in its header');
    const plain = payload.end();
    if (plain.length > 0) yield plain;
  };
}

function damagedHeader(why: string, cause?: unknown): PgarkError {
  return new PgarkError('corrupt', `the encrypted data is damaged: ${why}`, { cause });
}

/** Bytes of the header with its last line break; undefined while that has not arrived. */
function headerLength(head: Uint8Array): number | undefined {
  const bytes = Buffer.from(head.buffer, head.byteOffset, head.length);
  const begins = (magic: string): boolean => bytes.toString('latin1', 0, magic.length) === magic.slice(0, bytes.length);
  if (!begins(VERSION_LINE)) {
    if (begins(AGE_ARMOR_MAGIC)) {
      throw new PgarkError(
        'encryption-unsupported',
        'the encrypted data is age’s text form (armored), not the binary one',
        {
          hint: 'decrypt it with: age -d -i IDENTITY FILE',
        },
      );
    }
    if (/^v\d+\n/.test(bytes.toString('latin1', AGE_MAGIC.length, VERSION_LINE.length + 8)) && begins(AGE_MAGIC)) {
      throw new PgarkError(
        'encryption-unsupported',
        'the encrypted data is of another version of age’s format than v1',
      );
    }
    throw damagedHeader('it does not begin as an age file does');
  }
  const footer = bytes.indexOf('\n---');
  const end = footer === -1 ? -1 : bytes.indexOf('\n', footer + 1);
  if ((end === -1 ? bytes.length : end) >= HEADER_BYTES_MAX) {
    throw damagedHeader(`its header has no end within ${HEADER_BYTES_MAX / KIB} KiB`);
  }
  return end === -1 ? undefined : end + 1;
}

/**
 * The file key. Identities are asked in the order in which they are added: one that only looks at the stanzas first, one
 * that is reached only if no key fitted last.
 */
async function openHeader(header: Uint8Array, record: OpenableRecord, keys: DecryptionKeys): Promise<Uint8Array> {
  let stanzas: readonly Stanza[] = [];
  let noneFitted = false;
  const decrypter = new Decrypter();
  decrypter.addIdentity({
    unwrapFileKey(found) {
      stanzas = found;
      // A passphrase must not be one way in among others: whoever knows it could pass data off as a recipient's.
      if (found.length > 1 && needsPassphrase(found)) throw new Error('a scrypt stanza is not the only one');
      return null;
    },
  });
  for (const identity of keys.identities) decrypter.addIdentity(identity.reveal());
  for (const passphrase of keys.passphrases) decrypter.addIdentity(scryptIdentity(passphrase));
  decrypter.addIdentity({
    unwrapFileKey() {
      noneFitted = true;
      return null;
    },
  });
  try {
    return await decrypter.decryptHeader(header);
  } catch (error) {
    if (error instanceof PgarkError) throw error;
    if (noneFitted) throw await noKeyFits(stanzas, record, keys);
    throw damagedHeader('its header is not what was written', error);
  }
}

function needsPassphrase(stanzas: readonly Stanza[]): boolean {
  return stanzas.some(({ args }) => args[0] === 'scrypt');
}

async function noKeyFits(
  stanzas: readonly Stanza[],
  record: OpenableRecord,
  keys: DecryptionKeys,
): Promise<PgarkError> {
  if (needsPassphrase(stanzas)) {
    if (keys.passphrases.length === 0) {
      return new PgarkError('key-missing', 'the data is encrypted with a passphrase, and none was given', {
        hint: PASSPHRASE_MISSING_HINT,
      });
    }
    return new PgarkError('wrong-key', 'the passphrase does not open the encrypted data, or its header is damaged', {
      hint: 'use the passphrase that was set when the backup was made',
    });
  }
  const wanted = record.keyFingerprints ?? [];
  const wantedText = wanted.length === 0 ? 'a public key' : wanted.join(', ');
  if (keys.identities.length === 0) {
    return new PgarkError('key-missing', `the data is encrypted for ${wantedText}, and no identity was given`);
  }
  const given = await Promise.all(
    keys.identities.map(async (identity) => fingerprintOfRecipient(await identityToRecipient(identity.reveal()))),
  );
  if (wanted.some((fingerprint) => given.includes(fingerprint))) {
    return damagedHeader('its header does not open with the identity that it was written for');
  }
  return new PgarkError(
    'wrong-key',
    `no identity given opens the encrypted data: it is encrypted for ${wantedText}; the identities given are those of ${given.join(', ')}`,
  );
}
