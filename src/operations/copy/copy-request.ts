import type { CopiedWal } from '../../formats/physical/copy-span.ts';
import type { DecryptionKeys } from '../../pipeline/encryption/sealer.ts';
import type { BackupId } from '../../repository/ids.ts';
import type { Manifest } from '../../repository/manifest.ts';
import type { ObjectStore } from '../../storage/object-store.ts';
import type { PruneRequest } from '../prune.ts';

export interface CopyPlace {
  /** As it is configured. */
  readonly name: string;
  readonly store: ObjectStore;
}

export interface CopyRequest {
  /** The backup, as it was found in one of the storages. */
  readonly manifest: Manifest;
  /** Those that have it, besides the one that it goes to: each object comes from the first that gives it whole. */
  readonly from: readonly CopyPlace[];
  readonly to: CopyPlace;
  /** To compare WAL by its content; the backup itself is copied as it is stored. Default: none. */
  readonly keys?: DecryptionKeys | undefined;
  /** By which backups are pruned where it goes to: a copy that the next prune deletes is warned of. Default: by nothing. */
  readonly retention?: Pick<PruneRequest, 'policyOf' | 'timezone'> | undefined;
  readonly leaseTermMs: number;
  /** Look at everything, write nothing. */
  readonly dryRun: boolean;
  /** A copy that moves no byte for so long is given up, in milliseconds. Default: 15 minutes. */
  readonly stallMs?: number;
}

/** `present`: the very same was there already. */
export type CopyState = 'copied' | 'present' | 'planned';

export interface CopiedBackup {
  readonly manifest: Manifest;
  readonly state: CopyState;
  readonly objects: number;
  readonly storedBytes: number;
}

export interface CopyOutcome {
  /** What an incremental backup needs first, the backup itself last. */
  readonly backups: readonly CopiedBackup[];
  /** The roles and tablespaces that go with a backup of a database; undefined where there are none. */
  readonly globals: { readonly id: BackupId; readonly state: CopyState } | undefined;
  /** Of physical backups: the WAL without which they are none. Undefined for others, and in a dry run. */
  readonly wal: CopiedWal | undefined;
  /** In a dry run: a backup is there, and of its WAL something is not. */
  readonly isWalMissing: boolean;
  /** Whether it is pinned where it lies now, since it was where it came from. */
  readonly isPinned: boolean;
  /** Of the copies, those that retention lets go of with the next prune. */
  readonly letGo: readonly BackupId[];
}
