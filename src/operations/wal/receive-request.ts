import type { PgarkError } from '../../common/errors.ts';
import type { DecryptionKeys, Sealer } from '../../pipeline/encryption/sealer.ts';
import type { ConnectionParameters } from '../../postgres/client/connection-parameters.ts';
import type { ServerPosition } from '../../postgres/replication/caught-up.ts';
import type { Lsn } from '../../postgres/wal/lsn.ts';
import type { ServerTime } from '../../postgres/wal/server-time.ts';
import type { WalStore } from './archives.ts';
import type { SlotStatus } from './server-monitor.ts';

export interface ReceiveWalRequest {
  /** Name of the configured server or database; the WAL is of its whole server. */
  readonly source: string;
  readonly connection: ConnectionParameters;
  /** Replication slot; made if it is not there. The server sees its name as application_name too. */
  readonly slot: string;
  /** One at least. What is archived is archived in all of them. */
  readonly stores: readonly WalStore[];
  readonly sealer?: Sealer | undefined;
  /** To compare with what is archived already. Default: none. */
  readonly keys?: DecryptionKeys | undefined;
  /** Longest time that WAL waits before it is stored, in milliseconds. */
  readonly flushMs: number;
  /** WAL is stored as it comes, and the server is told at once, so that its commits may wait for it. Default: false. */
  readonly synchronous?: boolean | undefined;
  /**
   * Bytes that the slot may hold back on the server. From three quarters on there is an alarm; at all of it the slot is
   * dropped, and a gap in what is archived the price. Default: no limit of ours.
   */
  readonly slotBudgetBytes?: number | undefined;
  /** After the signal to end, what has come may be stored for so long, in milliseconds. Default: 10,000. */
  readonly stopGraceMs?: number | undefined;
  /** Whether an error of the first connection that no retry would mend ends it. Default: false: all is tried again. */
  readonly failsAtStart?: boolean | undefined;
  /** What somebody has to look after; logged too. */
  readonly onAlarm?: ((alarm: WalAlarm) => void) | undefined;
}

/**
 * `gap`: WAL is missing for good, and a new base backup is needed; `slot`: it holds back too much; `slot-dropped`;
 * `store`: a storage does not take WAL; `server`: it cannot be received. The last three pass (`over`).
 */
export type WalAlarm =
  | { readonly kind: 'gap'; readonly error: PgarkError }
  | { readonly kind: 'slot' | 'slot-dropped' | 'server'; readonly error: PgarkError }
  | { readonly kind: 'store'; readonly storage: string; readonly error: PgarkError }
  | { readonly kind: 'over'; readonly of: 'slot' | 'server' }
  | { readonly kind: 'over'; readonly of: 'store'; readonly storage: string };

/** What a receiver knows at a moment. */
export interface WalReceiverState {
  readonly phase: 'connecting' | 'streaming' | 'waiting' | 'stopped';
  readonly systemIdentifier: string | undefined;
  readonly timeline: number | undefined;
  /** Behind the last byte that has come, and behind the last that is archived. */
  readonly received: Lsn | undefined;
  readonly archived: Lsn | undefined;
  /** What the server told last, and when that was by our clock. */
  readonly server: ServerPosition | undefined;
  readonly heardAt: Date | undefined;
  /** By the server's clock: all that was committed by then is archived. */
  readonly coveredUntil: ServerTime | undefined;
  /** Gaps that were met since the start. */
  readonly gaps: number;
  readonly slot: SlotStatus | undefined;
  /** Why it does not stream. */
  readonly failure: PgarkError | undefined;
  /** Why the slot could not be dropped that holds back more than it may. */
  readonly slotKept: PgarkError | undefined;
  /** Storages that refuse, or were left behind. */
  readonly failingStores: ReadonlyMap<string, FailingStore>;
}

export interface FailingStore {
  readonly failure: PgarkError;
  readonly since: Date;
  /** Since the others went on without it: all that was committed by then, by the server's clock, may be all that it has. */
  readonly left?: { readonly coveredUntil: ServerTime | undefined } | undefined;
}

/** How long ago it was, in milliseconds, that all of the server's commits were archived; undefined while that is not known. */
export function walLagMs(
  { server, heardAt, coveredUntil }: Pick<WalReceiverState, 'server' | 'heardAt' | 'coveredUntil'>,
  now: Date,
): number | undefined {
  if (server === undefined || heardAt === undefined || coveredUntil === undefined) return undefined;
  // A clock that was put back since makes it more, and not less.
  const atServerMs = Number(server.time / 1_000n) + Math.abs(now.getTime() - heardAt.getTime());
  return Math.max(0, atServerMs - Number(coveredUntil / 1_000n));
}

/** Bytes of WAL that the server had when it was heard last and that are not archived: what would be lost with it. */
export function walLagBytes({ server, archived }: WalReceiverState): number | undefined {
  if (server === undefined || archived === undefined) return undefined;
  return server.end > archived ? Number(server.end - archived) : 0;
}
