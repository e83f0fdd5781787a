import { connect } from '../postgres/client/connect.ts';
import type { ConnectionParameters } from '../postgres/client/connection-parameters.ts';
import { readServerFacts } from '../postgres/client/preflight.ts';
import { withSession } from '../postgres/client/with-session.ts';
import type { Repository } from '../repository/repository.ts';
import type { CallOptions } from '../storage/object-store.ts';
import { areOtherServers, type RecordedServer } from './other-server.ts';

/** Of a source: two servers may take turns in any order. */
const NEWEST_MAX = 5;

/**
 * Another server than that of the connection, if one of the newest backups of the source is of one: two servers share a name,
 * or one has moved. One LIST, a few GETs, one connection. Undefined also where a server does not say which one it is.
 */
export async function otherServerOf(
  repository: Repository,
  source: string,
  connection: ConnectionParameters,
  { signal }: Required<CallOptions>,
): Promise<RecordedServer | undefined> {
  const newest = (await repository.newestKeys({ source }, { signal })).slice(0, NEWEST_MAX);
  if (newest.length === 0) return undefined;
  const login = { applicationName: 'pgark', signal };
  const own = await withSession(connect(connection, login), signal, readServerFacts);
  for (const { key } of newest) {
    const server = (await repository.manifestAt(key, { signal }))?.server;
    if (server !== undefined && areOtherServers(server, own)) return server;
  }
  return undefined;
}
