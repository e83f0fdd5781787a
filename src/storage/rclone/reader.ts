import { createHash } from 'node:crypto';
import type { ByteStream } from '../../common/bytes.ts';
import { ProgramFailure } from '../../common/child-process.ts';
import { assert, PgarkError } from '../../common/errors.ts';
import { type ByteRange, type CallOptions, type ObjectBody, type ObjectKey } from '../object-store.ts';
import { retryDelayMs } from '../../common/retry.ts';
import { isTransient } from './failures.ts';
import type { Found, Place } from './place.ts';

interface Span {
  readonly start: number;
  /** Not included. */
  readonly end: number;
}

function spanOf(range: ByteRange | undefined, bytes: number): Span {
  if (range === undefined) return { start: 0, end: bytes };
  const { start, end = Number.MAX_SAFE_INTEGER - 1 } = range;
  assert(Number.isSafeInteger(start) && start >= 0, 'a range starts at a byte');
  assert(Number.isSafeInteger(end) && end >= start, 'a range ends at or after its start');
  return { start: Math.min(start, bytes), end: Math.min(end + 1, bytes) };
}

export async function getObject(
  place: Place,
  key: ObjectKey,
  { range, signal }: CallOptions & { readonly range?: ByteRange },
): Promise<ObjectBody> {
  const found = await place.find(key, { ...(signal && { signal }) });
  if (found === undefined) {
    throw new PgarkError('object-not-found', `there is no object ${JSON.stringify(key)} on ${place.calls.location}`);
  }
  return { info: found.info, body: readSpan(place, found, spanOf(range, found.info.bytes), signal) };
}

/**
 * The bytes, by a run that begins with the first block and is repeated from where it was cut off. rclone reads by name:
 * that they are of the object that was found is checked at the end, by the hash of a whole read where the remote tells
 * one, else by another look.
 */
async function* readSpan(place: Place, found: Found, span: Span, signal: AbortSignal | undefined): ByteStream {
  const { calls } = place;
  const { info } = found;
  const { clock, random, logger } = calls.settings;
  const run = calls.describe('read', info.key);
  const { hash } = await place.traits();
  const expected =
    hash !== undefined && span.start === 0 && span.end === info.bytes ? found.entry.hashes[hash] : undefined;
  const digest = hash === undefined || expected === undefined ? undefined : createHash(hash);
  let position = span.start;
  for (let attempt = 1; position < span.end; ) {
    signal?.throwIfAborted();
    const before = position;
    try {
      for await (const block of calls.read(info.key, { offset: position, count: span.end - position }, signal)) {
        position += block.length;
        // Before the block is given away: its reader may overwrite it.
        digest?.update(block);
        // As a plain array: a reader's `slice` of a Buffer would not copy.
        yield new Uint8Array(block.buffer, block.byteOffset, block.length);
      }
      if (position < span.end) {
        await assertSame(place, found, signal);
        throw new PgarkError(
          'corrupt',
          `cannot ${run.doing}: only ${position - span.start} of ${span.end - span.start} bytes came`,
          {
            hint: 'restore another backup; pgark verify tries them',
          },
        );
      }
    } catch (error) {
      signal?.throwIfAborted();
      if (!(error instanceof ProgramFailure)) throw error;
      attempt = position > before ? 1 : attempt;
      if (attempt > calls.retry.retriesMax || !isTransient(error, run)) {
        await assertSame(place, found, signal);
        throw calls.error(error, run);
      }
      logger.warning('store.read-resumed', `reading ${info.key} was cut off, going on at byte ${position}`, {
        position,
      });
      await clock.sleep(retryDelayMs(calls.retry, attempt, random), signal);
      await assertSame(place, found, signal);
      attempt += 1;
    }
  }
  signal?.throwIfAborted();
  if (digest === undefined) {
    if (span.end > span.start) await assertSame(place, found, signal);
  } else if (digest.digest('hex') !== expected) {
    await assertSame(place, found, signal);
    throw new PgarkError('corrupt', `cannot ${run.doing}: its bytes are not those whose ${hash} the remote tells`, {
      hint: 'restore another backup; pgark verify tries them',
    });
  }
}

/** Rejects if the object is another one by now, or gone. */
async function assertSame(place: Place, { info }: Found, signal: AbortSignal | undefined): Promise<void> {
  const found = await place.find(info.key, { ...(signal && { signal }) });
  if (found?.info.etag === info.etag) return;
  const doing = place.calls.describe('read', info.key).doing;
  if (found === undefined) {
    throw new PgarkError('object-not-found', `cannot ${doing}: it was deleted by another process just now`);
  }
  throw new PgarkError('store-condition-failed', `cannot ${doing}: it was replaced by another process just now`);
}
