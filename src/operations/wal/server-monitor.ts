import type { ConnectionParameters } from '../../postgres/client/connection-parameters.ts';
import { quoteIdentifier, quoteLiteral } from '../../postgres/client/quote.ts';
import {
  connectForReplication,
  type ReplicationRow,
  type ReplicationSession,
} from '../../postgres/replication/replication-session.ts';
import { sqlStateOf } from '../../postgres/client/server-error.ts';
import { type Lsn, parseLsn } from '../../postgres/wal/lsn.ts';

const UNDEFINED_OBJECT = '42704';
/** Whoever uses the slot may be a connection that broke, which the server finds out by its wal_sender_timeout. */
const DROP_MS_MAX = 10 * 60_000;

/** Where a physical slot stands, and what it holds back (https://www.postgresql.org/docs/current/view-pg-replication-slots.html). */
export interface SlotStatus {
  /** Undefined: it has reserved nothing, or has lost it. */
  readonly restartLsn: Lsn | undefined;
  readonly state: 'reserved' | 'extended' | 'unreserved' | 'lost' | undefined;
  /** Bytes that may still be written before it is lost, where max_slot_wal_keep_size bounds it. */
  readonly safeBytes: number | undefined;
  /** Bytes of WAL that the server keeps for it. */
  readonly retainedBytes: number | undefined;
  readonly isActive: boolean;
}

/**
 * A second connection, for questions about the slot. It is one of replication that streams nothing: so it does not hold up a
 * smart shutdown, as sessions do, and a server that begins to shut down ends it first, before it waits for those that stream.
 */
export class ServerMonitor {
  /** Resolves when the connection is gone: the server shuts down, or the network has failed. */
  readonly gone: Promise<void>;
  readonly #session: ReplicationSession;
  /** What is asked at the same time is asked one after the other. */
  #queue: Promise<unknown> = Promise.resolve();

  /** For the slot of that name. Errors: those of `connectForReplication`, in the mode `database`. */
  static async open(
    { connection, slot }: { readonly connection: ConnectionParameters; readonly slot: string },
    signal: AbortSignal,
  ): Promise<ServerMonitor> {
    const options = { applicationName: `${slot} monitor`, signal, mode: 'database' } as const;
    return new ServerMonitor(await connectForReplication(connection, options));
  }

  private constructor(session: ReplicationSession) {
    this.#session = session;
    this.gone = session.closed;
  }

  get isAlive(): boolean {
    return this.#session.alive;
  }

  /** Undefined: there is no physical slot of that name. */
  async slot(name: string): Promise<SlotStatus | undefined> {
    const [row] = await this.#ask(
      `SELECT restart_lsn, wal_status, safe_wal_size, active,
              pg_catalog.pg_wal_lsn_diff(
                CASE WHEN pg_catalog.pg_is_in_recovery()
                     THEN coalesce(pg_catalog.pg_last_wal_receive_lsn(), pg_catalog.pg_last_wal_replay_lsn())
                     ELSE pg_catalog.pg_current_wal_lsn() END, restart_lsn) AS retained
         FROM pg_catalog.pg_replication_slots
        WHERE slot_type = 'physical' AND slot_name = ${quoteLiteral(name)}`,
    );
    if (row === undefined) return undefined;
    const restartLsn = row['restart_lsn'];
    return {
      restartLsn: restartLsn ? parseLsn(restartLsn) : undefined,
      state: stateOf(row['wal_status']),
      safeBytes: numberOf(row['safe_wal_size']),
      retainedBytes: numberOf(row['retained']),
      isActive: row['active'] === 't',
    };
  }

  /** Waits until nobody uses it any more. Idempotent. */
  async dropSlot(name: string): Promise<void> {
    try {
      await this.#ask(`DROP_REPLICATION_SLOT ${quoteIdentifier(name)} WAIT`, DROP_MS_MAX);
    } catch (error) {
      if (sqlStateOf(error) !== UNDEFINED_OBJECT) throw error;
    }
  }

  async #ask(command: string, answerMsMax?: number): Promise<readonly ReplicationRow[]> {
    const asked = this.#queue.then(() => this.#session.query(command, answerMsMax));
    this.#queue = asked.catch(() => undefined);
    return asked;
  }

  async close(): Promise<void> {
    await this.#session.close();
  }

  /** Ends the connection at once; what is being asked fails. */
  destroy(): void {
    this.#session.destroy();
  }
}

function stateOf(text: string | null | undefined): SlotStatus['state'] {
  switch (text) {
    case 'reserved':
    case 'extended':
    case 'unreserved':
    case 'lost':
      return text;
    default:
      return undefined;
  }
}

function numberOf(text: string | null | undefined): number | undefined {
  return text ? Number(text) : undefined;
}
