import type { Seal } from '../formats/sealed-object.ts';
import type { ConnectionParameters } from '../postgres/client/connection-parameters.ts';
import type { DatabaseFacts } from '../postgres/client/preflight.ts';
import type { Manifest } from '../repository/manifest.ts';
import type { Preparation } from './backup-checks.ts';
import type { BackupDestination, DestinationOutcome } from './backup-destination.ts';
import type { CheckedDestination } from './backup-group.ts';
import type { IncrementalRequest } from './incremental-base.ts';
import type { SizeExpectation } from './size-judge.ts';

export interface BackupRequest {
  /** Name of the configured source; the folder of its manifests. */
  readonly source: string;
  readonly connection: ConnectionParameters;
  /** Where the backup goes: at least one place, each with a name and a store of its own. */
  readonly destinations: readonly BackupDestination[];
  readonly seal: Seal;
  /**
   * `plain`: SQL text in one object; `directory`: an archive for pg_restore, dumped in parallel; `physical`: the files of
   * the whole server and the write-ahead log that they need. Default: plain.
   */
  readonly format?: Manifest['format'];
  /** How plain backups are named. */
  readonly nameTemplate: string;
  /** Sessions that dump at once, for format directory. Default: one for each processor, 8 at the most. */
  readonly jobs?: number | undefined;
  /** Tables that are larger are dumped in pieces of about so many bytes, for format directory. Default: 128 MiB. */
  readonly pieceBytes?: number | undefined;
  readonly excludeTableData: readonly string[];
  /** `fast`: the server makes its checkpoint at once; `spread`: at its own pace. For format physical. Default: fast. */
  readonly checkpoint?: 'fast' | 'spread' | undefined;
  /** Upper limit of the bytes that the server sends in a second, for format physical. Default: none. */
  readonly rateBytesPerSecondMax?: number | undefined;
  /** Only what was changed since an earlier one, where that is possible. For format physical. Default: all. */
  readonly incremental?: IncrementalRequest | undefined;
  /** What size it is to have; a full backup of another one is committed as suspicious. Default: any. */
  readonly sizeExpected?: SizeExpectation | undefined;
  readonly leaseTermMs: number;
  /** Read each stored object back and compare its digest before the commit. */
  readonly readBack: boolean;
  /** Make every check, then stop. */
  readonly dryRun: boolean;
  /**
   * What moves no byte for so long is given up, in milliseconds: a destination that takes none while there are some to
   * take, or the whole run if pg_dump sends none. Longer than the five minutes in which pg_dump may wait for locks on
   * tables. Default: 15 minutes.
   */
  readonly stallMs?: number;
  /** Told what has come of each destination as soon as that is certain. */
  readonly onDestination?: (outcome: DestinationOutcome) => void;
}

export type BackupOutcome =
  | {
      /** At least one destination has the backup. */
      readonly kind: 'committed';
      /** All of the request, in its order. */
      readonly destinations: readonly DestinationOutcome[];
      readonly durationMs: number;
    }
  | {
      readonly kind: 'checked';
      /** What the backup would be called: the key of its object, or its folder. */
      readonly key: string;
      /** What would make it. */
      readonly client: Preparation['client'];
      readonly database: DatabaseFacts;
      /** All of the request, in its order; at least one has no error. */
      readonly destinations: readonly CheckedDestination[];
    };
