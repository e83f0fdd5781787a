import { chmod, readFile } from 'node:fs/promises';
import { inspect } from 'node:util';
import { expect, vi } from 'vitest';
import { indexWal, type WalIndex } from '../../src/formats/wal/archive-index.ts';
import { readPiece } from '../../src/formats/wal/read-piece.ts';
import { gapsBetween, stretchesTowards } from '../../src/formats/wal/recovery-path.ts';
import { operationContext, type OperationContext } from '../../src/operations/context.ts';
import { receiveWal, type WalReceiver } from '../../src/operations/wal/receive.ts';
import type { ReceiveWalRequest, WalAlarm } from '../../src/operations/wal/receive-request.ts';
import type { DecryptionKeys } from '../../src/pipeline/encryption/sealer.ts';
import { type Lsn, parseLsn } from '../../src/postgres/wal/lsn.ts';
import { parseTimelineHistory, type TimelineHistory } from '../../src/postgres/wal/timeline-history.ts';
import { parseWalKey, walKey } from '../../src/repository/wal-keys.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { Cluster } from './cluster.ts';
import { bytesOf } from './streams.ts';
import { makeTempDirectory } from './temp.ts';

export const NO_KEYS: DecryptionKeys = { identities: [], passphrases: [] };
/** More than anything takes on a busy machine. */
export const WAIT = { timeout: 200_000, interval: 20 };

/** A server that keeps little, with small segments, and a folder into which its own archive_command puts all of them. */
export async function startWitnessed(): Promise<
  AsyncDisposable & { readonly cluster: Cluster; readonly witness: string }
> {
  const stack = new AsyncDisposableStack();
  const { path } = stack.use(await makeTempDirectory());
  await chmod(path, 0o777);
  const cluster = await Cluster.start({
    initdb: ['--wal-segsize=1'],
    settings: {
      archive_mode: 'on',
      archive_command: `cp %p ${path}/%f`,
      max_wal_size: '2MB',
      min_wal_size: '2MB',
      // Whoever holds up the server's end holds it up for ever.
      wal_sender_timeout: '0',
    },
  });
  stack.use(cluster);
  return { cluster, witness: path, [Symbol.asyncDispose]: () => stack.disposeAsync() };
}

/** Removes the segments that nobody needs any more. Those that the server has not archived yet it keeps. */
export async function removeWal(cluster: Cluster): Promise<void> {
  const name = await cluster.value('select pg_walfile_name(pg_current_wal_lsn())');
  await cluster.sql('select pg_switch_wal()');
  await cluster.until(`select last_archived_wal >= '${name}' from pg_stat_archiver`);
  await cluster.sql('checkpoint');
}

/** Drops every slot, once nobody uses it: a server notices a little later that a connection has ended. */
export async function dropSlots(cluster: Cluster): Promise<void> {
  await cluster.until('not exists (select from pg_replication_slots where active)');
  await cluster.sql('select pg_drop_replication_slot(slot_name) from pg_replication_slots');
}

/** A receiver in this process, which ends with the test. */
export interface Receiving extends AsyncDisposable {
  readonly receiver: WalReceiver;
  readonly alarms: readonly WalAlarm[];
  /** Resolves when WAL is received. */
  streams(): Promise<void>;
  /** Resolves when all before the position is archived. */
  archives(lsn: Lsn): Promise<void>;
  /** In good order, as by SIGTERM. */
  stop(): Promise<void>;
}

export function startReceiving(
  cluster: Pick<Cluster, 'connection'>,
  stores: readonly ObjectStore[],
  options: Partial<ReceiveWalRequest> & { readonly clock?: OperationContext['clock'] } = {},
): Receiving {
  const stop = new AbortController();
  const alarms: WalAlarm[] = [];
  const { clock, ...request } = options;
  const receiver = receiveWal(
    {
      source: 'shop',
      connection: cluster.connection,
      slot: 'pgark_shop',
      stores: stores.map((store, index) => ({ name: `store${index}`, store })),
      flushMs: 200,
      onAlarm: (alarm) => alarms.push(alarm),
      ...request,
    },
    operationContext({ signal: stop.signal, ...(clock && { clock }) }),
  );
  const end = async (): Promise<void> => {
    stop.abort(new Error('the test ends it'));
    await receiver.ended;
  };
  return {
    receiver,
    alarms,
    streams: async () => {
      await vi.waitUntil(() => receiver.state().phase === 'streaming', WAIT);
    },
    archives: async (lsn) => {
      try {
        await vi.waitUntil(() => (receiver.state().archived ?? 0n) >= lsn, WAIT);
      } catch (error) {
        throw new Error(`not archived up to ${lsn}: ${inspect(receiver.state())}`, { cause: error });
      }
    },
    stop: end,
    [Symbol.asyncDispose]: end,
  };
}

