import { createHash } from 'node:crypto';
import { systemClock } from '../../common/clock.ts';
import { asPgarkError, assert, messageOf, PgarkError } from '../../common/errors.ts';
import type { Logger } from '../../common/log.ts';
import type { Sealer } from '../../pipeline/encryption/sealer.ts';
import type { ConnectionParameters } from '../../postgres/client/connection-parameters.ts';
import { quoteIdentifier } from '../../postgres/client/quote.ts';
import type { WalPosition } from '../../postgres/replication/base-backup.ts';
import { identifySystem, showSetting } from '../../postgres/replication/replication-commands.ts';
import { connectForReplication, type ReplicationSession } from '../../postgres/replication/replication-session.ts';
import { type ReceivedWal, SegmentStream, type WaitOptions } from '../../postgres/replication/segment-stream.ts';
import { isMissingHistory, readTimelineHistory } from '../../postgres/replication/timeline-history.ts';
import { type Lsn, parseLsn } from '../../postgres/wal/lsn.ts';
import type { WalIdentity } from '../../postgres/wal/segment-content.ts';
import { parseSegmentBytes, segmentStartAt } from '../../postgres/wal/segment.ts';
import { ancestorsWithHistory, historyFileName } from '../../postgres/wal/timeline-history.ts';
import type { Manifest } from '../../repository/manifest.ts';
import type { ObjectStore } from '../../storage/object-store.ts';
import { isHistoryArchived } from '../wal/history-object.ts';
import { deltasOf, receivedPiece } from '../wal/received-piece.ts';
import {
  compareEncryptedOtherwise,
  putTimelineHistory,
  putWalDelta,
  putWalFile,
  type WalPlace,
} from '../wal/store-piece.ts';
import { SealedPiece } from '../wal/wal-piece.ts';
import { findSpan, segmentsOf, type WalSpan } from './needed-wal.ts';
import type { OpenWal, WalRun } from './wal-run.ts';

/** The server hears from us this often, well within the shortest wal_sender_timeout that makes sense. */
const STATUS_MS = 3_000;
/** How long nothing may come at the end: a primary closes the last segment when a base backup is over. */
const LAST_SEGMENT_MS = 60_000;

export interface WalStreamRequest {
  /** In whose folder the archive is. */
  readonly source: string;
  readonly connection: ConnectionParameters;
  readonly sealer: Sealer | undefined;
  /** A name for a slot that nobody else has: small letters, digits and `_`. */
  readonly slot: string;
  /** Whether the server is a standby. */
  readonly inRecovery: boolean;
  /** Where the WAL goes: each destination of the backup that is left. */
  readonly archive: { each(step: (store: ObjectStore, signal: AbortSignal) => Promise<void>): Promise<void> };
  readonly logger: Logger;
}

/**
 * Streams the WAL that a base backup needs from the server while the backup is taken, by a connection of its own with a
 * temporary slot, and archives it segment by segment. What is archived already is left as it is.
 */
export function streamWal(request: WalStreamRequest): OpenWal {
  return async ({ systemIdentifier, applicationName, signal }) => {
    const session = await connectForReplication(request.connection, { applicationName, signal });
    try {
      const segmentBytes = parseSegmentBytes(await showSetting(session, 'wal_segment_size'));
      const histories = await readHistories(session);
      const slot = await reserve(session, request);
      const identity = { systemIdentifier, segmentBytes, magic: undefined };
      return new Streaming(request, session, identity, { slot, histories });
    } catch (error) {
      await session.close();
      throw error;
    }
  };
}

/**
 * The histories that the server has of its timeline and of those before it; one that was built from a base backup may lack these.
 * Asked before there is a temporary slot: an error ends that.
 */
