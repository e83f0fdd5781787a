import type { WalPosition } from '../../postgres/replication/base-backup.ts';
import type { Manifest } from '../../repository/manifest.ts';

/** The WAL that a base backup needs, on its way into the archive beside the base. */
export interface WalRun {
  /** Aborted, with its error as the reason, once it is known that WAL is missing. */
  readonly lost: AbortSignal;
  /** WAL is archived from the segment on that holds this position. Called once. */
  start(position: WalPosition): void;
  /**
   * Resolves with the first and the last segment, once the archive of each destination that is left has all of them, on one
   * timeline and without a gap.
   */
  finish(stop: WalPosition): Promise<NonNullable<Manifest['walNeeded']>>;
  /** Ends it wherever it is; what is archived stays. */
  close(): Promise<void>;
}

/** Opens it before the server begins a base backup, so that the server keeps the WAL from then on. */
export type OpenWal = (facts: {
  readonly systemIdentifier: string;
  readonly applicationName: string;
  readonly signal: AbortSignal;
}) => Promise<WalRun>;
