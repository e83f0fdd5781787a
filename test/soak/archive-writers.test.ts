import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { PgarkError } from '../../src/common/errors.ts';
import { rowCountsIn } from '../support/archives.ts';
import { runProgram } from '../support/cli.ts';
import { STORM_SQL, startStorm, stormDamage } from '../support/ddl-storm.ts';
import { makeTempDirectory } from '../support/temp.ts';
import { backUpOf, dropCopy, restoreOwn } from './archive-ways.ts';
import { type MatrixServer, readMatrixFolders, startMatrixServer } from './matrix-servers.ts';

const MINUTE_MS = 60_000;
const ROUNDS = 20;
const SMALL_PIECE = 32 * 1024;

const folders = await readMatrixFolders();
/** The newest server of which there are clients too. */
const [major, client] = [...folders.clients].findLast(([each]) => folders.servers.has(each)) ?? [0, undefined];
if (client === undefined) throw new Error('no version has both a server and clients');
let server: MatrixServer;

beforeAll(async () => {
  server = await startMatrixServer(major, folders.servers.get(major) ?? '');
});
afterAll(() => server[Symbol.asyncDispose]());

test.each([0, 2, 10, 50, 250, 1000])(
  'a storm of changes to tables with pauses of %i ms: each backup is right, or refused in clear words',
  { timeout: 60 * MINUTE_MS },
  async (pauseMs) => {
    const database = `storm ${pauseMs}`;
    await server.createDatabase(database);
    await server.query(STORM_SQL, database);
    const outcomes = { right: 0, refused: 0, slowestMs: 0 };
    await using storm = await startStorm(() => server.connect(database), pauseMs);
    // One refusal takes five minutes.
    for (let round = 0; round < ROUNDS && outcomes.refused === 0; round++) {
      await using place = await makeTempDirectory();
      const startedAt = performance.now();
      try {
        const backedUp = await backUpOf(server, database, { client, root: place.path, pieceBytes: SMALL_PIECE });
        expect(stormDamage(rowCountsIn(backedUp.contents))).toEqual([]);
        await restoreOwn(server, 'a copy', { loader: client, backedUp });
        await dropCopy(server, 'a copy');
        outcomes.right += 1;
      } catch (error) {
        expect((error as PgarkError).code, `the backup failed: ${String(error)}`).toBe('dump-failed');
        expect((error as PgarkError).message).toContain('were changed whenever the dump began');
        outcomes.refused += 1;
      }
      outcomes.slowestMs = Math.max(outcomes.slowestMs, performance.now() - startedAt);
    }
    process.stdout.write(`${JSON.stringify({ pauseMs, ...outcomes, statements: storm.count() })}\n`);
    expect(storm.errors.filter((message) => message.includes('deadlock'))).toEqual([]);
  },
);

test('while pgbench writes as fast as it can each backup is of one moment', { timeout: 30 * MINUTE_MS }, async () => {
  await server.createDatabase('bench');
  const env = server.environment('bench');
  const pgbench = path.join(client.binDir, 'pgbench');
  expect(await runProgram(pgbench, ['-i', '-s', '5', '-q'], { env })).toMatchObject({ exitCode: 0 });
  const over = new AbortController();
  const writing = runProgram(pgbench, ['-c', '8', '-j', '2', '-T', '1800', '-n'], { env, signal: over.signal });
  for (let round = 0; round < ROUNDS; round++) {
    await using place = await makeTempDirectory();
    const backedUp = await backUpOf(server, 'bench', { client, root: place.path, pieceBytes: 1024 * 1024 });
    await restoreOwn(server, 'a copy', { loader: client, backedUp });
    const sums = await server.query(
      `SELECT (SELECT sum(abalance) FROM pgbench_accounts) AS accounts, (SELECT sum(tbalance) FROM pgbench_tellers) AS tellers,
              (SELECT sum(bbalance) FROM pgbench_branches) AS branches, (SELECT sum(delta) FROM pgbench_history) AS history,
              (SELECT count(*)::int FROM pgbench_accounts) AS rows`,
      'a copy',
    );
    const [{ accounts } = { accounts: undefined }] = sums as { accounts: unknown }[];
    expect(sums).toEqual([{ accounts, tellers: accounts, branches: accounts, history: accounts, rows: 500_000 }]);
    await dropCopy(server, 'a copy');
  }
  over.abort();
  await writing;
});