async function readHistories(session: ReplicationSession): Promise<ReadonlyMap<number, Buffer>> {
  const histories = new Map<number, Buffer>();
  const { timeline } = await identifySystem(session);
  if (timeline === 1) return histories;
  const own = await readTimelineHistory(session, timeline);
  histories.set(timeline, own);
  for (const ancestor of ancestorsWithHistory(timeline, own)) {
    try {
      histories.set(ancestor, await readTimelineHistory(session, ancestor));
    } catch (error) {
      if (!isMissingHistory(error)) throw error;
    }
  }
  return histories;
}

/** Makes the server keep its WAL from now on, as long as the session lives. Undefined where it has no slot to give. */
async function reserve(session: ReplicationSession, { slot, logger }: WalStreamRequest): Promise<string | undefined> {
  try {
    await session.query(`CREATE_REPLICATION_SLOT ${quoteIdentifier(slot)} TEMPORARY PHYSICAL RESERVE_WAL`);
    return slot;
  } catch (error) {
    if (!session.alive) throw error;
    logger.warning(
      'wal.no_slot',
      `the server gives no replication slot (${messageOf(error)}): if it removes WAL before it is archived, the backup fails; raise max_replication_slots`,
    );
    return undefined;
  }
}

class Streaming implements WalRun {
  readonly #request: WalStreamRequest;
  readonly #session: ReplicationSession;
  readonly #identity: WalIdentity;
  readonly #slot: string | undefined;
  readonly #histories: ReadonlyMap<number, Buffer>;
  readonly #lost = new AbortController();
  /** Aborted when the end is known. */
  readonly #endKnown = new AbortController();
  #start: WalPosition | undefined;
  #stop: Lsn | undefined;
  #stream: SegmentStream | undefined;
  #archiving: Promise<void> | undefined;
  #isClosed = false;
  #historySha256: string | undefined;

  constructor(
    request: WalStreamRequest,
    session: ReplicationSession,
    identity: WalIdentity,
    { slot, histories }: { readonly slot: string | undefined; readonly histories: ReadonlyMap<number, Buffer> },
  ) {
    this.#request = request;
    this.#session = session;
    this.#identity = identity;
    this.#slot = slot;
    this.#histories = histories;
  }

  get lost(): AbortSignal {
    return this.#lost.signal;
  }

  start(position: WalPosition): void {
    this.#start = position;
    this.#archiving = this.#archive(position);
    this.#archiving.catch((error: unknown) => this.#lost.abort(asPgarkError(error)));
  }

