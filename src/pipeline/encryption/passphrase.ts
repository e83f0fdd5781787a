import { PgarkError } from '../../common/errors.ts';
import type { Secret } from '../../common/secret.ts';

/** What `openssl enc` reads at its prompt; a longer one would be cut there without a word. */
const PASSPHRASE_BYTES_MAX = 511;

/** What to do where a passphrase is needed to decrypt and none was given. */
export const PASSPHRASE_MISSING_HINT =
  'give the file that holds it: --passphrase-file FILE, or BACKUP_ENCRYPTION_KEY_FILE';

/**
 * The bytes of a passphrase that is to encrypt: UTF-8, as given. Refuses with `key-invalid` what a person could not give
 * to the stock tools in an emergency, and what is shorter than `charactersMin` characters. Never says what it was.
 */
export function usablePassphrase(passphrase: Secret, charactersMin: number): Buffer {
  const text = passphrase.reveal();
  const bytes = Buffer.from(text, 'utf8');
  if (text.trim() === '') throw new PgarkError('key-invalid', 'the encryption passphrase is empty');
  if (/[\0\r\n]/.test(text)) {
    throw new PgarkError('key-invalid', 'the encryption passphrase has a line break or a NUL character in it', {
      hint: 'age and openssl read a passphrase as one line: take one of printable characters',
    });
  }
  if (!text.isWellFormed()) {
    throw new PgarkError('key-invalid', 'the encryption passphrase is no valid Unicode text');
  }
  const characters = Array.from(text).length;
  if (characters < charactersMin) {
    throw new PgarkError(
      'key-invalid',
      `the encryption passphrase has ${characters} characters, fewer than the ${charactersMin} that this scheme needs`,
      { hint: 'make one with: openssl rand -base64 33' },
    );
  }
  if (bytes.length > PASSPHRASE_BYTES_MAX) {
    throw new PgarkError(
      'key-invalid',
      `the encryption passphrase has ${bytes.length} bytes, more than the ${PASSPHRASE_BYTES_MAX} that stock tools read`,
      { hint: 'make one with: openssl rand -base64 33' },
    );
  }
  return bytes;
}
