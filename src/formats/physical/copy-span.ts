import { createHash } from 'node:crypto';
import type { ByteStream } from '../../common/bytes.ts';
import { isPgarkError, PgarkError } from '../../common/errors.ts';
import type { Logger } from '../../common/log.ts';
import type { DecryptionKeys } from '../../pipeline/encryption/sealer.ts';
import { ancestorsWithHistory, historyFileName } from '../../postgres/wal/timeline-history.ts';
import type { ObjectKey, ObjectStore } from '../../storage/object-store.ts';
import { isOfKeys } from '../key-failure.ts';
import { isHistoryArchived, readHistoryBytes } from '../wal/history-object.ts';
import { findSegmentObjects } from '../wal/read-segment.ts';
import { conflict, putTimelineHistory, toldSha256 } from '../wal/store-piece.ts';
import { readHistory, segmentContent } from './fetch-wal.ts';
import { type ArchivedPart, type ArchivedSegment, findSpan, type WalSpan } from './needed-wal.ts';

export interface SpanCopy {
  readonly from: ObjectStore;
  readonly to: ObjectStore;
  /** To read what is copied, as far as they open it. */
  readonly keys: DecryptionKeys;
  readonly logger: Logger;
  readonly signal: AbortSignal;
  /** Bytes have come, or gone. */
  readonly onMoved: () => void;
}

/** What was copied, without what was there. */
export interface CopiedWal {
  readonly objects: number;
  readonly bytes: number;
}

/**
 * Copies the WAL of a span into another archive, object by object as they are, with the histories that lead to it. What a key
 * opens, or is not encrypted, is read to its end before, and compared with what the other archive has of it. Errors: `corrupt`
 * where anything is missing or damaged; `wal-conflict` where the other archive has another content, which is never replaced.
 */
export async function copySpan(span: WalSpan, copy: SpanCopy): Promise<CopiedWal> {
  if (span.timeline > 1) await copyHistories(span, copy);
  const run = new SegmentCopies(span, copy);
  for (const segment of await findSpan(copy.from, span, { signal: copy.signal })) await run.copy(segment);
  await run.compare();
  return run.copied;
}

/** A recovery looks for one after another, and goes no further than to the first that is missing. */
async function copyHistories(span: WalSpan, { from, to, keys, signal }: SpanCopy): Promise<void> {
  const { folder, timeline } = span;
  const call = { signal };
  const place = { store: to, folder };
  const own = await readHistory(span, { store: from, keys, signal });
  for (const ancestor of ancestorsWithHistory(timeline, Buffer.from(own))) {
    if (await isHistoryArchived(to, folder, ancestor, call)) continue;
    const content = await readHistoryBytes(from, folder, ancestor, call);
    // The server was built behind it.
    if (content !== undefined) await putTimelineHistory(place, historyFileName(ancestor), content, call);
  }
  await putTimelineHistory(place, historyFileName(timeline), own, call);
}

class SegmentCopies {
  readonly #span: WalSpan;
  readonly #copy: SpanCopy;
  /** Of segments that the other archive had something of: the digest of what they have to hold, by their names. */
  readonly #toCompare = new Map<string, string>();
  #objects = 0;
  #bytes = 0;

  constructor(span: WalSpan, copy: SpanCopy) {
    this.#span = span;
    this.#copy = copy;
  }

  get copied(): CopiedWal {
    return { objects: this.#objects, bytes: this.#bytes };
  }

  async copy(segment: ArchivedSegment): Promise<void> {
    const { from, to, signal } = this.#copy;
    const { name, parts } = segment;
    const { whole, deltas } = await findSegmentObjects(to, this.#span.folder, name, { signal });
    const present = new Set([whole, ...deltas].flatMap((each) => each?.key ?? []));
    const content = await this.#digestOf(segment, from);
    for (const part of parts) {
      const isNeedless = content !== undefined && whole !== undefined;
      const isThere = present.has(part.key) || isNeedless || !(await this.#put(part));
      if (isThere && content === undefined) await this.#compareUnopened(part.key);
      if (isThere && content !== undefined) this.#toCompare.set(name, content);
    }
    if (content !== undefined && present.size > 0) this.#toCompare.set(name, content);
  }

  /** What is to be found there now, if it came from here or not. Errors: `corrupt`, `wal-conflict`. */
  async compare(): Promise<void> {
    const { to, signal, logger } = this.#copy;
    for (const segment of await findSpan(to, this.#span, { signal })) {
      const wanted = this.#toCompare.get(segment.name);
      if (wanted === undefined) continue;
      const found = await this.#digestOf(segment, to);
      const [first] = segment.parts;
      if (found === wanted || first === undefined) continue;
      if (found !== undefined) throw conflict(to, first.key);
      const what = `${first.key} in ${to.location} was there already, encrypted otherwise: that it holds the same cannot be told`;
      logger.warning('wal.not_compared', what, { key: first.key });
    }
  }

  /** Of a segment up to the span's end, however it is stored; undefined where no key opens it. Error: `corrupt`. */
  async #digestOf(segment: ArchivedSegment, store: ObjectStore): Promise<string | undefined> {
    const { keys, signal, onMoved } = this.#copy;
    const hash = createHash('sha256');
    try {
      for await (const block of segmentContent(segment, this.#span, { store, keys, signal })) {
        onMoved();
        hash.update(block);
      }
    } catch (error) {
      if (!(error instanceof PgarkError) || !isOfKeys(error)) throw error;
      return undefined;
    }
    return hash.digest('hex');
  }

  /** Whether it was not there. */
  async #put({ key }: ArchivedPart): Promise<boolean> {
    const { from, to, signal, onMoved } = this.#copy;
    const { info, body } = await from.get(key, { signal });
    const { metadata, bytes } = info;
    try {
      await to.putStream(key, ofLength(body, { key, bytes, onMoved }), {
        signal,
        bytesEstimateMax: bytes,
        ...(metadata && { metadata }),
        onBytesStored: onMoved,
        onHeldBack: onMoved,
      });
    } catch (error) {
      // A receiver was quicker.
      if (isPgarkError(error, 'object-exists')) return false;
      throw error;
    }
    this.#objects += 1;
    this.#bytes += bytes;
    return true;
  }

  /** By what the objects say of themselves, or by their length, which is the same for the same content. Error: `wal-conflict`. */
  async #compareUnopened(key: ObjectKey): Promise<void> {
    const { from, to, keys, signal } = this.#copy;
    const call = { signal };
    const [theirs, own] = await Promise.all([from, to].map((store) => toldSha256({ store, keys }, key, call)));
    const isTold = theirs !== undefined && own !== undefined;
    const [ofTheirs, ofOwn] = await Promise.all([from, to].map((store) => store.head(key, call)));
    if (isTold ? theirs !== own : ofTheirs?.bytes !== ofOwn?.bytes) throw conflict(to, key);
  }
}

/** Ends with an error, so that what it goes into is given up, where other bytes come than the object has. */
async function* ofLength(
  body: ByteStream,
  { key, bytes, onMoved }: { readonly key: ObjectKey; readonly bytes: number; readonly onMoved: () => void },
): ByteStream {
  let passed = 0;
  for await (const block of body) {
    passed += block.length;
    onMoved();
    yield block;
  }
  if (passed !== bytes) throw new PgarkError('corrupt', `${key} has ${bytes} bytes, and ${passed} came`);
}
