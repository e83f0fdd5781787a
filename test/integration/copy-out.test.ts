import { chown, writeFile } from 'node:fs/promises';
import { describe, expect, test } from 'vitest';
import { BLOCK_BYTES } from '../../src/common/bytes.ts';
import { sqlStateOf } from '../../src/postgres/client/connect.ts';
import { converse } from '../../src/postgres/protocol/conversation.ts';
import { findServerAccount } from '../../src/postgres/server/server-programs.ts';
import { startThrowawayServer } from '../../src/postgres/server/throwaway-server.ts';
import { makeCertificate } from '../support/certificate.ts';
import { inSession, psqlOutput, untilHeldUp } from '../support/copying.ts';
import { postgresFacts } from '../support/facts.ts';
import { createDatabase } from '../support/postgres.ts';
import { blocksOf, bytesOf } from '../support/streams.ts';
import { startTcpProxy } from '../support/tcp-proxy.ts';
import { makeTempDirectory } from '../support/temp.ts';

/** 40 MB of rows: more than the sockets on the way hold. */
const MUCH = `COPY (SELECT repeat('x', 999) FROM generate_series(1, 40000)) TO STDOUT`;

const TABLES = `
  CREATE TABLE awkward (a int, b text, c bytea, d text[]);
  INSERT INTO awkward VALUES
    (1, E'tab\\tline\\nreturn\\rback\\\\slash\\b\\f\\v', '\\x00ff5c09', ARRAY[NULL, '', 'NULL', '"']),
    (2, NULL, NULL, NULL), (3, '', '', '{}'), (4, '\\N', '\\x5c4e', ARRAY['\\N']), (5, '\\.', '\\x5c2e0a', ARRAY['ü€🐘']),
    (NULL, 'd', '\\x64', NULL);
  CREATE TABLE large (a text);
  INSERT INTO large SELECT repeat(md5(i::text), 312500) FROM generate_series(1, 2) AS i;
  CREATE TABLE nothing (a int, b text);
  CREATE TABLE no_columns ();
  INSERT INTO no_columns SELECT FROM generate_series(1, 1000);
  CREATE TABLE many AS SELECT i, md5(i::text) AS t, CASE WHEN i % 3 = 0 THEN repeat('y', i % 700) END AS u
    FROM generate_series(1, 200000) AS i;`;

