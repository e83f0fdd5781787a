import type { PgarkError } from '../common/errors.ts';
import { asRunError } from '../runs/run.ts';

/** What is restored and where to, for whoever is asked before it and told after it. */
export interface RestoreFacts {
  readonly runId: string;
  /** Of the backup; undefined for a dump of another tool, which says of none. */
  readonly source: string | undefined;
  readonly backupId: string | undefined;
  /** That the backup is of. */
  readonly database: string | undefined;
  readonly target:
    | {
        readonly kind: 'in-place' | 'database';
        readonly host: string;
        readonly port: number;
        readonly database: string;
      }
    | { readonly kind: 'directory'; readonly directory: string };
}

/** Programs of the user's around a restore, or whatever else is to know of it. */
export interface AroundRestore {
  /** Called when all checks have passed, before anything is touched. Its rejection ends the restore. */
  before(facts: RestoreFacts): Promise<void>;
  /** Called after a restore that it was called before, whatever came of it, also where that rejected: `error` undefined if all went well. Never rejects. */
  after(facts: RestoreFacts, error: PgarkError | undefined): Promise<void>;
}

/** Carries a restore out that says itself when it begins; who was called before it is called after it. */
export async function surrounded<T>(
  around: AroundRestore | undefined,
  facts: RestoreFacts,
  signal: AbortSignal,
  work: (begin: () => Promise<void>) => Promise<T>,
): Promise<T> {
  let hasBegun = false;
  const begin = async (): Promise<void> => {
    // One of several that has begun may have switched off what is to be switched on again.
    hasBegun = true;
    await around?.before(facts);
  };
  const end = async (error?: PgarkError): Promise<void> => {
    if (hasBegun) await around?.after(facts, error);
  };
  let value: T;
  try {
    value = await work(begin);
  } catch (thrown) {
    await end(asRunError('restore', thrown, signal));
    throw thrown;
  }
  await end();
  return value;
}
