import type { Transform } from '../transform.ts';
import { AGE_ARMOR_MAGIC, AGE_MAGIC, openAge } from './age-opener.ts';
import { OPENSSL_MAGIC } from './openssl-key.ts';
import { openOpenssl } from './openssl-opener.ts';
import type { DecryptionKeys, EncryptionScheme, OpenableRecord } from './sealer.ts';

/**
 * The stage that decrypts one object with whichever of the keys fits. Errors: `key-missing` and `wrong-key`, before any
 * data; `corrupt`; `encryption-unsupported`; `key-invalid` at once for an identity that is none.
 */
export function openSealed(record: OpenableRecord, keys: DecryptionKeys): Transform {
  switch (record.scheme) {
    case 'age':
      return openAge(record, keys);
    case 'openssl':
      return openOpenssl(record, keys);
    default:
      return record.scheme satisfies never;
  }
}

/** Bytes that `detectEncryption` wants to see at the most. */
const DETECTION_BYTES = AGE_ARMOR_MAGIC.length;

/** Tells by its first bytes how an object is encrypted, if it is. Armored age counts as age, so that it is refused clearly. */
export function detectEncryption(firstBytes: Uint8Array): EncryptionScheme | undefined {
  const text = Buffer.from(firstBytes.subarray(0, DETECTION_BYTES)).toString('latin1');
  if (text.startsWith(AGE_MAGIC) || text.startsWith(AGE_ARMOR_MAGIC)) return 'age';
  if (text.startsWith(OPENSSL_MAGIC)) return 'openssl';
  return undefined;
}
