import { execFileSync } from 'node:child_process';
import { describe, expect, test, vi } from 'vitest';
import { MIB } from '../../src/common/bytes.ts';
import { filler, untilActivity } from '../support/backups.ts';
import {
  backUp,
  backupsIn,
  errorOf,
  fileDestination,
  outcomesOf,
  recordsIn,
  s3Destination,
} from '../support/destinations.ts';
import { keys } from '../../src/repository/keys.ts';
import { postgresFacts } from '../support/facts.ts';
import { FaultyStore, type StoreCall } from '../support/faulty-store.ts';
import { GatedClock } from '../support/gated-clock.ts';
import { createDatabase } from '../support/postgres.ts';
import { startTcpProxy } from '../support/tcp-proxy.ts';

// Many connections side by side on few cores.
vi.setConfig({ testTimeout: 300_000 });

/** More than a request takes on a busy machine. */
const STALL_MS = 12_000;
/** Counts only when all that moves has moved. */
const GATED_STALL_MS = 5_000;
/** Less than a server says before the first query, and more than it says before it knows the password. */
const GREETING_BYTES = 350;
const CLEAN = { leftovers: [] };

/** Whether a pg_dump of this database runs on this machine. */
function isDumped(name: string): boolean {
  const table = execFileSync('ps', ['eww', '-eo', 'comm=,args='], { encoding: 'utf8' });
  return table.split('\n').some((line) => line.startsWith('pg_dump') && line.includes(`PGDATABASE=${name}`));
}

/** Whether a request is one by which the store is tried out before the work. */
function isProbe(url: URL): boolean {
  return url.pathname.includes('/probe-');
}