export async function flushedLsn(cluster: Cluster): Promise<Lsn> {
  return parseLsn(await cluster.value('select pg_current_wal_flush_lsn()'));
}

/** Rows of about a kilobyte. */
export function load(rows: number): string {
  return `create table if not exists load (t text);
    insert into load select repeat(md5(i::text), 30) from generate_series(1, ${rows}) i`;
}

export async function walFolder(cluster: Cluster): Promise<{ source: string; systemIdentifier: string }> {
  return { source: 'shop', systemIdentifier: await cluster.value('select system_identifier from pg_control_system()') };
}

/** What the archive of the server in a store holds. */
export class Archived {
  readonly store: ObjectStore;
  readonly folder: { readonly source: string; readonly systemIdentifier: string };
  readonly segmentBytes: number;
  readonly keys: DecryptionKeys;

  constructor(
    store: ObjectStore,
    folder: { readonly source: string; readonly systemIdentifier: string },
    segmentBytes: number,
    keys = NO_KEYS,
  ) {
    this.store = store;
    this.folder = folder;
    this.segmentBytes = segmentBytes;
    this.keys = keys;
  }

  index(): Promise<WalIndex> {
    return indexWal(this.store, this.folder, this.segmentBytes);
  }

  /** Names of whole segments, and of the segments that deltas are of. */
  async names(): Promise<{ readonly segments: readonly string[]; readonly deltas: readonly string[] }> {
    const names = { segments: [] as string[], deltas: [] as string[] };
    for await (const { key } of this.store.list(`${this.folder.source}/wal/`)) {
      const wal = parseWalKey(key);
      if (wal?.kind === 'segment') names.segments.push(wal.name);
      if (wal?.kind === 'delta') names.deltas.push(wal.name);
    }
    return names;
  }

  /** A whole segment, as it was received. */
  async segment(name: string): Promise<Buffer> {
    for (const encryption of [undefined, '.age', '.enc'] as const) {
      const key = walKey(this.folder, { kind: 'segment', name }, `.zst${encryption ?? ''}`);
      if ((await this.store.head(key)) === undefined) continue;
      const { content } = await readPiece(this.store, { key, encryption }, { keys: this.keys });
      return bytesOf(content);
    }
    throw new Error(`${name} is not archived`);
  }

  /** Fails unless every archived segment that the witness was given too is the same; returns how many these are. */
  async expectAsWitness(directory: string): Promise<number> {
    let count = 0;
    for (const name of (await this.names()).segments) {
      const given = await readFile(`${directory}/${name}`).catch(() => undefined);
      if (given === undefined) continue;
      expect([name, given.equals(await this.segment(name))]).toEqual([name, true]);
      count += 1;
    }
    return count;
  }

  /** The stretch that is archived without a gap; fails if there are several. */
  async onlyStretch(timeline = 1): Promise<{ readonly from: Lsn; readonly to: Lsn }> {
    const stretches = stretchesTowards(await this.index(), await this.history(timeline));
    expect(gapsBetween(stretches)).toEqual([]);
    const [stretch] = stretches;
    if (stretch === undefined) throw new Error('nothing is archived');
    return stretch;
  }

  async history(timeline: number): Promise<TimelineHistory> {
    if (timeline === 1) return { timeline, ancestors: [] };
    const name = `${timeline.toString(16).toUpperCase().padStart(8, '0')}.history`;
    const { body } = await this.store.get(walKey(this.folder, { kind: 'history', name }, ''));
    return parseTimelineHistory(timeline, (await bytesOf(body)).toString());
  }
}
