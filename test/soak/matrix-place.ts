import { expect } from 'vitest';
import { type RunResult, runPgark } from '../support/cli.ts';
import type { TestStorage } from '../support/storage.ts';
import type { MatrixClient, MatrixServer } from './matrix-servers.ts';

export interface Place {
  readonly server: MatrixServer;
  readonly database: string;
  readonly storage: TestStorage;
}

/** pgark with a database of a server, a storage, and the programs of one client. */
export async function pgark(
  { server, database, storage }: Place,
  client: MatrixClient,
  args: readonly string[],
): Promise<RunResult> {
  const env = { ...storage.env, DATABASE_URL: server.url(database), PGARK_CLIENT_DIR: client.binDir };
  return runPgark(args, { env });
}

/** As `pgark`; fails with what pgark said if it did not end well. */
export async function done(place: Place, client: MatrixClient, args: readonly string[]): Promise<RunResult> {
  const result = await pgark(place, client, args);
  expect(result.exitCode, `pgark ${args.join(' ')}\n${result.stderr}`).toBe(0);
  return result;
}

/** Everything about a database that is not in it. */
export async function factsOf(server: MatrixServer, database: string): Promise<unknown> {
  const since = (major: number, columns: string): string => (server.major >= major ? `, ${columns}` : '');
  return server.query(
    `SELECT pg_get_userbyid(datdba) AS owner, pg_encoding_to_char(encoding) AS encoding, datcollate, datctype, datconnlimit,
            datistemplate, datallowconn, spcname, shobj_description(d.oid, 'pg_database') AS comment
            ${since(15, `datlocprovider, datcollversion, ${server.major >= 17 ? 'datlocale' : 'daticulocale'} AS locale`)}
            ${since(16, 'daticurules')},
            (SELECT array_agg(a::text ORDER BY a::text) FROM unnest(datacl) a) AS acl,
            (SELECT array_agg(setrole::regrole::text || c ORDER BY setrole, c)
               FROM pg_db_role_setting, unnest(setconfig) c WHERE setdatabase = d.oid) AS settings
       FROM pg_database d JOIN pg_tablespace t ON t.oid = dattablespace WHERE datname = '${database.replaceAll("'", "''")}'`,
  );
}
