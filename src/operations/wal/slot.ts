import { PgarkError } from '../../common/errors.ts';
import { quoteIdentifier } from '../../postgres/client/quote.ts';
import { sqlStateOf } from '../../postgres/client/server-error.ts';
import { readReplicationSlot } from '../../postgres/replication/replication-commands.ts';
import type { ReplicationSession } from '../../postgres/replication/replication-session.ts';
import { type Lsn, parseLsn } from '../../postgres/wal/lsn.ts';
import type { ServerMonitor, SlotStatus } from './server-monitor.ts';

/** READ_REPLICATION_SLOT is there from this version on. */
const READS_SLOTS_SINCE = 15;
const DUPLICATE_OBJECT = '42710';
const UNDEFINED_OBJECT = '42704';

export interface Slot {
  /** From here on the server keeps WAL. */
  readonly restartLsn: Lsn;
  /** `lost`: it was there, and had lost what it was to keep, so that it was made anew. */
  readonly origin: 'found' | 'made' | 'lost';
}

/**
 * Finds the physical slot, or makes it and has it keep WAL from the last checkpoint on. Where it is can only be asked: making
 * one does not tell, and where the server writes at that moment is too late. Errors: `postgres-…`.
 */
export async function ensureSlot(
  session: ReplicationSession,
  monitor: ServerMonitor | undefined,
  name: string,
): Promise<Slot> {
  const found = await position(session, monitor, name);
  if (typeof found === 'bigint') return { restartLsn: found, origin: 'found' };
  if (found === 'nothing') await dropSlot(session, name);
  await makeSlot(session, name);
  const made = await position(session, monitor, name);
  if (typeof made === 'bigint') return { restartLsn: made, origin: found === 'nothing' ? 'lost' : 'made' };
  throw new PgarkError('postgres-failed', `the replication slot ${name} was made, but the server keeps nothing for it`);
}

/** The slot keeps nothing any more: makes another one of its name. */
export async function remakeSlot(
  session: ReplicationSession,
  monitor: ServerMonitor | undefined,
  name: string,
): Promise<Slot> {
  await dropSlot(session, name);
  const { restartLsn } = await ensureSlot(session, monitor, name);
  return { restartLsn, origin: 'lost' };
}

/** Idempotent. */
async function dropSlot(session: ReplicationSession, name: string): Promise<void> {
  try {
    await session.query(`DROP_REPLICATION_SLOT ${quoteIdentifier(name)}`);
  } catch (error) {
    if (sqlStateOf(error) !== UNDEFINED_OBJECT) throw error;
  }
}

/** `nothing`: there is one, for which nothing is kept. */
async function position(
  session: ReplicationSession,
  monitor: ServerMonitor | undefined,
  name: string,
): Promise<Lsn | 'nothing' | undefined> {
  if (session.major >= READS_SLOTS_SINCE) {
    const slot = await readReplicationSlot(session, name);
    if (slot === undefined) return undefined;
    const restartLsn = slot.restartLsn === undefined ? undefined : parseLsn(slot.restartLsn);
    const status = await monitor?.slot(name);
    return keptFrom({ restartLsn, state: status?.state });
  }
  if (monitor === undefined) {
    throw new PgarkError(
      'postgres-privileges',
      `a server of version ${session.major} tells where a slot stands only in SQL, and lets user ${session.parameters.user} into no database`,
      { hint: `let the role connect to the database ${session.parameters.database} in pg_hba.conf` },
    );
  }
  const slot = await monitor.slot(name);
  return slot && keptFrom(slot);
}

/** One that was not used for too long (`idle_replication_slot_timeout`) still says where it stood, and keeps nothing. */
export function keptFrom({ restartLsn, state }: Pick<SlotStatus, 'restartLsn' | 'state'>): Lsn | 'nothing' {
  return state === 'lost' || restartLsn === undefined ? 'nothing' : restartLsn;
}

async function makeSlot(session: ReplicationSession, name: string): Promise<void> {
  try {
    await session.query(`CREATE_REPLICATION_SLOT ${quoteIdentifier(name)} PHYSICAL RESERVE_WAL`);
  } catch (error) {
    // Somebody was quicker.
    if (sqlStateOf(error) !== DUPLICATE_OBJECT) throw error;
  }
}
