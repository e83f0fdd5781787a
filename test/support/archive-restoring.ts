import { Secret } from '../../src/common/secret.ts';
import { type ContextOptions, operationContext } from '../../src/operations/context.ts';
import { restore, type RestoreOutcome, type RestoreRequest } from '../../src/operations/restore.ts';
import type { DecryptionKeys } from '../../src/pipeline/encryption/sealer.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { postgresFacts } from './facts.ts';
import { openFileStore } from './file-place.ts';
import type { TestDatabase } from './postgres.ts';
import { dumpOf } from './restoring.ts';

export const NO_KEYS: DecryptionKeys = { identities: [], passphrases: [] };

export interface RestoringOptions extends Partial<RestoreRequest> {
  /** Of a proxy before PostgreSQL. */
  readonly port?: number;
  readonly context?: ContextOptions;
}

/** The newest backup of the store, as the library restores it. */
export function restoreInto(
  database: TestDatabase,
  store: ObjectStore,
  { port, context = {}, ...changes }: RestoringOptions = {},
): Promise<RestoreOutcome> {
  const { password, ...server } = { ...postgresFacts(), ...(port === undefined ? {} : { port }) };
  const connection = {
    ...server,
    password: new Secret(password),
    database: database.name,
    sslMode: 'disable' as const,
  };
  return restore(
    {
      store,
      filter: {},
      selector: { kind: 'latest' },
      target: { kind: 'database', connection, clean: false },
      keys: NO_KEYS,
      verifyFirst: undefined,
      analyse: true,
      planOnly: false,
      jobs: 4,
      ...changes,
    },
    operationContext(context),
  );
}

/** What pg_dump says of a database, whatever the order of its rows: sessions that load at once mix them. */
export async function linesOf(database: TestDatabase): Promise<readonly string[]> {
  return (await dumpOf(database)).split('\n').sort();
}

export async function filePlace(): Promise<AsyncDisposable & { readonly store: ObjectStore }> {
  const { store, dispose } = await openFileStore();
  return { store, [Symbol.asyncDispose]: dispose };
}
