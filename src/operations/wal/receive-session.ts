import { asPgarkError, isPgarkError, messageOf, type PgarkError } from '../../common/errors.ts';
import { sqlStateOf } from '../../postgres/client/server-error.ts';
import { identifySystem, showSetting, writesOn } from '../../postgres/replication/replication-commands.ts';
import { connectForReplication, type ReplicationSession } from '../../postgres/replication/replication-session.ts';
import { SegmentStream } from '../../postgres/replication/segment-stream.ts';
import { isMissingHistory, readTimelineHistory } from '../../postgres/replication/timeline-history.ts';
import type { WalStreamEnd } from '../../postgres/replication/wal-stream.ts';
import { formatLsn, type Lsn, parseLsn } from '../../postgres/wal/lsn.ts';
import { magicOf } from '../../postgres/wal/page-header.ts';
import type { WalIdentity } from '../../postgres/wal/segment-content.ts';
import { parseSegmentBytes, segmentAt, segmentName, segmentStartAt } from '../../postgres/wal/segment.ts';
import { parseTimelineHistory, type TimelineHistory } from '../../postgres/wal/timeline-history.ts';
import type { WalPlace } from '../../formats/wal/store-piece.ts';
import { archiveHistories } from './archive-histories.ts';
import { Archives } from './archives.ts';
import { alarm, gapError, type ReceiverWorld } from './receiver-world.ts';
import { ServerEnd } from './server-end.ts';
import { ServerMonitor } from './server-monitor.ts';
import { ensureSlot, remakeSlot, type Slot } from './slot.ts';
import { SlotWatch } from './slot-watch.ts';
import { archiveEnd, firstMissing, segmentTimeline, type StartPosition } from './start-position.ts';
import { storeStream } from './store-stream.ts';

/** How often the server hears from us, and is asked where it is; more often where it has little patience. */
const STATUS_MS_MAX = 10_000;
/** A synchronous standby whose storage takes nothing for so long says so by its silence: a server that stops does not wait. */
const SYNCHRONOUS_PATIENCE_MS = 2_000;
/** `requested WAL segment … has already been removed`. */
const REMOVED = '58P01';
/** `can no longer access replication slot`: it was invalidated, which says nothing of the WAL that it kept. */
const SLOT_INVALIDATED = '55000';
const REMOVED_FROM_SERVER = 'the server does not have it any more';

/**
 * One connection to the server, from its beginning to its end: finds the slot and where to go on, archives what comes, through
 * as many timelines as there are. Resolves when the server has shut down, or when it was told to stop.
 */
export async function receiveOnce(world: ReceiverWorld): Promise<void> {
  const { request, stop, giveUp } = world;
  const options = { applicationName: request.slot, signal: stop };
  const session = await connectForReplication(request.connection, options);
  let monitor: ServerMonitor | undefined;
  // A server that answers nothing any more does not hold up the end.
  const hangUp = (): void => {
    session.destroy();
    monitor?.destroy();
  };
  if (giveUp.aborted) hangUp();
  else giveUp.addEventListener('abort', hangUp, { once: true });
  try {
    monitor = await openMonitor(world);
    await new ReceiveSession(world, session, monitor).run();
  } finally {
    giveUp.removeEventListener('abort', hangUp);
    await Promise.all([session.close(), monitor?.close()]);
  }
}

async function openMonitor({ request, context, stop }: ReceiverWorld): Promise<ServerMonitor | undefined> {
  try {
    return await ServerMonitor.open(request, stop);
  } catch (error) {
    stop.throwIfAborted();
    const { message, hint } = asPgarkError(error);
    context.logger.warning(
      'wal.no_monitor',
      `WAL is received, but nobody watches what the slot ${request.slot} holds back: ${message}; ${hint}`,
      { source: request.source },
    );
    return undefined;
  }
}

class ReceiveSession {
  readonly #world: ReceiverWorld;
  readonly #session: ReplicationSession;
  readonly #monitor: ServerMonitor | undefined;
  #watch: SlotWatch | undefined;
  #stream: SegmentStream | undefined;

  constructor(world: ReceiverWorld, session: ReplicationSession, monitor: ServerMonitor | undefined) {
    this.#world = world;
    this.#session = session;
    this.#monitor = monitor;
  }

