import type { ByteStream } from '../../common/bytes.ts';
import { asPgarkError, isPgarkError, PgarkError } from '../../common/errors.ts';
import type { Logger } from '../../common/log.ts';
import { chainOfDeltas } from '../../formats/wal/archive-index.ts';
import { readParts, readWhole, type SegmentObjects } from '../../formats/wal/read-segment.ts';
import { conflict, type WalPlace } from '../../formats/wal/store-piece.ts';
import type { ReceivedWal } from '../../postgres/replication/segment-stream.ts';

export interface ArchivedSegment {
  readonly place: WalPlace;
  readonly name: string;
  readonly objects: SegmentObjects;
}

/**
 * Whether what has come of a segment is all that is archived of it, or more: where less has come, only that is compared. Without
 * a key for what is archived nothing can be compared but a whole segment, when it is put. Error: `wal-conflict`.
 */
export async function isAsArchived(
  { content, to }: ReceivedWal,
  { place, name, objects }: ArchivedSegment,
  logger: Logger,
  signal: AbortSignal,
): Promise<boolean> {
  const { store, folder, keys } = place;
  const { whole, deltas } = objects;
  const chain = chainOfDeltas(deltas);
  const key = whole?.key ?? chain[0]?.key;
  if (key === undefined) return true;
  const start = content.end - BigInt(content.filledBytes);
  const archived =
    whole === undefined
      ? readParts(store, chain, start, { keys, signal })
      : readWhole(store, whole, { name, systemIdentifier: folder.systemIdentifier }, { keys, signal });
  try {
    const same = await beginAlike(archived, content.views(0, to), to);
    if (same !== 'different') return same === 'all';
  } catch (error) {
    signal.throwIfAborted();
    if (!(error instanceof PgarkError)) throw error;
    // Who only encrypts has none. What is damaged, or cannot be read, must not stop what comes from being archived.
    if (!isPgarkError(error, 'key-missing') && !isPgarkError(error, 'wrong-key')) {
      logger.warning(
        'wal.not_compared',
        `what is archived of ${name} could not be compared: ${asPgarkError(error).message}`,
        {
          segment: name,
        },
      );
    }
    return true;
  }
  throw conflict(store, key);
}

/** `part`: as far as there are views; the stream has more. `bytes`: of all views. */
async function beginAlike(
  stream: ByteStream,
  views: Iterable<Uint8Array>,
  bytes: number,
): Promise<'all' | 'part' | 'different'> {
  const left = views[Symbol.iterator]();
  let view: Uint8Array = new Uint8Array(0);
  let done = 0;
  for await (const block of stream) {
    for (let at = 0; at < block.length; ) {
      if (done === bytes) return 'part';
      if (view.length === 0) {
        const next = left.next();
        if (next.done === true) return 'part';
        view = next.value;
      }
      const count = Math.min(view.length, block.length - at);
      if (Buffer.compare(view.subarray(0, count), block.subarray(at, at + count)) !== 0) return 'different';
      view = view.subarray(count);
      at += count;
      done += count;
    }
  }
  return 'all';
}
