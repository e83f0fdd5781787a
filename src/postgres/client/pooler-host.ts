import { PgarkError } from '../../common/errors.ts';
import type { ConnectionParameters } from './connection-parameters.ts';

/** Addresses that providers give to poolers which hand a session to another client after each transaction. */
const POOLER_ADDRESSES: readonly {
  readonly matches: (host: string, port: number) => boolean;
  readonly direct: (host: string) => string;
}[] = [
  {
    // Neon (https://neon.com/docs/connect/connection-pooling), and those who took the name over.
    matches: (host) => /^[^./]+-pooler(\.|$)/.test(host),
    direct: (host) => `the server itself is ${host.replace('-pooler', '')}`,
  },
  {
    // Supabase (https://supabase.com/docs/guides/database/connecting-to-postgres): 5432 of the same host keeps sessions.
    matches: (host, port) => host.endsWith('.pooler.supabase.com') && port === 6543,
    direct: () => 'use port 5432 of the same host, or the direct connection db.PROJECT.supabase.co:5432',
  },
  {
    matches: (host, port) => host.endsWith('.db.ondigitalocean.com') && port === 25_061,
    direct: () => 'use port 25060, and the name of the database instead of the pool’s',
  },
];

/** Refuses an address that is known to be a pooler's, before anybody connects. Error: `postgres-pooler`. */
export function refusePoolerAddress({ host, port }: Pick<ConnectionParameters, 'host' | 'port'>): void {
  const name = host.toLowerCase();
  const found = POOLER_ADDRESSES.find(({ matches }) => matches(name, port));
  if (found === undefined) return;
  throw new PgarkError(
    'postgres-pooler',
    `${host}:${port} is the address of a connection pooler, which gives sessions to others between transactions`,
    { hint: `backups and restores need sessions of their own: ${found.direct(name)}` },
  );
}
