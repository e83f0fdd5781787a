import { readFile, writeFile } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { isPgarkError } from '../../src/common/errors.ts';
import { Secret } from '../../src/common/secret.ts';
import { connect, sqlStateOf } from '../../src/postgres/client/connect.ts';
import type { ConnectionParameters } from '../../src/postgres/client/connection-parameters.ts';
import {
  identifySystem,
  readReplicationSlot,
  showSetting,
} from '../../src/postgres/replication/replication-commands.ts';
import { connectForReplication, type ReplicationSession } from '../../src/postgres/replication/replication-session.ts';
import { startThrowawayServer, type ThrowawayServer } from '../../src/postgres/server/throwaway-server.ts';
import { reload } from '../support/reload.ts';

let server: ThrowawayServer;
const parametersOf = (login: Partial<ConnectionParameters> = {}): ConnectionParameters => ({
  host: server.host,
  port: server.port,
  user: server.user,
  password: server.password,
  database: server.database,
  sslMode: 'prefer',
  ...login,
});
const OPTIONS = { applicationName: 'pgark test' };

async function sql<T extends Record<string, unknown>>(text: string): Promise<T[]> {
  const session = await connect(parametersOf(), OPTIONS);
  try {
    return await session.query<T>(text);
  } finally {
    await session.close();
  }
}

beforeAll(async () => {
  server = await startThrowawayServer({ listen: 'tcp', settings: { max_wal_senders: '6' } });
  await sql(`CREATE ROLE copier LOGIN REPLICATION PASSWORD 'c'`);
  await sql(`ALTER ROLE copier SET statement_timeout = '7s'`);
  await sql(`CREATE ROLE reader LOGIN PASSWORD 'r'`);
});
afterAll(async () => server.stop());

const COPIER = { user: 'copier', password: new Secret('c') };

describe('a replication connection', () => {
  test('tells what the server is, with identifiers as text, and where a slot stands', async () => {
    const session = await connectForReplication(parametersOf(COPIER), OPTIONS);
    const [known] = await sql<{ id: string }>('select system_identifier::text as id from pg_control_system()');
    const identity = await identifySystem(session);
    expect(identity).toEqual({
      systemIdentifier: known?.id,
      timeline: 1,
      flushLsn: expect.stringMatching(/^[0-9A-F]+\/[0-9A-F]+$/),
    });
    expect(await showSetting(session, 'wal_segment_size')).toBe('16MB');
    expect(session).toMatchObject({ mode: 'physical', major: 15, alive: true });
    expect(await readReplicationSlot(session, 'holder')).toBeUndefined();
    await session.query('CREATE_REPLICATION_SLOT "holder" TEMPORARY PHYSICAL RESERVE_WAL');
    const position = await readReplicationSlot(session, 'holder');
    expect(position).toEqual({ restartLsn: expect.stringMatching(/^0\//), restartTimeline: 1 });
    await session.close();
    expect(session.alive).toBe(false);
  });

  test('goes on after an error, which carries the words and the SQLSTATE of the server', async () => {
    const session = await connectForReplication(parametersOf(COPIER), OPTIONS);
    const failure = await session.query('DROP_REPLICATION_SLOT "missing"').catch((error: unknown) => error);
    expect(failure).toMatchObject({ code: 'postgres-failed', message: expect.stringContaining('"missing"') });
    expect(sqlStateOf(failure)).toBe('42704');
    expect(await showSetting(session, 'server_version')).toBe(session.version);
    await session.close();
  });

  test('asks SQL too where it belongs to a database, and is free of the timeouts of its role', async () => {
    const session = await connectForReplication(parametersOf(COPIER), { ...OPTIONS, mode: 'database' });
    const rows = await session.query(
      `select 9007199254740993::int8 as big, null as none, current_setting('statement_timeout') as t`,
    );
    expect(rows).toEqual([{ big: '9007199254740993', none: null, t: '0' }]);
    await identifySystem(session);
    await session.close();
  });

  test('of a role without REPLICATION is refused with the statement that helps', async () => {
    const reader = { user: 'reader', password: new Secret('r') };
    const failure = await connectForReplication(parametersOf(reader), OPTIONS).catch((error: unknown) => error);
    expect(failure).toMatchObject({ code: 'postgres-privileges', hint: 'ALTER ROLE "reader" REPLICATION' });
  });

  test('belongs to a database where pg_hba.conf lets the user into that only, unless told to be physical', async () => {
    const [row] = await sql<{ file: string }>(`select current_setting('hba_file') as file`);
    const file = row?.file ?? '';
    const before = await readFile(file, 'utf8');
    await writeFile(file, 'host all all all scram-sha-256\n');
    await reload(sql);
    try {
      const session = await connectForReplication(parametersOf(COPIER), OPTIONS);
      expect(session.mode).toBe('database');
      await session.close();
      const physical = connectForReplication(parametersOf(COPIER), { ...OPTIONS, mode: 'physical' });
      await expect(physical).rejects.toMatchObject({ code: 'postgres-auth-failed' });
    } finally {
      await writeFile(file, before);
      await reload(sql);
    }
  });

  // The last one: the server notices a little later that so many connections have ended.
  test('is refused where all WAL senders are busy, by the name of the setting', async () => {
    const busy: ReplicationSession[] = [];
    const openAll = async (): Promise<never> => {
      for (;;) busy.push(await connectForReplication(parametersOf(COPIER), OPTIONS));
    };
    const failure = await openAll().catch((error: unknown) => error);
    expect(isPgarkError(failure, 'postgres-unreachable') && failure.hint).toContain('max_wal_senders');
    await Promise.all(busy.map((session) => session.close()));
  });
});