  async finish(stop: WalPosition): Promise<NonNullable<Manifest['walNeeded']>> {
    assert(this.#start !== undefined, 'the WAL of a backup that ends was begun');
    const { segmentBytes, systemIdentifier } = this.#identity;
    const span: WalSpan = {
      folder: { source: this.#request.source, systemIdentifier },
      timeline: this.#start.timeline,
      from: parseLsn(this.#start.lsn),
      to: parseLsn(stop.lsn),
      segmentBytes,
    };
    this.#stop = span.to;
    this.#endKnown.abort();
    await this.#archiving;
    // Nobody removed any of it meanwhile either.
    await this.#request.archive.each(async (store, signal) => void (await findSpan(store, span, { signal })));
    const names = [...segmentsOf(span)];
    const history = this.#historySha256 === undefined ? {} : { historySha256: this.#historySha256 };
    return { from: names[0] ?? '', to: names.at(-1) ?? '', segmentBytes, ...history };
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#stream?.destroy(new Error('the WAL is not wanted any more'));
    await this.#session.close();
    await this.#archiving?.catch(() => undefined);
    this.#stream?.release();
  }

  async #archive({ lsn, timeline }: WalPosition): Promise<void> {
    if (timeline > 1) await this.#archiveHistories(timeline);
    const start = segmentStartAt(parseLsn(lsn), this.#identity.segmentBytes);
    const stream = await SegmentStream.start(this.#session, {
      slot: this.#slot,
      timeline,
      start,
      identity: this.#identity,
      isWriter: !this.#request.inRecovery,
      clock: systemClock,
      statusMs: STATUS_MS,
    });
    this.#stream = stream;
    for (let archived = start; this.#stop === undefined || archived < this.#stop; ) {
      if (this.#isClosed) return;
      const wait = this.#waitOptions();
      const before = stream.received;
      const segment = await stream.next(wait);
      if (segment !== undefined) archived = await this.#putSegment(stream, segment);
      else if (stream.isOver) throw endedEarly(await stream.ended);
      else if (wait.withinMs !== undefined && (stream.received === before || this.#hasRest(stream)))
        return this.#putRest(stream);
    }
  }

  /** Of a standby: all that there is to be. */
  #hasRest({ received }: SegmentStream): boolean {
    return this.#stop !== undefined && this.#request.inRecovery && received >= this.#stop;
  }

  /** How a full segment is waited for; for ever until the end is known. */
  #waitOptions(): WaitOptions {
    if (this.#stop === undefined) return { signal: this.#endKnown.signal };
    return { withinMs: LAST_SEGMENT_MS, beyond: this.#request.inRecovery ? this.#stop - 1n : undefined };
  }

  async #putSegment(stream: SegmentStream, segment: ReceivedWal): Promise<Lsn> {
    const { content } = segment;
    const { end } = content;
    const sealing = SealedPiece.of(receivedPiece(segment, this.#identity), this.#request.sealer);
    const sealed = await sealing.finally(() => content.release());
    await this.#each(async (place, signal) => {
      await compareEncryptedOtherwise(place, sealed, this.#request.logger, { signal });
      await putWalFile(place, sealed, { signal });
    });
    sealed.release();
    stream.lasts(end);
    return end;
  }

  /** A standby closes no segment: what it has of the last one will do, once that is enough. */
  async #putRest(stream: SegmentStream): Promise<void> {
    if (!this.#hasRest(stream)) throw noMoreWal();
    const rest = stream.tail();
    assert(rest !== undefined, 'what ends within a segment is in its beginning');
    for (const part of deltasOf(rest)) {
      const piece = receivedPiece(part, this.#identity);
      await this.#each(async (place, signal) => void (await putWalDelta(place, piece, { signal })));
    }
  }

  /** A recovery looks for one after another, and goes no further than to the first that is missing. */
  async #archiveHistories(timeline: number): Promise<void> {
    const content = await readTimelineHistory(this.#session, timeline);
    this.#historySha256 = createHash('sha256').update(content).digest('hex');
    for (const ancestor of ancestorsWithHistory(timeline, content)) await this.#archiveAncestor(ancestor);
    const name = historyFileName(timeline);
    await this.#each(async (place, signal) => void (await putTimelineHistory(place, name, content, { signal })));
  }

  async #archiveAncestor(timeline: number): Promise<void> {
    const content = this.#histories.get(timeline);
    if (content === undefined) return;
    await this.#each(async (place, signal) => {
      if (await isHistoryArchived(place.store, place.folder, timeline, { signal })) return;
      await putTimelineHistory(place, historyFileName(timeline), content, { signal });
    });
  }

  async #each(step: (place: WalPlace, signal: AbortSignal) => Promise<void>): Promise<void> {
    const { source, sealer, archive } = this.#request;
    const { systemIdentifier } = this.#identity;
    // Who makes backups need not be able to read them.
    const keys = { identities: [], passphrases: [] };
    await archive.each((store, signal) => step({ store, folder: { source, systemIdentifier }, sealer, keys }, signal));
  }
}

function endedEarly(end: Awaited<SegmentStream['ended']>): PgarkError {
  const why = end.kind === 'next-timeline' ? `the server is on timeline ${end.timeline} now` : 'the server has stopped';
  return new PgarkError('postgres-failed', `the write-ahead log that the backup needs ended too early: ${why}`, {
    hint: 'run the backup again when the server is up',
  });
}

function noMoreWal(): PgarkError {
  return new PgarkError(
    'stalled',
    `the server has sent nothing for ${LAST_SEGMENT_MS / 1_000} s of the end of the write-ahead log that the backup needs`,
    { hint: 'see what the server and the network between do, then run the backup again' },
  );
}
