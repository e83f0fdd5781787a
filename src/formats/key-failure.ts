import type { PgarkError } from '../common/errors.ts';

/** Whether it says something of the keys at hand, and nothing of the backup. */
export function isOfKeys(error: PgarkError): boolean {
  return isCodeOfKeys(error.code);
}

/** The same of the code of an error that was written down. */
export function isCodeOfKeys(code: string): boolean {
  return code === 'wrong-key' || code === 'key-missing';
}