describe.concurrent('a backup that stands still', () => {
  test('since the connection of pg_dump is half-open after some bytes: is given up, and nothing is left', async () => {
    await using database = await createDatabase({ name: 'stalls', sql: filler(24) });
    await using bucket = await s3Destination('bucket');
    await using folder = await fileDestination('folder');
    await using postgres = await startTcpProxy(postgresFacts());
    // Only that connection: the session that holds the lock is well, and tells nothing.
    const held = postgres.holdAfter(12 * MIB);
    const clock = new GatedClock();
    const failing = errorOf(backUp(database, [bucket, folder], { port: postgres.port, stallMs: STALL_MS, clock }));
    await held;
    clock.open();
    expect(isDumped(database.name)).toBe(true);
    const error = await failing;
    expect(error).toMatchObject({
      code: 'stalled',
      message: expect.stringContaining('pg_dump has sent nothing for 12.0 s'),
      hint: expect.stringMatching(/pg_stat_activity, application_name "pgark backup \w{26}"/),
    });
    expect(isDumped(database.name)).toBe(false);
    for (const { store } of [bucket, folder]) {
      expect(await backupsIn(store)).toEqual({ count: 0, ...CLEAN });
      expect(await recordsIn(store)).toMatchObject([{ state: 'failed', error: { code: 'stalled' } }]);
    }
    postgres.release();
    await backUp(database, [bucket, folder]);
    for (const { store } of [bucket, folder]) expect(await backupsIn(store)).toEqual({ count: 1, ...CLEAN });
  });

  test('since its only storage has gone silent: is given up, and nothing is left', async () => {
    await using database = await createDatabase({ name: 'stalls', sql: filler(24) });
    await using bucket = await s3Destination('bucket');
    const clock = new GatedClock();
    bucket.proxy.setFaults(({ operation, partNumber }) => {
      if (operation !== 'UploadPart' || partNumber !== 2) return undefined;
      clock.open();
      return { kind: 'silence' };
    });
    expect(await errorOf(backUp(database, [bucket], { stallMs: GATED_STALL_MS, clock }))).toMatchObject({
      code: 'stalled',
      message: expect.stringMatching(/^s3:\S+ has taken no byte and given no answer for 5\.0 s/),
    });
    expect(isDumped(database.name)).toBe(false);
    expect(await backupsIn(bucket.store)).toEqual({ count: 0, ...CLEAN });
  });

  test('since the last request of an upload is never answered: is given up there, and committed elsewhere', async () => {
    await using database = await createDatabase({ name: 'stalls', sql: filler(12) });
    await using bucket = await s3Destination('bucket');
    await using folder = await fileDestination('folder');
    let aborted = false;
    bucket.proxy.setFaults(({ operation, url }) => {
      if (isProbe(url)) return undefined;
      aborted ||= operation === 'AbortMultipartUpload';
      return operation === 'CompleteMultipartUpload' && !aborted ? { kind: 'silence' } : undefined;
    });
    const clock = new GatedClock();
    const how = { stallMs: GATED_STALL_MS, clock, onDestination: () => clock.open() };
    const outcomes = outcomesOf(await backUp(database, [bucket, folder], how));
    expect(outcomes['bucket']?.error?.code).toBe('stalled');
    expect(await backupsIn(folder.store)).toEqual({ count: 1, ...CLEAN });
    expect(await backupsIn(bucket.store)).toEqual({ count: 0, ...CLEAN });
  });

  test('is not one that is slow: what comes counts long before it fills a block', async () => {
    await using database = await createDatabase({ name: 'stalls', sql: filler(4) });
    await using folder = await fileDestination('folder');
    // What pg_dump reads of the catalogs before it says anything comes quickly.
    const speed = { fromServerBytesPerSecond: 60_000, quickBytesFromServer: 3 * MIB };
    await using postgres = await startTcpProxy(postgresFacts(), speed);
    const startedAt = Date.now();
    const outcome = await backUp(database, [folder], { port: postgres.port, stallMs: STALL_MS });
    // Less than one block came within the limit.
    expect(Date.now() - startedAt).toBeGreaterThan(1.3 * STALL_MS);
    expect(outcome.kind).toBe('committed');
  });

  test('is not one that waits for a slower destination, nor one whose stream begins late', async () => {
    await using database = await createDatabase({ name: 'stalls', sql: `CREATE TABLE busy (a int); ${filler(24)}` });
    await using bucket = await s3Destination('bucket');
    await using folder = await fileDestination('folder');
    const gate = Promise.withResolvers<void>();
    bucket.proxy.setFaults(({ operation, partNumber, url }) =>
      operation === 'UploadPart' && partNumber === 1 && !isProbe(url)
        ? { kind: 'delay', until: gate.promise }
        : undefined,
    );
    const holder = await database.connect();
    await holder.query('BEGIN; LOCK TABLE busy IN ACCESS EXCLUSIVE MODE');
    const running = backUp(database, [bucket, folder], { stallMs: 2 * STALL_MS });
    await untilActivity(database, `application_name LIKE 'pgark backup %' AND wait_event_type = 'Lock'`);
    await new Promise((resolve) => setTimeout(resolve, STALL_MS));
    await holder.end();
    setTimeout(gate.resolve, STALL_MS);
    const outcomes = outcomesOf(await running);
    expect(Object.values(outcomes).map(({ error }) => error)).toEqual([undefined, undefined]);
  });

  test('since the server takes connections and no longer answers: is given up, and nothing is left', async () => {
    await using database = await createDatabase({ name: 'stalls', sql: filler(1) });
    await using folder = await fileDestination('folder');
    await using postgres = await startTcpProxy(postgresFacts());
    // The server's greeting comes through, and nothing after it: neither to the check nor, once that is done, to the lock.
    const held = postgres.holdAfter(GREETING_BYTES);
    const first = new GatedClock();
    void held.then(() => first.open());
    const request = { port: postgres.port, stallMs: GATED_STALL_MS };
    const silence = { code: 'stalled', message: expect.stringContaining('took a connection, then gave no answer') };
    expect(await errorOf(backUp(database, [folder], { ...request, clock: first }))).toMatchObject(silence);
    postgres.release();
    const second = new GatedClock();
    const after = ({ method, key }: StoreCall): void => {
      if (method !== 'putSmall' || !key.startsWith(keys.leasesPrefix)) return;
      void postgres.holdAfter(GREETING_BYTES).then(() => second.open());
    };
    const destination = { ...folder.destination, store: new FaultyStore(folder.destination.store, { after }) };
    expect(await errorOf(backUp(database, [{ destination }], { ...request, clock: second }))).toMatchObject(silence);
    expect(await backupsIn(folder.store)).toEqual({ count: 0, ...CLEAN });
  });
});
