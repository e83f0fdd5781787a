import { PgarkError } from '../../common/errors.ts';
import type { Session } from '../client/connect.ts';
import type { ConnectionParameters } from '../client/connection-parameters.ts';
import type { ServerFacts } from '../client/preflight.ts';
import { quoteIdentifier } from '../client/quote.ts';
import { identifySystem, type SystemIdentity } from './replication-commands.ts';
import { connectForReplication } from './replication-session.ts';

/** Connections that a base backup takes: its own, and the one of the WAL that it needs. */
const SENDERS_NEEDED = 2;

interface ReplicationFacts {
  readonly mayReplicate: boolean;
  readonly walLevel: string;
  readonly sendersMax: number;
  readonly senders: number;
}

/**
 * Finds out, on an ordinary session, whether the role and the server's settings allow a base backup. Errors:
 * `postgres-privileges`, `postgres-settings`, each with what helps.
 */
export async function checkReplicationSettings(session: Session): Promise<void> {
  const { user } = session.parameters;
  const { mayReplicate, walLevel, sendersMax, senders } = await factsOf(session);
  if (!mayReplicate) {
    throw new PgarkError('postgres-privileges', `role ${user} may not replicate, which a physical backup is`, {
      hint: `ALTER ROLE ${quoteIdentifier(user)} REPLICATION`,
    });
  }
  if (walLevel === 'minimal') {
    throw settingError('wal_level is minimal, so that the write-ahead log does not hold what a physical backup needs', {
      hint: 'set wal_level = replica in postgresql.conf and restart the server',
    });
  }
  if (sendersMax < SENDERS_NEEDED) {
    throw settingError(`max_wal_senders is ${sendersMax}, and a physical backup takes ${SENDERS_NEEDED}`, {
      hint: 'set max_wal_senders = 10, the default, in postgresql.conf and restart the server',
    });
  }
  if (senders + SENDERS_NEEDED > sendersMax) {
    throw settingError(
      `${senders} of ${sendersMax} WAL senders are in use, and a physical backup takes ${SENDERS_NEEDED} more`,
      {
        hint: 'raise max_wal_senders and restart the server, or end a replication that is not needed (pg_stat_replication)',
      },
    );
  }
}

/** Since this version a server sends what is in tablespaces that are folders of its own data directory. */
const IN_PLACE_SENT_SINCE = 16;

/**
 * Finds out, on an ordinary session, whether a base backup has all tablespaces. An older server passes over those that are in place
 * (allow_in_place_tablespaces), and lists nothing of them either. Error: `postgres-settings`.
 */
export async function checkTablespaces(session: Session, { major }: Pick<ServerFacts, 'major'>): Promise<void> {
  if (major >= IN_PLACE_SENT_SINCE) return;
  const inPlace = await session.query<{ name: string }>(
    `select spcname as name from pg_tablespace
      where starts_with(pg_tablespace_location(oid), 'pg_tblspc/') order by spcname`,
  );
  if (inPlace.length === 0) return;
  const names = inPlace.map(({ name }) => quoteIdentifier(name)).join(', ');
  throw settingError(`PostgreSQL ${major} leaves tablespaces in place out of base backups: ${names}`, {
    hint: 'move what is in them to other tablespaces (ALTER TABLE … SET TABLESPACE) and drop them, or upgrade the server to 16 or newer',
  });
}

/** Opens a connection for replication and closes it. Resolves with what the server behind it is. */
export async function checkReplicationLogin(
  parameters: ConnectionParameters,
  options: { readonly applicationName: string; readonly signal: AbortSignal },
): Promise<SystemIdentity> {
  const session = await connectForReplication(parameters, options);
  const hangUp = (): void => void session.close();
  options.signal.addEventListener('abort', hangUp, { once: true });
  try {
    return await identifySystem(session);
  } finally {
    options.signal.removeEventListener('abort', hangUp);
    await session.close();
  }
}

/** Error: `postgres-pooler` where two connections have led to two servers. */
export function checkSameServer({ systemIdentifier: known }: ServerFacts, systemIdentifier: string): void {
  if (known === undefined || known === systemIdentifier) return;
  throw new PgarkError(
    'postgres-pooler',
    `the address leads to system ${known} for SQL and to system ${systemIdentifier} for replication`,
    { hint: 'use the host and port of one server itself: whatever is in between chooses among several' },
  );
}

async function factsOf(session: Session): Promise<ReplicationFacts> {
  const [row] = await session.query<{ may: boolean; level: string; max: number; used: number }>(
    `select (select rolsuper or rolreplication from pg_roles where rolname = current_user) as may,
            current_setting('wal_level') as level, current_setting('max_wal_senders')::int as max,
            (select count(*)::int from pg_stat_replication) as used`,
  );
  if (row === undefined) throw new PgarkError('postgres-failed', 'the server does not tell its settings');
  return { mayReplicate: row.may, walLevel: row.level, sendersMax: row.max, senders: row.used };
}

function settingError(message: string, options: { readonly hint: string }): PgarkError {
  return new PgarkError('postgres-settings', message, options);
}