describe('rows out of a table', () => {
  test('are what psql makes of them, byte for byte, and counted', async () => {
    await using database = await createDatabase({ name: 'copied', sql: TABLES });
    await inSession(database, async (session) => {
      for (const [table, count] of Object.entries({
        awkward: 6,
        large: 2,
        nothing: 0,
        no_columns: 1000,
        many: 200_000,
      })) {
        const sql = `COPY ${table} TO STDOUT`;
        let told = 0;
        const { stream, rows } = session.copyOut(sql, { onBytes: (bytes) => (told += bytes) });
        const blocks = await blocksOf(stream);
        const expected = await psqlOutput(database, sql);
        const same = Buffer.concat(blocks).equals(expected);
        expect({ table, same, rows: rows(), told }).toEqual({ table, same: true, rows: count, told: expected.length });
        expect(blocks.slice(0, -1).every((block) => block.length === BLOCK_BYTES)).toBe(true);
        expect(blocks.at(-1)?.length ?? 1).toBeLessThanOrEqual(BLOCK_BYTES);
      }
      expect(await session.query('SELECT 1 AS one')).toEqual([{ one: 1 }]);
    });
  });

  test('come by TLS as well, and the session goes on', async () => {
    await using directory = await makeTempDirectory();
    const files = { ssl_cert_file: directory.join('cert.pem'), ssl_key_file: directory.join('key.pem') };
    const { cert, key } = await makeCertificate();
    await writeFile(files.ssl_cert_file, cert);
    await writeFile(files.ssl_key_file, key, { mode: 0o600 });
    const account = await findServerAccount();
    for (const file of account ? [directory.path, ...Object.values(files)] : []) {
      await chown(file, account?.uid ?? 0, account?.gid ?? 0);
    }
    const settings = { ssl: 'on', ...files };
    await using server = await startThrowawayServer({ listen: 'tcp', settings });
    const { host, port, user, password, database } = server;
    const encrypted = { host, port, user, password, sslMode: 'verify-full', sslRootCert: files.ssl_cert_file } as const;
    await inSession(
      { name: database },
      async (session) => {
        const [row] = await session.query('SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()');
        expect(row).toEqual({ ssl: true });
        const sql = `COPY (SELECT i, repeat(md5(i::text), 9) FROM generate_series(1, 20000) AS i) TO STDOUT`;
        const { stream, rows } = session.copyOut(sql);
        const bytes = await bytesOf(stream);
        expect([bytes.toString().split('\n').length - 1, rows()]).toEqual([20_000, 20_000]);
        await session.query('CREATE TEMP TABLE t (i int, t text)');
        const again = async function* () {
          yield bytes;
        };
        expect(await session.copyIn('COPY t FROM STDIN', again())).toBe(20_000);
        expect((await bytesOf(session.copyOut('COPY t TO STDOUT').stream)).equals(bytes)).toBe(true);
      },
      encrypted,
    );
  });

  test('are not mixed with notices, settings and notifications in between', async () => {
    const talkative = `
      CREATE FUNCTION talk(i int) RETURNS text LANGUAGE plpgsql AS $$ BEGIN
        RAISE NOTICE '% %', i, repeat('n', i);
        PERFORM pg_notify('talk', i::text), set_config('application_name', 'talk ' || i, false);
        RETURN repeat('r', i);
      END $$`;
    await using database = await createDatabase({ name: 'talkative', sql: talkative });
    await inSession(database, async (session) => {
      await session.query('LISTEN talk');
      for (let turn = 0; turn < 3; turn += 1) {
        const { stream, rows } = session.copyOut('COPY (SELECT talk(i) FROM generate_series(1, 2000) AS i) TO STDOUT');
        const lines = (await bytesOf(stream)).toString().split('\n');
        expect(lines).toEqual([...Array.from({ length: 2_000 }, (_, index) => 'r'.repeat(index + 1)), '']);
        expect(rows()).toBe(2_000);
        expect(await session.query(`SELECT current_setting('application_name') AS name`)).toEqual([
          { name: 'talk 2000' },
        ]);
      }
    });
  });

  test('end with the server’s error where it has one, and the session can be used', async () => {
    await using database = await createDatabase({ name: 'failing' });
    await inSession(database, async (session) => {
      const failing = 'COPY (SELECT 1/(x - 900000) FROM generate_series(1, 1000000) x) TO STDOUT';
      for (const [sql, sqlState, words] of [
        [failing, '22012', 'division by zero (SQLSTATE 22012)'],
        ['COPY missing TO STDOUT', '42P01', 'relation "missing" does not exist'],
        ['COPY TO FROM', '42601', 'syntax error'],
      ] as const) {
        const { stream, rows } = session.copyOut(sql);
        const error = await bytesOf(stream).catch((thrown: unknown) => thrown);
        expect(error).toMatchObject({ code: 'postgres-failed', message: expect.stringContaining(words) });
        expect(sqlStateOf(error)).toBe(sqlState);
        expect(() => rows()).toThrow('rows are known at the end');
        expect(await session.query('SELECT 1 AS one')).toEqual([{ one: 1 }]);
      }
    });
  });

  test('are waited for by queries before them; none is asked meanwhile', async () => {
    await using database = await createDatabase({ name: 'in turn' });
    await inSession(database, async (session) => {
      const before = session.query('SELECT pg_sleep(0.2)::text || current_database() AS name');
      const first = session.copyOut(`COPY (SELECT 'first') TO STDOUT`).stream[Symbol.asyncIterator]();
      const block = first.next();
      await expect(session.query('SELECT 1')).rejects.toThrow('no query is asked while a COPY runs');
      await expect(bytesOf(session.copyOut('COPY (SELECT 1) TO STDOUT').stream)).rejects.toThrow('one COPY at a time');
      expect(await before).toEqual([{ name: database.name }]);
      expect(Buffer.from((await block).value ?? [])).toEqual(Buffer.from('first\n'));
      expect(await first.next()).toMatchObject({ done: true });
      expect(await session.query('SELECT 1 AS one')).toEqual([{ one: 1 }]);
    });
  });

  test.each([
    ['a query', 'SELECT 1'],
    ['two of them', 'COPY (SELECT 1) TO STDOUT; COPY (SELECT 2) TO STDOUT'],
    ['one in the other direction', 'COPY t FROM STDIN'],
    ['nothing', ''],
  ])('are not taken from what is no COPY out: %s', async (_what, sql) => {
    await using database = await createDatabase({ name: 'other', sql: 'CREATE TABLE t (a int)' });
    await inSession(database, async (session) => {
      await expect(bytesOf(session.copyOut(sql).stream)).rejects.toMatchObject({ code: 'internal' });
      expect(session.alive).toBe(false);
    });
  });

  test('are not asked for if pg should read its socket in another way than is known', async () => {
    await using database = await createDatabase({ name: 'another pg' });
    const client = await database.connect();
    try {
      client.connection.stream.on('data', () => undefined);
      const answer = { copyData: () => undefined, message: () => undefined, chunkRead: () => undefined };
      const { ended } = converse(client, 'COPY (SELECT 1) TO STDOUT', answer, (error) => error as Error);
      await expect(ended).rejects.toMatchObject({ code: 'internal', message: expect.stringContaining('2 listeners') });
      expect((await client.query('SELECT 1 AS one')).rows).toEqual([{ one: 1 }]);
    } finally {
      await client.end();
    }
  });

  test('are no more than a few blocks ahead of a consumer that is slow', async () => {
    await using database = await createDatabase({ name: 'slow' });
    await inSession(database, async (session) => {
      let told = 0;
      const { stream, rows } = session.copyOut(MUCH, { onBytes: (bytes) => (told += bytes) });
      const iterator = stream[Symbol.asyncIterator]();
      let bytes = (await iterator.next()).value?.length ?? 0;
      await untilHeldUp(database, 'ClientWrite');
      // One taken, two waiting, one half full, and what the socket still gave when it was paused.
      expect(told).toBeLessThan(5 * BLOCK_BYTES);
      for (let step = await iterator.next(); !step.done; step = await iterator.next()) bytes += step.value.length;
      expect([bytes, rows()]).toEqual([40_000_000, 40_000]);
      expect(await session.query('SELECT 1 AS one')).toEqual([{ one: 1 }]);
    });
  });
});

