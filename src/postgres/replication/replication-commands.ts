import { PgarkError } from '../../common/errors.ts';
import { quoteIdentifier } from '../client/quote.ts';
import type { ReplicationRow, ReplicationSession } from './replication-session.ts';

/** What IDENTIFY_SYSTEM tells. */
export interface SystemIdentity {
  /** Digits; beyond 2^53. */
  readonly systemIdentifier: string;
  readonly timeline: number;
  /** Up to where WAL is flushed on this server, `0/1A2B3C4D`. Not where a new slot begins. */
  readonly flushLsn: string;
}

export async function identifySystem(session: ReplicationSession): Promise<SystemIdentity> {
  const row = one(await session.query('IDENTIFY_SYSTEM'), 'IDENTIFY_SYSTEM');
  return {
    systemIdentifier: text(row, 'systemid', 'IDENTIFY_SYSTEM'),
    timeline: Number(text(row, 'timeline', 'IDENTIFY_SYSTEM')),
    flushLsn: text(row, 'xlogpos', 'IDENTIFY_SYSTEM'),
  };
}

/** The value of a setting as SHOW says it, with its unit: `16MB`. */
export async function showSetting(session: ReplicationSession, name: string): Promise<string> {
  const [value] = Object.values(one(await session.query(`SHOW ${quoteIdentifier(name)}`), `SHOW ${name}`));
  return value ?? '';
}

/** Whether the server writes WAL on this timeline itself: it is no standby, and the timeline is its own. */
export async function writesOn(session: ReplicationSession, timeline: number): Promise<boolean> {
  // PostgreSQL 13 does not tell by itself; there who writes nothing by default is taken for a standby.
  const name = session.major >= 14 ? 'in_hot_standby' : 'transaction_read_only';
  if ((await showSetting(session, name)) !== 'off') return false;
  // In this order: a promotion between makes another timeline.
  return (await identifySystem(session)).timeline === timeline;
}

/** Where a physical slot stands; what it has not reserved yet is missing. */
export interface SlotPosition {
  readonly restartLsn: string | undefined;
  readonly restartTimeline: number | undefined;
}

/** PostgreSQL 15 and newer. Undefined where there is no slot of that name. */
export async function readReplicationSlot(
  session: ReplicationSession,
  slot: string,
): Promise<SlotPosition | undefined> {
  const command = 'READ_REPLICATION_SLOT';
  const row = one(await session.query(`${command} ${quoteIdentifier(slot)}`), command);
  if (row['slot_type'] === null) return undefined;
  const timeline = row['restart_tli'];
  return {
    restartLsn: row['restart_lsn'] ?? undefined,
    restartTimeline: timeline === null || timeline === undefined ? undefined : Number(timeline),
  };
}

function one(rows: readonly ReplicationRow[], command: string): ReplicationRow {
  const [row] = rows;
  if (row === undefined || rows.length > 1) {
    throw new PgarkError('postgres-failed', `the server answered ${command} with ${rows.length} rows instead of one`);
  }
  return row;
}

function text(row: ReplicationRow, column: string, command: string): string {
  const value = row[column];
  if (value === undefined || value === null) {
    throw new PgarkError('postgres-failed', `the server answered ${command} without ${column}`);
  }
  return value;
}
