import type { DecryptionKeys } from '../../pipeline/encryption/sealer.ts';
import type { ConnectionParameters } from '../../postgres/client/connection-parameters.ts';
import type { Manifest } from '../../repository/manifest.ts';
import type { BackupFilter } from '../../repository/repository.ts';
import type { ObjectStore } from '../../storage/object-store.ts';
import type { BackupSelector } from '../find-backup.ts';
import type { RecoveryPlan } from '../recovery/plan-recovery.ts';
import type { RecoveryRequest } from '../restore-directory.ts';
import type { Assertion } from './assertions.ts';

/**
 * Which backup is tried: one by its name; the newest, or the newest not after a time, which of a physical backup means the server
 * as it was then; or a random one, which of physical backups means the server at a random point of what is archived.
 */
export type DrillSelector = Exclude<BackupSelector, { readonly kind: 'foreign' }> | { readonly kind: 'random' };

export interface DrillRequest {
  readonly store: ObjectStore;
  readonly filter: BackupFilter;
  readonly selector: DrillSelector;
  readonly keys: DecryptionKeys;
  readonly assertions: readonly Assertion[];
  /** The drill fails where the restore takes longer. Default: it may take what it takes. */
  readonly restoreMsMax?: number | undefined;
  readonly scratch: Scratch;
  /** Connections at once, for a backup that is loaded by several. Default: one a processor, at most 8. */
  readonly jobs?: number | undefined;
  /** By which a restored server gets archived WAL. Default: it does not, and comes to the end of its backup. */
  readonly fetch?: RecoveryRequest['fetch'] | undefined;
  /** Superusers that a restored server may have, the likeliest first. Default: postgres. */
  readonly users?: readonly string[] | undefined;
  /** A drill that takes longer altogether is given up, and has failed. Default: 23 hours. */
  readonly limitMs?: number | undefined;
  /** Told which backup it is, as soon as that is known; of a server that is recovered once more, with the one it begins with. */
  readonly onChosen?: ((manifest: Manifest) => void) | undefined;
}

/** Where a backup is restored to; nothing of it is left there. */
export type Scratch =
  /** A server of its own, which is started for it and which nobody else can reach. */
  | {
      readonly kind: 'own';
      /** A folder whose disk has room for all that is restored. */
      readonly workFolder: string;
      /** Folder of the server's programs. Default: those of the backup's major version that are installed. */
      readonly binDir?: string | undefined;
      /** What the server may take, by and large. Default: 512 MiB. */
      readonly memoryBytes?: number | undefined;
    }
  /** A database of its own on a server that is there. */
  | { readonly kind: 'given'; readonly connection: ConnectionParameters };

/** What was compared with what was recorded at the backup. */
export type Compared =
  /** The digest of the SQL text; the server took every statement of it. */
  | { readonly by: 'statements' }
  /** The rows as they are in the restored database: their number in each table, or also their hashes. */
  | { readonly by: 'rows' | 'hashes'; readonly tables: number; readonly rows: number }
  /** Every file of the server, with its own list; and, where pg_amcheck is installed, every table and B-tree and each row in these. */
  | { readonly by: 'files'; readonly amcheck: 'passed' | 'rows-in-part' | 'not-installed' };

/** Up to where a server was brought back. */
export interface RecoveredTo {
  /** Undefined: to the end of its backup. */
  readonly plan: RecoveryPlan | undefined;
  /** When the last transaction that is there was committed: RFC 3339. */
  readonly lastTransaction: string | undefined;
}

export interface DrillOutcome {
  readonly manifest: Manifest;
  /** Until the server could be asked; without what was compared then. */
  readonly restoreMs: number;
  readonly compared: Compared;
  /** Those that hold: all. */
  readonly assertions: number;
  readonly recovered: RecoveredTo | undefined;
  readonly durationMs: number;
}

/** A backup that is restored, while it can be asked. */
export interface Restored extends Pick<DrillOutcome, 'restoreMs' | 'compared' | 'recovered'> {
  /** Of the database that assertions are about. */
  readonly connection: ConnectionParameters;
}

/** What has to be known of a drill to restore for it. */
export interface DrillWork extends DrillRequest {
  readonly manifest: Manifest;
  /** Of a server that is restored once more: up to where it was to recover before. Default: it is the first time. */
  readonly again?: { readonly recovery: RecoveryRequest | undefined } | undefined;
  /** Name of what it makes, in servers' views of who is connected. */
  readonly applicationName: string;
}
