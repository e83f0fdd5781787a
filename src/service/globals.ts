import type { SourceConfig } from '../config/model.ts';
import { backupGlobals, type GlobalsOutcome, type GlobalsRequest } from '../operations/backup-globals.ts';
import type { OperationContext } from '../operations/context.ts';
import type { ObjectStore } from '../storage/object-store.ts';

/** Where the globals of a source go, and how they are sealed: as the backups of its databases. */
export interface GlobalsDestination {
  readonly store: ObjectStore;
  readonly seal: GlobalsRequest['seal'];
  readonly leaseTermMs: number;
  /** Whether any retention is wanted: then older globals that no backup needs go. */
  readonly prune: boolean;
}

/**
 * Stores the globals of a source in one storage, before the backups of its databases, as its setting `globals` says;
 * undefined for `none`. Errors as `backupGlobals`.
 */
export async function backupGlobalsOf(
  { name, connection, globals }: SourceConfig,
  destination: GlobalsDestination,
  context: OperationContext,
): Promise<GlobalsOutcome | undefined> {
  if (globals === 'none') return undefined;
  return backupGlobals({ source: name, connection, passwords: globals, ...destination }, context);
}
