import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { Secret } from '../../src/common/secret.ts';
import { connect, type Session } from '../../src/postgres/client/connect.ts';
import type { ConnectionParameters } from '../../src/postgres/client/connection-parameters.ts';
import { postgresFacts } from './facts.ts';
import type { TestDatabase } from './postgres.ts';

/** A session of pgark's own in the database; closed at the end, whatever comes of it. */
export async function inSession<Result>(
  database: Pick<TestDatabase, 'name'>,
  work: (session: Session) => Promise<Result>,
  changed: Partial<ConnectionParameters> = {},
): Promise<Result> {
  const { password, ...server } = postgresFacts();
  const parameters = {
    ...server,
    password: new Secret(password),
    database: database.name,
    sslMode: 'disable' as const,
  };
  const session = await connect({ ...parameters, ...changed }, { applicationName: 'pgark copy' });
  try {
    return await work(session);
  } finally {
    await session.close();
  }
}

/** What psql makes of the statement, byte for byte. */
export async function psqlOutput(database: TestDatabase, sql: string): Promise<Buffer> {
  const { stdout } = await promisify(execFile)('psql', ['-X', '-q', '-c', sql], {
    env: { ...database.env, PATH: process.env['PATH'], PGCLIENTENCODING: 'UTF8' },
    encoding: 'buffer',
    maxBuffer: 1024 ** 3,
  });
  return stdout;
}

/**
 * Waits until the server has been waiting for so long that it has been seen twenty times to do so, or has ended what it
 * did. `event` is one of pg_stat_activity's wait events.
 */
export async function untilHeldUp(database: TestDatabase, event: string): Promise<void> {
  const client = await database.connect();
  try {
    for (let seen = 0; seen < 20; ) {
      const { rows } = await client.query<{ state: string; event: string | null }>(
        `SELECT state, wait_event AS event FROM pg_stat_activity
          WHERE datname = current_database() AND application_name = 'pgark copy'`,
      );
      const [row] = rows;
      if (row?.state !== 'active') return;
      seen = row.event === event ? seen + 1 : 0;
    }
  } finally {
    await client.end();
  }
}
