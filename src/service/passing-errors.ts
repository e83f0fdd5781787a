import type { ErrorCode } from '../common/error-table.ts';
import type { PgarkError } from '../common/errors.ts';

/**
 * Failures that may be over a moment later. All others want a person: settings, rights, keys and missing programs do not
 * mend themselves, and what another run holds is that run's work.
 */
const passing: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'store-unreachable',
  'store-failed',
  'store-full',
  'store-integrity',
  'store-condition-failed',
  'postgres-unreachable',
  'postgres-failed',
  'dump-failed',
  'lease-lost',
  'stalled',
  'corrupt',
]);

export function canPass(error: PgarkError): boolean {
  return passing.has(error.code);
}
