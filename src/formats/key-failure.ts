import type { PgarkError } from '../common/errors.ts';

/** Whether it says something of the keys at hand, and nothing of the backup. */
export function isOfKeys(error: PgarkError): boolean {
  return error.code === 'wrong-key' || error.code === 'key-missing';
}
