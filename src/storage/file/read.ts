import type { FileHandle } from 'node:fs/promises';
import { BLOCK_BYTES, type ByteStream } from '../../common/bytes.ts';
import { assert, PgarkError } from '../../common/errors.ts';
import type { ByteRange, ObjectInfo } from '../object-store.ts';
import { openForReading, statEtag } from './inspect.ts';
import { ABSENT, io, unless } from './system-errors.ts';

/** The part of an object that a range means: from `start` to before `end`, both within the object. */
export interface Span {
  readonly start: number;
  readonly end: number;
}

export function spanOf(range: ByteRange | undefined, bytes: number): Span {
  if (range === undefined) return { start: 0, end: bytes };
  const { start, end = Number.MAX_SAFE_INTEGER - 1 } = range;
  assert(Number.isSafeInteger(start) && start >= 0, 'a range starts at a byte');
  assert(Number.isSafeInteger(end) && end >= start, 'a range ends at or after its start');
  return { start: Math.min(start, bytes), end: Math.min(end + 1, bytes) };
}

/** An object whose content is at hand. The blocks are copies: the reader may overwrite them. */
export async function* readContent(content: Uint8Array, span: Span, signal: AbortSignal | undefined): ByteStream {
  signal?.throwIfAborted();
  if (span.end > span.start) yield content.slice(span.start, span.end);
}

/**
 * An object's bytes from its file, which is opened with the first block, so that a body that nobody reads holds nothing
 * open. Once open, it stays the object it was, whoever replaces the name.
 */
export async function* readFileBody(
  path: string,
  info: ObjectInfo,
  span: Span,
  signal: AbortSignal | undefined,
): ByteStream {
  const doing = `read the object ${JSON.stringify(info.key)}`;
  signal?.throwIfAborted();
  const handle = await io(doing, () => unless(ABSENT, () => openForReading(path)));
  if (handle === undefined) {
    throw new PgarkError('object-not-found', `cannot ${doing}: it was deleted by another process just now`);
  }
  try {
    const stat = await io(doing, () => handle.stat({ bigint: true }));
    if (statEtag(stat) !== info.etag) {
      throw new PgarkError('store-condition-failed', `cannot ${doing}: it was replaced by another process just now`);
    }
    yield* readSpan(handle, info, span, doing, signal);
  } finally {
    await io(doing, () => handle.close());
  }
}

async function* readSpan(
  handle: FileHandle,
  info: ObjectInfo,
  span: Span,
  doing: string,
  signal: AbortSignal | undefined,
): ByteStream {
  for (let position = span.start; position < span.end; ) {
    signal?.throwIfAborted();
    const block = new Uint8Array(Math.min(BLOCK_BYTES, span.end - position));
    const at = position;
    const { bytesRead } = await io(doing, () => handle.read(block, 0, block.length, at));
    if (bytesRead === 0) {
      throw new PgarkError('corrupt', `cannot ${doing}: the file ends after ${position} of ${info.bytes} bytes`, {
        hint: 'something else shortens files in the storage directory; restore another backup, pgark verify tries them',
      });
    }
    position += bytesRead;
    yield bytesRead === block.length ? block : block.subarray(0, bytesRead);
  }
  signal?.throwIfAborted();
}
