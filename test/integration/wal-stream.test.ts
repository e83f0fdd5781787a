import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { MIB } from '../../src/common/bytes.ts';
import { systemClock } from '../../src/common/clock.ts';
import { indexWal } from '../../src/formats/wal/archive-index.ts';
import { receivedPiece } from '../../src/formats/wal/received-piece.ts';
import { putWalDelta, putWalFile } from '../../src/formats/wal/store-piece.ts';
import { sqlStateOf } from '../../src/postgres/client/connect.ts';
import { identifySystem } from '../../src/postgres/replication/replication-commands.ts';
import { connectForReplication, type ReplicationSession } from '../../src/postgres/replication/replication-session.ts';
import { SegmentStream } from '../../src/postgres/replication/segment-stream.ts';
import { readTimelineHistory } from '../../src/postgres/replication/timeline-history.ts';
import { streamWal, type WalStream } from '../../src/postgres/replication/wal-stream.ts';
import { formatLsn, type Lsn, parseLsn } from '../../src/postgres/wal/lsn.ts';
import { SegmentCutter } from '../../src/postgres/wal/segment-cutter.ts';
import { segmentStartAt } from '../../src/postgres/wal/segment.ts';
import { parseTimelineHistory } from '../../src/postgres/wal/timeline-history.ts';
import type { Cluster } from '../support/cluster.ts';
import { MemoryStore } from '../support/memory-store.ts';
import { dropSlots, flushedLsn, load, removeWal, startWitnessed } from '../support/wal-receiving.ts';

const SLOT = 'reader';

/** A stream cut into segments, with what a test waits for. */
class Received {
  readonly segments = new Map<string, Buffer>();
  replies = 0;
  stream: WalStream | undefined;
  readonly #cutter: SegmentCutter;
  #waiting: { readonly until: Lsn; readonly resolve: () => void }[] = [];

  constructor(timeline: number, start: Lsn, systemIdentifier: string) {
    const identity = { systemIdentifier, segmentBytes: MIB, magic: undefined };
    this.#cutter = new SegmentCutter(timeline, start, identity, (content) => {
      this.segments.set(content.name, Buffer.concat([...content.views(0, content.filledBytes)]));
      content.release();
    });
  }

  get end(): Lsn {
    return this.#cutter.end;
  }

  wal(lsn: Lsn, bytes: Uint8Array): void {
    this.#cutter.append(lsn, bytes);
    for (const { resolve } of this.#waiting.filter(({ until }) => until <= this.end)) resolve();
    this.#waiting = this.#waiting.filter(({ until }) => until > this.end);
  }

  told(): void {}

  sent(): void {}

  replyWanted(): void {
    this.replies += 1;
    this.report(0n);
  }

  report(flushed: Lsn): void {
    this.stream?.report({ written: this.end, flushed, at: new Date(), asks: false });
  }

  /** Resolves when all before the position has come; rejects when the stream ends first. */
  async reaches(until: Lsn): Promise<void> {
    if (this.end >= until) return;
    const reached = new Promise<void>((resolve) => {
      this.#waiting.push({ until, resolve });
    });
    const ended = this.stream?.ended.then(({ kind }) => {
      if (this.end < until) throw new Error(`the stream has ended: ${kind}`);
    });
    await Promise.race(ended === undefined ? [reached] : [reached, ended]);
  }
}

let witnessed: Awaited<ReturnType<typeof startWitnessed>>;
let cluster: Cluster;
beforeAll(async () => {
  witnessed = await startWitnessed();
  cluster = witnessed.cluster;
});
afterAll(() => witnessed[Symbol.asyncDispose]());

async function open(server: Cluster = cluster): Promise<ReplicationSession> {
  return connectForReplication(server.connection, { applicationName: 'pgark wal' });
}

/** Streams from the start of the segment that holds the server's present position. */
async function begin(session: ReplicationSession, slot?: string): Promise<{ received: Received; stream: WalStream }> {
  const { systemIdentifier, timeline, flushLsn } = await identifySystem(session);
  const start = segmentStartAt(parseLsn(flushLsn), MIB);
  const received = new Received(timeline, start, systemIdentifier);
  const stream = await streamWal(session, { slot, timeline, start, handler: received });
  received.stream = stream;
  return { received, stream };
}

