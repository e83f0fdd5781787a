import { connect } from '../postgres/client/connect.ts';
import type { ConnectionParameters } from '../postgres/client/connection-parameters.ts';
import { readServerFacts } from '../postgres/client/preflight.ts';
import { withSession } from '../postgres/client/with-session.ts';
import { type IncrementalFacts, readIncrementalFacts } from '../postgres/replication/incremental-facts.ts';
import {
  checkReplicationLogin,
  checkReplicationSettings,
  checkSameServer,
  checkTablespaces,
} from '../postgres/replication/preflight.ts';

/**
 * Whether a physical backup can be made, by all that a backup itself asks before it begins. Errors:
 * `postgres-privileges`, `postgres-settings`, `postgres-pooler`, and those of a login.
 */
export async function examineReplication(
  connection: ConnectionParameters,
  signal: AbortSignal,
): Promise<IncrementalFacts> {
  const login = { applicationName: 'pgark doctor', signal };
  const { server: found, facts } = await withSession(connect(connection, login), signal, async (session) => {
    await checkReplicationSettings(session);
    const server = await readServerFacts(session);
    await checkTablespaces(session, server);
    return { server, facts: await readIncrementalFacts(session) };
  });
  checkSameServer(found, (await checkReplicationLogin(connection, login)).systemIdentifier);
  return facts;
}

/** What an incremental job comes to there: undefined if it can be what it says. */
export function whyNotIncremental({ summarizesWal }: IncrementalFacts): string | undefined {
  if (summarizesWal === undefined) {
    return 'the server is older than PostgreSQL 17: every backup of an incremental job is a full one';
  }
  if (summarizesWal) return undefined;
  return 'summarize_wal is off: every backup of an incremental job is a full one; ALTER SYSTEM SET summarize_wal = on, and reload';
}
