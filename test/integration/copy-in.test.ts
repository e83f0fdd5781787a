import { describe, expect, test } from 'vitest';
import { BLOCK_BYTES } from '../../src/common/bytes.ts';
import { sqlStateOf } from '../../src/postgres/client/connect.ts';
import { inSession, untilHeldUp } from '../support/copying.ts';
import { postgresFacts } from '../support/facts.ts';
import { createDatabase, type TestDatabase } from '../support/postgres.ts';
import { bytesOf, chunksOf, noise, WatchedSource } from '../support/streams.ts';
import { startTcpProxy } from '../support/tcp-proxy.ts';

const COPY = 'COPY t FROM STDIN';

async function countOf(database: TestDatabase): Promise<number> {
  const [row] = await database.query<{ rows: number }>('SELECT count(*)::int AS rows FROM t');
  return row?.rows ?? -1;
}

/** Rows of 1,000 bytes, `number` of them. */
function lines(number: number): Buffer {
  return Buffer.from(`${'z'.repeat(999)}\n`.repeat(number));
}

describe('rows into a table', () => {
  test('are those that came out of another, however they are cut', async () => {
    await using database = await createDatabase({
      name: 'there and back',
      sql: `CREATE TABLE t (a int, b text, c bytea);
        CREATE TABLE s AS SELECT i AS a, CASE WHEN i % 5 > 0 THEN repeat(E'\\t\\n\\\\Nü', i % 90) END AS b,
          decode(repeat(md5(i::text), i % 7), 'hex') AS c FROM generate_series(1, 40000) AS i;
        INSERT INTO s SELECT 0, repeat(md5(i::text), 312500), NULL FROM generate_series(1, 2) AS i`,
    });
    await inSession(database, async (session) => {
      // The server puts rows where there is room for them, so that without an order theirs may be another.
      const inOrder = (table: string) => `COPY (SELECT * FROM ${table} ORDER BY a, b COLLATE "C") TO STDOUT`;
      const bytes = await bytesOf(session.copyOut(inOrder('s')).stream);
      for (const lengths of [[1, 0, 70_001], [BLOCK_BYTES], [3 * BLOCK_BYTES + 7], [bytes.length]]) {
        const source = new WatchedSource(chunksOf(bytes, lengths));
        expect(await session.copyIn(COPY, source)).toBe(40_002);
        expect((await bytesOf(session.copyOut(inOrder('t')).stream)).equals(bytes)).toBe(true);
        await session.query('TRUNCATE t');
      }
      expect(await session.copyIn(COPY, new WatchedSource([]))).toBe(0);
      expect(await session.copyIn(COPY, new WatchedSource([new Uint8Array(0)]))).toBe(0);
      expect(await countOf(database)).toBe(0);
    });
  });

  test('are refused with the server’s error, the rest is not read, and the session can be used', async () => {
    await using database = await createDatabase({
      name: 'refused',
      sql: 'CREATE TABLE t (a int PRIMARY KEY, b text); INSERT INTO t VALUES (4711)',
    });
    await inSession(database, async (session) => {
      let row = 0;
      const source = new WatchedSource({
        *[Symbol.iterator]() {
          for (;;) yield Buffer.from(`${(row += 1)}\t${'b'.repeat(1_000)}\n`);
        },
      });
      const refusal = await session.copyIn(COPY, source).catch((thrown: unknown) => thrown);
      expect(refusal).toMatchObject({ code: 'postgres-failed', message: expect.stringContaining('t_pkey') });
      expect(sqlStateOf(refusal)).toBe('23505');
      expect(source.closed).toBe(true);
      expect(await session.query('SELECT count(*)::int AS rows FROM t')).toEqual([{ rows: 1 }]);

      const unread = new WatchedSource([lines(1)]);
      await expect(session.copyIn('COPY missing FROM STDIN', unread)).rejects.toThrow('"missing" does not exist');
      expect(unread.chunksRead).toBe(0);
      await expect(session.copyIn(COPY, new WatchedSource([noise(4_000_000)]))).rejects.toMatchObject({
        code: 'postgres-failed',
      });
      expect(await session.copyIn(COPY, new WatchedSource([Buffer.from('1\tx\n2\ty\n')]))).toBe(2);
    });
  });

  test('are not there if their source fails, whose own error is thrown; the session can be used', async () => {
    await using database = await createDatabase({ name: 'broken', sql: 'CREATE TABLE t (a text)' });
    await inSession(database, async (session) => {
      for (const number of [0, 1, 5_000]) {
        const failure = new Error('the source is broken');
        const source = new WatchedSource(chunksOf(lines(number), [100_000]), failure);
        await expect(session.copyIn(COPY, source)).rejects.toBe(failure);
        expect(await session.query('SELECT count(*)::int AS rows FROM t')).toEqual([{ rows: 0 }]);
      }
      expect(await session.copyIn(COPY, new WatchedSource([lines(3)]))).toBe(3);
    });
  });

  test('are not there after an abort, whose reason is thrown, also while the source gives none', async () => {
    await using database = await createDatabase({ name: 'aborted', sql: 'CREATE TABLE t (a text)' });
    for (const stuck of [false, true]) {
      const controller = new AbortController();
      const reason = new Error('enough');
      let left = false;
      const source = async function* () {
        try {
          for (let block = 0; ; block += 1) {
            if (block === 20) setImmediate(() => controller.abort(reason));
            if (block === 20 && stuck) await new Promise(() => undefined);
            yield lines(1_000);
          }
        } finally {
          left = true;
        }
      };
      await inSession(database, async (session) => {
        await expect(session.copyIn(COPY, source(), { signal: controller.signal })).rejects.toBe(reason);
        await expect(session.query('SELECT 1')).rejects.toMatchObject({ code: 'postgres-unreachable' });
      });
      expect(left).toBe(!stuck);
      expect(await countOf(database)).toBe(0);
    }
    await inSession(database, async (session) => {
      const source = new WatchedSource([lines(1)]);
      const signal = AbortSignal.abort(new Error('enough'));
      await expect(session.copyIn(COPY, source, { signal })).rejects.toThrow('enough');
      expect(source.chunksRead).toBe(0);
      expect(await session.copyIn(COPY, new WatchedSource([lines(1)]))).toBe(1);
    });
  });

  test('are not read faster than the server takes them', async () => {
    const hold = 'CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS';
    await using database = await createDatabase({
      name: 'slow',
      sql: `CREATE TABLE t (a text);
        ${hold} $$ BEGIN IF NEW.a = 'wait' THEN PERFORM pg_advisory_lock(4711); END IF; RETURN NEW; END $$;
        CREATE TRIGGER hold BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION hold()`,
    });
    const guard = await database.connect();
    try {
      await guard.query('SELECT pg_advisory_lock(4711)');
      await inSession(database, async (session) => {
        let given = 0;
        const source = async function* () {
          yield Buffer.from('wait\n');
          for (; given < 100; given += 1) yield lines(1_000);
        };
        const copied = session.copyIn(COPY, source());
        await untilHeldUp(database, 'advisory');
        // What the sockets on both sides hold, and two blocks.
        expect(given).toBeLessThan(50);
        await expect(session.query('SELECT 1')).rejects.toThrow('while a COPY runs');
        await guard.query('SELECT pg_advisory_unlock(4711)');
        expect(await copied).toBe(100_001);
      });
    } finally {
      await guard.end();
    }
  });

  test('are not there when the connection is cut or the session ended, which is said', async () => {
    await using database = await createDatabase({ name: 'cut', sql: 'CREATE TABLE t (a text)' });
    const { host, port } = postgresFacts();
    await using proxy = await startTcpProxy({ host, port });
    for (const end of [
      async () => proxy.cutAll(),
      async (pid: number | undefined) => database.query('SELECT pg_terminate_backend($1)', [pid]),
    ]) {
      await inSession(
        database,
        async (session) => {
          const source = new WatchedSource({
            *[Symbol.iterator]() {
              for (let block = 0; ; block += 1) {
                if (block === 20) void end(session.announcedPid);
                yield lines(1_000);
              }
            },
          });
          await expect(session.copyIn(COPY, source)).rejects.toMatchObject({ code: 'postgres-unreachable' });
          expect(source.closed).toBe(true);
          await expect(session.query('SELECT 1')).rejects.toMatchObject({ code: 'postgres-unreachable' });
        },
        { port: proxy.port },
      );
    }
    expect(await countOf(database)).toBe(0);
  });

  test('end at once when the session is closed', async () => {
    await using database = await createDatabase({ name: 'closed', sql: 'CREATE TABLE t (a text)' });
    const closed = Promise.withResolvers<void>();
    const source = async function* () {
      yield lines(1_000);
      await closed.promise;
    };
    await inSession(database, async (session) => {
      const copied = session.copyIn(COPY, source());
      copied.catch(() => undefined);
      await untilHeldUp(database, 'ClientRead');
      await session.close();
      closed.resolve();
      await expect(copied).rejects.toMatchObject({ code: 'postgres-unreachable' });
    });
    expect(await countOf(database)).toBe(0);
  });

  test('are not written by what is no COPY in', async () => {
    await using database = await createDatabase({ name: 'other', sql: 'CREATE TABLE t (a text)' });
    for (const sql of ['COPY (SELECT 1) TO STDOUT', 'SELECT 1', 'CREATE TABLE u ()', '']) {
      await inSession(database, async (session) => {
        const source = new WatchedSource([lines(1)]);
        await expect(session.copyIn(sql, source)).rejects.toMatchObject({ code: 'internal' });
        expect(source.chunksRead).toBe(0);
      });
    }
  });
});