describe('a stream of WAL', () => {
  test('gives the segments that an archive_command is given, the empty end behind a switch too', async () => {
    const session = await open();
    // A server that keeps little could be ahead of its own sender.
    await session.query('CREATE_REPLICATION_SLOT whole TEMPORARY PHYSICAL RESERVE_WAL');
    const { received, stream } = await begin(session, 'whole');
    await cluster.sql(load(3_000));
    await cluster.sql('select pg_switch_wal()');
    await cluster.sql(load(10));
    await cluster.sql('select pg_switch_wal()');
    await received.reaches(segmentStartAt(await flushedLsn(cluster), MIB));
    expect(received.segments.size).toBeGreaterThan(4);
    const last = [...received.segments.keys()].at(-1);
    await cluster.until(`select last_archived_wal >= '${last}' from pg_stat_archiver`);
    for (const [name, bytes] of received.segments) {
      expect([name, bytes.equals(await readFile(path.join(witnessed.witness, name)))]).toEqual([name, true]);
    }
    const tail = received.segments.get(last ?? '')?.subarray(-8192 * 2);
    expect(tail?.every((byte) => byte === 0)).toBe(true);
    stream.finish();
    expect(await stream.ended).toEqual({ kind: 'finished' });
    expect((await identifySystem(session)).timeline).toBe(1);
    await session.close();
  });

  test('moves its slot by what is said to last, and by nothing else', async () => {
    const session = await open();
    await session.query(`CREATE_REPLICATION_SLOT ${SLOT} PHYSICAL RESERVE_WAL`);
    const { received, stream } = await begin(session, SLOT);
    await cluster.sql(load(2_000));
    const end = await flushedLsn(cluster);
    await received.reaches(end);
    const known = async (flushed: Lsn): Promise<unknown> => {
      received.report(flushed);
      // The server has read it when it shows what was received.
      await cluster.until(`exists (select from pg_stat_replication where write_lsn >= '${formatLsn(end)}')`);
      const [row] = await cluster.sql(
        `select flush_lsn, replay_lsn, restart_lsn >= '${formatLsn(end)}' as moved
           from pg_replication_slots join pg_stat_replication on pid = active_pid`,
      );
      return row;
    };
    expect(await known(0n)).toEqual({ flush_lsn: null, replay_lsn: null, moved: false });
    await cluster.sql('select 1');
    const flushed = received.end;
    received.report(flushed);
    await cluster.until(`exists (select from pg_replication_slots where restart_lsn >= '${formatLsn(end)}')`);
    const other = await open();
    await expect((await begin(other, SLOT)).stream.ended).rejects.toSatisfy((error) => sqlStateOf(error) === '55006');
    await other.close();
    stream.destroy(new Error('enough'));
    await expect(stream.ended).rejects.toThrow('enough');
    await session.close();
  });

  test('that is not taken is held up, while the server hears from us, and is whole when it is', async () => {
    await cluster.set('wal_sender_timeout', '4s');
    await cluster.sql('select pg_switch_wal()');
    const session = await open();
    const { systemIdentifier, flushLsn } = await identifySystem(session);
    const start = segmentStartAt(parseLsn(flushLsn), MIB);
    const identity = { systemIdentifier, segmentBytes: MIB, magic: undefined };
    const options = {
      slot: undefined,
      timeline: 1,
      start,
      identity,
      isWriter: true,
      clock: systemClock,
      statusMs: 200,
    };
    const stream = await SegmentStream.start(session, options);
    const begun = await cluster.value('select now()::text');
    await cluster.sql(load(45_000));
    while (!stream.isHeldUp) await cluster.sql('select pg_sleep(0.01)');
    // Beyond the time after which it would take us for dead.
    await cluster.until(`clock_timestamp() >= '${begun}'::timestamptz + '5s' and exists
      (select from pg_stat_replication where reply_time > clock_timestamp() - '1s'::interval)`);
    const store = new MemoryStore();
    const place = {
      store,
      folder: { source: 'shop', systemIdentifier },
      sealer: undefined,
      keys: { identities: [], passphrases: [] },
    };
    const end = segmentStartAt(await flushedLsn(cluster), MIB);
    while (stream.received < end || stream.isHeldUp) {
      const full = await stream.next();
      if (full === undefined) throw new Error('the stream has ended');
      await putWalFile(place, receivedPiece(full, identity));
      full.content.release();
    }
    for (let full = await stream.next({ withinMs: 0 }); full; full = await stream.next({ withinMs: 0 })) {
      await putWalFile(place, receivedPiece(full, identity));
    }
    const tail = stream.tail();
    if (tail !== undefined) await putWalDelta(place, receivedPiece(tail, identity));
    const { ranges } = await indexWal(store, place.folder, MIB);
    const [range, ...others] = ranges.get(1) ?? [];
    expect(others).toEqual([]);
    expect([range?.from, range?.to, Number(range?.segments) > 40]).toEqual([start, stream.received, true]);
    stream.finish();
    expect(await stream.ended).toEqual({ kind: 'finished' });
    expect(await stream.next()).toBeUndefined();
    stream.release();
    await session.close();
    await cluster.set('wal_sender_timeout', undefined);
  });

  test('that was removed, or never was, is refused with the server’s words', async () => {
    const session = await open();
    const { systemIdentifier } = await identifySystem(session);
    await dropSlots(cluster);
    await cluster.sql(load(3_000));
    await removeWal(cluster);
    const removed = BigInt(MIB);
    const handler = new Received(1, removed, systemIdentifier);
    for (const [start, timeline, sqlState] of [
      [removed, 1, '58P01'],
      [2n ** 40n, 1, 'XX000'],
      [removed, 7, 'XX000'],
    ] as const) {
      const stream = await streamWal(session, { slot: undefined, timeline, start, handler });
      const error = await stream.ended.catch((thrown: unknown) => thrown);
      expect([timeline, sqlStateOf(error)]).toEqual([timeline, sqlState]);
      expect(session.alive).toBe(true);
    }
    await session.close();
  });

  test('goes on after a promotion, on the new timeline', async () => {
    // The standby has no slot that keeps what it does not have yet.
    await cluster.set('wal_keep_size', '100MB');
    await using standby = await cluster.standby();
    const session = await open(standby);
    const { received, stream } = await begin(session);
    await cluster.sql(load(1_000));
    await received.reaches(await flushedLsn(cluster));
    await standby.promote();
    const end = await stream.ended;
    expect(end).toMatchObject({ kind: 'next-timeline', timeline: 2 });
    if (end.kind !== 'next-timeline') return;
    expect(end.begin).toBe(received.end);
    const history = await readTimelineHistory(session, 2);
    expect(history.equals(await readFile(`${standby.dataDirectory}/pg_wal/00000002.history`))).toBe(true);
    expect(parseTimelineHistory(2, history.toString()).ancestors).toMatchObject([{ timeline: 1, end: end.begin }]);
    const { systemIdentifier } = await identifySystem(session);
    const start = segmentStartAt(end.begin, MIB);
    const next = new Received(2, start, systemIdentifier);
    const following = await streamWal(session, { slot: undefined, timeline: 2, start, handler: next });
    next.stream = following;
    await standby.sql(load(2_000));
    await next.reaches(await flushedLsn(standby));
    expect([...next.segments.keys()][0]).toMatch(/^00000002/);
    following.finish();
    expect(await following.ended).toEqual({ kind: 'finished' });
    await session.close();
  });

  // The last one: it ends the server.
  test('has all that there was when the server shuts down, and does not hold that up', async () => {
    const session = await open();
    const { received, stream } = await begin(session);
    await cluster.sql(load(500));
    await received.reaches(await flushedLsn(cluster));
    await cluster.stop('fast');
    expect(await stream.ended).toEqual({ kind: 'server-stopped' });
    const control = await cluster.run('pg_controldata', [cluster.dataDirectory]);
    const checkpoint = /Latest checkpoint location:\s+(\S+)/.exec(control)?.[1] ?? '';
    expect(received.end).toBeGreaterThan(parseLsn(checkpoint));
    await session.close();
    expect((await readdir(witnessed.witness)).length).toBeGreaterThan(0);
  });
});