  async run(): Promise<void> {
    const { state } = this.#world;
    const { systemIdentifier } = await identifySystem(this.#session);
    const segmentBytes = parseSegmentBytes(await showSetting(this.#session, 'wal_segment_size'));
    const identity: WalIdentity = { systemIdentifier, segmentBytes, magic: magicOf(this.#session.major) };
    state.begin(systemIdentifier);
    const watch =
      this.#monitor &&
      new SlotWatch(this.#world, this.#monitor, {
        isUsed: () => this.#stream !== undefined,
        letGo: (reason) => this.#stream?.destroy(reason),
      });
    this.#watch = watch;
    try {
      // Whatever comes of the storages, the slot must not fill the server's disk.
      await watch?.looked;
      await this.#withArchives(identity);
    } finally {
      await watch?.end();
    }
  }

  async #withArchives(identity: WalIdentity): Promise<void> {
    const { request, context, state, stop } = this.#world;
    const { source, sealer, keys } = request;
    const { systemIdentifier, segmentBytes } = identity;
    const archives = await Archives.open(
      request.stores,
      { source, systemIdentifier, segmentBytes },
      {
        ...context,
        signal: stop,
        sealing: { sealer, keys: keys ?? { identities: [], passphrases: [] } },
        failing: new Map([...state.failingStores].map(([storage, { failure }]) => [storage, failure])),
        onFailing: (storage, failure, isLeft) => this.#storeFails(storage, failure, isLeft),
      },
    );
    try {
      await this.#withSlot(identity, archives);
    } finally {
      await archives.close();
    }
  }

  async #withSlot(identity: WalIdentity, archives: Archives): Promise<void> {
    const { slot: name } = this.#world.request;
    let slot = await ensureSlot(this.#session, this.#monitor, name);
    try {
      // What an invalidated slot kept need not be gone: everything begins anew, at the end of what is archived.
      while ((await this.#receive(identity, archives, slot)) === 'slot-lost') {
        slot = await remakeSlot(this.#session, this.#monitor, name);
      }
    } catch (error) {
      // The server is another one than the archive's, and keeps nothing for it.
      if (slot.origin === 'made' && isPgarkError(error, 'wal-conflict')) await this.#dropUnused();
      throw error;
    }
  }

  /** By a connection of its own: that of the stream may be over, and who watched the slot may have asked on the other one. */
  async #dropUnused(): Promise<void> {
    const { request, stop, context } = this.#world;
    const { slot } = request;
    try {
      const monitor = await ServerMonitor.open(request, stop);
      try {
        await monitor.dropSlot(slot);
      } finally {
        await monitor.close();
      }
    } catch (error) {
      context.logger.warning('wal.slot_left', `the slot ${slot} could not be dropped: ${messageOf(error)}`);
    }
  }

  /** `slot-lost`: the server keeps nothing for it, as turned out when it was to be used. */
  async #receive(identity: WalIdentity, archives: Archives, slot: Slot): Promise<'slot-lost' | undefined> {
    const { timeline } = await identifySystem(this.#session);
    const history = await this.#history(timeline);
    let candidates = await this.#candidates(archives, history, slot);
    let lost: Lsn | undefined;
    for (let remade = false; ; ) {
      const [start, ...others] = candidates;
      if (start === undefined) {
        // Not even what the slot was to keep is there.
        const made = await remakeSlot(this.#session, this.#monitor, this.#world.request.slot);
        const next = await this.#earliestMissing(archives, history, made.restartLsn);
        if (lost !== undefined && lost < next.lsn) this.#gap(lost, next.lsn, REMOVED_FROM_SERVER);
        // Since its last checkpoint it may have lost some too: what it is writing now it has.
        const { flushLsn } = await identifySystem(this.#session);
        const written = { timeline, lsn: segmentStartAt(parseLsn(flushLsn), identity.segmentBytes) };
        candidates = written.lsn > next.lsn ? [next, written] : [next];
        remade = true;
        continue;
      }
      const end = await this.#tryFrom(start, identity, archives, remade && others.length === 0);
      if (end === 'slot-lost') return end;
      if (end === 'removed') {
        const next = others[0];
        if (start.isArchived === true) this.#isUnproven(start.lsn, slot);
        else if (next !== undefined) this.#gap(start.lsn, next.lsn, REMOVED_FROM_SERVER);
        else lost = start.lsn;
        candidates = others;
        continue;
      }
      if (end.kind !== 'next-timeline') return undefined;
      candidates = [{ timeline: end.timeline, lsn: segmentStartAt(end.begin, identity.segmentBytes) }];
    }
  }

  /** Where to go on, best first: at the end of what is archived; else from where on the slot has kept everything. */
  async #candidates(archives: Archives, history: TimelineHistory, slot: Slot): Promise<readonly StartPosition[]> {
    const { context, stop } = this.#world;
    const found = await Promise.all(
      archives.places.map(async ({ place, record }) => {
        const { head, segmentBytes } = record;
        const hint = head && { timeline: head.timeline, lsn: parseLsn(head.lsn) };
        return { place, end: await archiveEnd({ ...place, segmentBytes }, history, hint, { signal: stop }) };
      }),
    );
    const isLeft = this.#leaveBehind(archives, history, slot, found);
    const ends = found.filter(({ place }) => !isLeft.has(place)).map(({ end }) => end);
    const kept = await this.#earliestMissing(archives, history, slot.restartLsn);
    const earlier = ends.filter((end) => end !== undefined && end < kept.lsn);
    context.logger.debug('wal.start', `the slot keeps WAL from ${formatLsn(slot.restartLsn)} on`, {
      slot: slot.origin,
      missingFrom: formatLsn(kept.lsn),
    });
    const before =
      earlier.length === 0 ? kept : await this.#earliestMissing(archives, history, least(earlier as Lsn[]));
    const candidates = before.lsn < kept.lsn ? [before, kept] : [kept];
    const { state } = this.#world;
    if (state.isProven) return candidates;
    const archived = await this.#lastArchived(archives, history, slot.restartLsn, candidates[0] ?? kept);
    if (archived !== undefined) return [archived, ...candidates];
    // What comes now is the first of it.
    state.isProven = true;
    return candidates;
  }

  /** What one storage lacks and another has need not be gone, although the server keeps it no more. */
  #leaveBehind(
    archives: Archives,
    history: TimelineHistory,
    { restartLsn }: Slot,
    found: readonly { readonly place: WalPlace; readonly end: Lsn | undefined }[],
  ): ReadonlyMap<WalPlace, string> {
    const segmentBytes = archives.places[0]?.record.segmentBytes ?? 0;
    const most = found.reduce<(typeof found)[number] | undefined>(
      (best, each) => ((each.end ?? 0n) > (best?.end ?? 0n) ? each : best),
      undefined,
    );
    const behind = new Map<WalPlace, string>();
    for (const { place, end } of found) {
      if (end === undefined || end >= (most?.end ?? 0n) || end >= segmentStartAt(restartLsn, segmentBytes)) continue;
      const timeline = segmentTimeline(history, end, segmentBytes);
      behind.set(place, segmentName(segmentAt(timeline, end, segmentBytes), segmentBytes));
    }
    if (most !== undefined) archives.leaveBehind(behind, most.place);
    return behind;
  }

  /**
   * A segment that is archived and that the server may still have, to be compared: two servers that were restored from one
   * base backup may choose the same timeline at the same position, and the WAL of one must not go on as the other's.
   */
  async #lastArchived(
    archives: Archives,
    history: TimelineHistory,
    restartLsn: Lsn,
    start: StartPosition,
  ): Promise<StartPosition | undefined> {
    const segmentBytes = archives.places[0]?.record.segmentBytes ?? 0;
    const before = start.lsn - BigInt(segmentBytes);
    if (before < 0n) return undefined;
    const kept = segmentStartAt(restartLsn, segmentBytes);
    const lsn = kept < before ? kept : before;
    const missing = await this.#earliestMissing(archives, history, lsn);
    if (missing.lsn <= lsn) return undefined;
    return { timeline: segmentTimeline(history, lsn, segmentBytes), lsn, isArchived: true };
  }

  /** A slot of ours is on no other server as a rule: base backups and standbys have none of it. */
  #isUnproven(lsn: Lsn, { origin }: Slot): void {
    const { context, request } = this.#world;
    if (origin === 'found') return;
    context.logger.warning(
      'wal.unproven',
      `the server of ${request.source} does not have the WAL at ${formatLsn(lsn)} any more, which is archived: that the archive is its own is not proven`,
      { source: request.source },
    );
  }

  async #earliestMissing(archives: Archives, history: TimelineHistory, from: Lsn): Promise<StartPosition> {
    const found = await Promise.all(
      archives.places.map(({ place, record: { segmentBytes } }) =>
        firstMissing({ ...place, segmentBytes }, history, from, { signal: this.#world.stop }),
      ),
    );
    return found.reduce((earliest, each) => (each.lsn < earliest.lsn ? each : earliest));
  }

  /** `removed`: the server has no WAL of there any more. `isLast`: then that is an error. */
  async #tryFrom(
    start: StartPosition,
    identity: WalIdentity,
    archives: Archives,
    isLast: boolean,
  ): Promise<WalStreamEnd | 'removed' | 'slot-lost'> {
    const { request, context, state, giveUp } = this.#world;
    const { timeline, lsn } = start;
    try {
      await archiveHistories(this.#session, archives, timeline, giveUp);
    } catch (error) {
      // A server that knows nothing of a timeline has none of its WAL either.
      if (isMissingHistory(error) && !isLast) return 'removed';
      throw error;
    }
    const stream = await SegmentStream.start(this.#session, {
      slot: request.slot,
      timeline,
      start: lsn,
      identity,
      isWriter: await writesOn(this.#session, timeline),
      clock: context.clock,
      statusMs: await this.#statusMs(),
      withholdAfterMs: request.synchronous === true ? SYNCHRONOUS_PATIENCE_MS : 0,
    });
    this.#stream = stream;
    this.#watch?.used();
    const serverEnd = new ServerEnd(stream, this.#monitor, context.clock);
    try {
      if (!stream.isOver) {
        state.phase = 'streaming';
        state.streamsSinceMs ??= context.clock.monotonicMs();
        const over = (): void => {
          state.phase = 'waiting';
        };
        stream.ended.then(over, over);
        state.failure = undefined;
        if (state.isServerAway) alarm(this.#world, { kind: 'over', of: 'server' });
        state.isServerAway = false;
        state.timeline = timeline;
        const from = formatLsn(lsn);
        context.logger.info('wal.streaming', `receiving WAL of ${request.source} from ${from}, timeline ${timeline}`, {
          source: request.source,
          timeline,
          lsn: from,
        });
      }
      return await storeStream(this.#world, { stream, start, identity, archives });
    } catch (error) {
      if (stream.received > lsn) throw error;
      const sqlState = sqlStateOf(error);
      if (sqlState === SLOT_INVALIDATED) return 'slot-lost';
      if (sqlState === REMOVED && !isLast) return 'removed';
      throw error;
    } finally {
      if (start.isArchived === true && (state.archived ?? 0n) > lsn) state.isProven = true;
      serverEnd.end();
      stream.destroy(new Error('nobody stores what comes'));
      stream.release();
      this.#stream = undefined;
    }
  }

  async #history(timeline: number): Promise<TimelineHistory> {
    if (timeline === 1) return { timeline, ancestors: [] };
    const content = await readTimelineHistory(this.#session, timeline);
    return parseTimelineHistory(timeline, content.toString());
  }

  /** A third of the time after which the server takes us for dead. */
  async #statusMs(): Promise<number> {
    const text = await showSetting(this.#session, 'wal_sender_timeout');
    const [, number, unit] = /^(\d+)(ms|s|min|h|d)$/.exec(text) ?? [];
    if (number === undefined || unit === undefined) return STATUS_MS_MAX;
    const timeoutMs = Number(number) * { ms: 1, s: 1_000, min: 60_000, h: 3_600_000, d: 86_400_000 }[unit as 'ms'];
    return Math.min(STATUS_MS_MAX, Math.max(100, timeoutMs / 3));
  }

  #gap(from: Lsn, to: Lsn, why: string): void {
    const { request, state } = this.#world;
    state.gaps += 1;
    alarm(this.#world, { kind: 'gap', error: gapError(request.source, formatLsn(from), formatLsn(to), why) });
  }

  #storeFails(storage: string, failure: PgarkError | undefined, isLeft: boolean): void {
    const { state, request } = this.#world;
    const { failingStores } = state;
    if (failure === undefined) {
      failingStores.delete(storage);
      request.onAlarm?.({ kind: 'over', of: 'store', storage });
    } else {
      if (!failingStores.has(storage)) request.onAlarm?.({ kind: 'store', storage, error: failure });
      state.storeFails(storage, failure, isLeft);
    }
  }
}

function least(lsns: readonly Lsn[]): Lsn {
  return lsns.reduce((earliest, lsn) => (lsn < earliest ? lsn : earliest));
}
