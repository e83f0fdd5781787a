import type { ErrorCode } from '../../common/error-table.ts';
import { asPgarkError, PgarkError } from '../../common/errors.ts';
import { checkOf } from '../../formats/check-backup.ts';
import type { Run } from '../../runs/run.ts';
import type { OperationContext } from '../context.ts';
import { whileHeld } from '../while-held.ts';
import type { DrillWork } from './drill-request.ts';

/** Failures that a byte brings about that was damaged on the way, as well as one that is stored so. */
const MAY_BE_OF_THE_WAY: ReadonlySet<ErrorCode> = new Set<ErrorCode>(['corrupt', 'recovery-failed']);

/** Those that say that something is wrong with what is stored. */
const OF_WHAT_IS_STORED: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'corrupt',
  'object-not-found',
  'repository-damaged',
]);

/** Of the WAL that a restored server asked for: what lists of objects say, or records, is no byte on the way. */
const IS_DECIDED: ReadonlySet<unknown> = new Set<ErrorCode>(['wal-gap', 'object-not-found', 'tablespace-path']);

/** Whether a restore of the same could end otherwise, where what is stored is whole. */
export function mayBeOfTheWay({ code, details: { fetchError } }: PgarkError): boolean {
  return MAY_BE_OF_THE_WAY.has(code) && !IS_DECIDED.has(fetchError);
}

/** In place of an error that says nothing of the backup, and ended a drill that was to find out whether another one does. */
export function afterDoubt(error: PgarkError, doubt: PgarkError): PgarkError {
  return new PgarkError(error.code, `${error.message}; what had made the drill look once more: ${doubt.message}`, {
    cause: error,
    hint: error.hint,
    details: error.details,
  });
}

/** Reads all that is stored of a backup, as a verification does. Rejects where that cannot be: a storage that is away says nothing. */
export async function isStoredWhole(
  { store, keys, manifest }: Pick<DrillWork, 'store' | 'keys' | 'manifest'>,
  run: Run,
  context: OperationContext,
): Promise<boolean> {
  const { signal, onProgress } = context;
  const held = { store, manifest, command: 'drill', logger: run.logger, runId: run.id } as const;
  let isWhole = true;
  try {
    await run.span.span('read again', {}, () =>
      whileHeld(held, context, async () => {
        const check = checkOf(manifest, { store, keys, signal });
        await check.presence();
        await check.content({
          onStoredBytes: (progress) => onProgress({ phase: 'verifying', ...progress }),
          onLocked: () => {
            isWhole = false;
          },
        });
      }),
    );
    return isWhole;
  } catch (thrown) {
    signal.throwIfAborted();
    const error = asPgarkError(thrown);
    if (OF_WHAT_IS_STORED.has(error.code)) return false;
    throw error;
  }
}