describe('rows out of a table that do not come to their end', () => {
  const unreachable = expect.objectContaining({ code: 'postgres-unreachable' });

  test('say that the server ended the session', async () => {
    await using database = await createDatabase({ name: 'terminated' });
    await inSession(database, async (session) => {
      const iterator = session.copyOut(MUCH).stream[Symbol.asyncIterator]();
      await iterator.next();
      await database.query('SELECT pg_terminate_backend($1)', [session.announcedPid]);
      await expect(restOf(iterator)).rejects.toThrow(unreachable);
      await expect(session.query('SELECT 1')).rejects.toThrow(unreachable);
      expect(session.alive).toBe(false);
    });
  });

  test('say the server’s last words, if it has any', async () => {
    await using database = await createDatabase({ name: 'last words' });
    await inSession(database, async (session) => {
      const iterator = session.copyOut('COPY (SELECT pg_sleep(600)) TO STDOUT').stream[Symbol.asyncIterator]();
      const pending = iterator.next();
      pending.catch(() => undefined);
      await untilHeldUp(database, 'PgSleep');
      await database.query('SELECT pg_terminate_backend($1)', [session.announcedPid]);
      await expect(pending).rejects.toMatchObject({
        code: 'postgres-unreachable',
        message: expect.stringContaining('terminating connection due to administrator command'),
      });
    });
  });

  test('say that the connection was cut', async () => {
    await using database = await createDatabase({ name: 'cut' });
    const { host, port } = postgresFacts();
    await using proxy = await startTcpProxy({ host, port });
    const held = proxy.holdAfter(5_000_000);
    await inSession(
      database,
      async (session) => {
        const copied = bytesOf(session.copyOut(MUCH).stream);
        copied.catch(() => undefined);
        (await held).cut();
        await expect(copied).rejects.toThrow(unreachable);
        await expect(session.query('SELECT 1')).rejects.toThrow(unreachable);
      },
      { port: proxy.port },
    );
  });

  test('end with the reason of an abort, also while none comes, and the session with them', async () => {
    await using database = await createDatabase({ name: 'aborted' });
    for (const sql of [MUCH, 'COPY (SELECT pg_sleep(600)) TO STDOUT']) {
      await inSession(database, async (session) => {
        const controller = new AbortController();
        const reason = new Error('enough');
        const iterator = session.copyOut(sql, { signal: controller.signal }).stream[Symbol.asyncIterator]();
        const pending = iterator.next();
        pending.catch(() => undefined);
        if (sql === MUCH) await pending;
        else await untilHeldUp(database, 'PgSleep');
        controller.abort(reason);
        await expect(sql === MUCH ? iterator.next() : pending).rejects.toBe(reason);
        await expect(session.query('SELECT 1')).rejects.toThrow(unreachable);
      });
    }
  });

  test('are not even asked for once the signal is aborted', async () => {
    await using database = await createDatabase({ name: 'never asked' });
    await inSession(database, async (session) => {
      const signal = AbortSignal.abort(new Error('enough'));
      await expect(bytesOf(session.copyOut(MUCH, { signal }).stream)).rejects.toThrow('enough');
      expect(await session.query('SELECT 1 AS one')).toEqual([{ one: 1 }]);
    });
  });

  test('end the session when they are left, and the server gives up', async () => {
    await using database = await createDatabase({ name: 'left' });
    await inSession(database, async (session) => {
      for await (const block of session.copyOut(MUCH).stream) {
        expect(block).toHaveLength(BLOCK_BYTES);
        break;
      }
      await expect(session.query('SELECT 1')).rejects.toThrow(unreachable);
      // Nobody sees it any more when it has ended.
      await untilHeldUp(database, 'never');
    });
  });

  test('end at once when the session is closed', async () => {
    await using database = await createDatabase({ name: 'closed' });
    await inSession(database, async (session) => {
      const pending = session.copyOut('COPY (SELECT pg_sleep(600)) TO STDOUT').stream[Symbol.asyncIterator]().next();
      await Promise.all([expect(pending).rejects.toThrow(unreachable), session.close()]);
    });
  });
});

async function restOf(iterator: AsyncIterator<Uint8Array>): Promise<void> {
  for (let step = await iterator.next(); !step.done; ) step = await iterator.next();
}
