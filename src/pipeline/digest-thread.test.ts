import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { bytesOf, noise, WatchedSource } from '../../test/support/streams.ts';
import { allocateBlock, releaseBlock, shareBlock } from '../common/block-memory.ts';
import { BLOCK_BYTES, type ByteStream, KIB } from '../common/bytes.ts';
import { Digest } from './digest.ts';
import { DigestStream } from './digest-thread.ts';

const sha256Of = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

/** Memory that a pipeline may give away. */
function lent(bytes: Uint8Array): Uint8Array {
  const block = allocateBlock(bytes.length);
  block.set(bytes);
  return block;
}

/** Blocks of every provenance, the first one long enough for the thread. */
function blocks(): readonly Uint8Array[] {
  const [shared = noise(0)] = shareBlock(lent(noise(400 * KIB)), 2);
  return [
    lent(noise(BLOCK_BYTES)),
    noise(500 * KIB).subarray(7, 400 * KIB),
    noise(0),
    Buffer.from('a small one lies in memory that others use as well'),
    shared,
    lent(noise(300 * KIB)).subarray(1),
    lent(noise(BLOCK_BYTES)),
  ];
}

async function* each(given: readonly Uint8Array[]): ByteStream {
  yield* given;
}

/** As a stage that has done with its blocks. */
async function* copied(stream: ByteStream): ByteStream {
  for await (const block of stream) {
    yield Buffer.from(block);
    releaseBlock(block);
  }
}

describe('digests that are made in a thread', () => {
  test('are those of all bytes, which pass in their order, wherever they lie', async () => {
    const given = blocks();
    const bytes = Buffer.concat(given);
    const digest = new Digest({ inThread: true });
    expect((await bytesOf(copied(digest.tap(each(given))))).equals(bytes)).toBe(true);
    expect({ bytes: digest.bytes, sha256: digest.sha256 }).toEqual({ bytes: bytes.length, sha256: sha256Of(bytes) });
  });

  test('of streams that pass at the same time do not mix', async () => {
    const streams = Array.from({ length: 5 }, () => ({ digest: new Digest({ inThread: true }), given: blocks() }));
    const expected = streams.map(({ given }) => sha256Of(Buffer.concat(given)));
    await Promise.all(streams.map(({ digest, given }) => bytesOf(digest.tap(each(given)))));
    expect(streams.map(({ digest }) => digest.sha256)).toEqual(expected);
  });

  test('are not known of a stream that is left or fails, which leaves its source', async () => {
    const left = new WatchedSource([lent(noise(BLOCK_BYTES)), noise(1), noise(1), noise(1), noise(1)]);
    const digest = new Digest({ inThread: true });
    for await (const _ of digest.tap(left)) break;
    expect(left.closed).toBe(true);
    expect(() => digest.sha256).toThrow('only when the stream has ended');
    const failure = new Error('the source failed');
    const failing = new Digest({ inThread: true });
    await expect(bytesOf(failing.tap(new WatchedSource([lent(noise(BLOCK_BYTES))], failure)))).rejects.toBe(failure);
    expect(() => failing.sha256).toThrow('only when the stream has ended');
  });

  test('of parts of blocks are told in their order, also of what is in several blocks, or empty', async () => {
    const first = noise(300);
    const second = noise(200);
    const told: string[] = [];
    using stream = new DigestStream();
    await Promise.all([
      stream.digestSpans(
        Uint8Array.from(first),
        [
          { from: 10, to: 100, isLast: true },
          { from: 0, to: 0, isLast: true },
          { from: 250, to: 300, isLast: false },
        ],
        (sha256) => told.push(sha256),
      ),
      stream.digestSpans(Uint8Array.from(second), [{ from: 0, to: 20, isLast: true }], (sha256) => told.push(sha256)),
    ]);
    const across = Buffer.concat([first.subarray(250), second.subarray(0, 20)]);
    expect(told).toEqual([sha256Of(first.subarray(10, 100)), sha256Of(noise(0)), sha256Of(across)]);
    expect(await stream.end()).toBeUndefined();
  });
});
