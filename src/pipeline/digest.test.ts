import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { bytesOf, chunksOf, noise, WatchedSource } from '../../test/support/streams.ts';
import type { ByteStream } from '../common/bytes.ts';
import { isPgarkError } from '../common/errors.ts';
import { Digest, verifyDigest } from './digest.ts';

const sha256Of = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
const lengths = fc.array(fc.integer({ min: 0, max: 20 }), { minLength: 1 });

/** What passed, and what was thrown in place of the end. */
async function outcome(stream: ByteStream): Promise<{ passed: Buffer; error: unknown }> {
  const blocks: Uint8Array[] = [];
  try {
    for await (const block of stream) blocks.push(block);
    return { passed: Buffer.concat(blocks), error: undefined };
  } catch (error) {
    return { passed: Buffer.concat(blocks), error };
  }
}

describe('Digest', () => {
  test('passes every byte and knows length and SHA-256 at the end', async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 200 }), lengths, async (bytes, cuts) => {
        const digest = new Digest();
        expect(await bytesOf(digest.tap(new WatchedSource(chunksOf(bytes, cuts))))).toEqual(Buffer.from(bytes));
        expect(digest.bytes).toBe(bytes.length);
        expect(digest.sha256).toBe(sha256Of(bytes));
      }),
    );
  });

  test('refuses to tell the SHA-256 of a stream that has not come to its end', async () => {
    const digest = new Digest();
    for await (const block of digest.tap(new WatchedSource([noise(5), noise(5)]))) {
      expect(digest.bytes).toBe(block.length);
      expect(() => digest.sha256).toThrow('only when the stream has ended');
      break;
    }
    expect(() => digest.sha256).toThrow('only when the stream has ended');
  });

  test('refuses to tell the SHA-256 of a stream that failed, and passes the error unchanged', async () => {
    const digest = new Digest();
    const failure = new Error('the source failed');
    await expect(bytesOf(digest.tap(new WatchedSource([noise(5)], failure)))).rejects.toBe(failure);
    expect(() => digest.sha256).toThrow('only when the stream has ended');
  });

  test('refuses a second stream', () => {
    const digest = new Digest();
    digest.tap(new WatchedSource([]));
    expect(() => digest.tap(new WatchedSource([]))).toThrow('one stream');
  });
});

describe('verifyDigest', () => {
  const bytes = noise(1000);
  const expected = { bytes: bytes.length, sha256: sha256Of(bytes) };

  test('passes the expected stream, whatever its chunks', async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 200 }), lengths, async (content, cuts) => {
        const verify = verifyDigest({ bytes: content.length, sha256: sha256Of(content) }, 'the object');
        expect(await bytesOf(verify(new WatchedSource(chunksOf(content, cuts))))).toEqual(Buffer.from(content));
      }),
    );
  });

  test('loses no block when empty chunks come before, between and behind', async () => {
    const chunks = [noise(0), bytes.subarray(0, 500), noise(0), bytes.subarray(500), noise(0)];
    expect(await bytesOf(verifyDigest(expected, 'the object')(new WatchedSource(chunks)))).toEqual(bytes);
  });

  test('never lets all bytes of another stream pass, nor its end', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.uint8Array({ maxLength: 100 }),
        fc.uint8Array({ maxLength: 100 }),
        lengths,
        async (a, b, cuts) => {
          fc.pre(!Buffer.from(a).equals(b));
          const verify = verifyDigest({ bytes: a.length, sha256: sha256Of(a) }, 'the object');
          const { passed, error } = await outcome(verify(new WatchedSource(chunksOf(b, cuts))));
          expect(isPgarkError(error, 'corrupt')).toBe(true);
          expect(passed.length === 0 || passed.length < a.length).toBe(true);
        },
      ),
    );
  });

  test('throws before the last block when one bit differs', async () => {
    const changed = Buffer.from(bytes);
    changed[3] = (changed[3] ?? 0) ^ 1;
    const verify = verifyDigest(expected, 'the object a.sql.gz');
    const { passed, error } = await outcome(verify(new WatchedSource(chunksOf(changed, [100]))));
    expect(passed.length).toBe(900);
    expect(error).toMatchObject({
      code: 'corrupt',
      message: expect.stringMatching(/^the object a\.sql\.gz is damaged/),
    });
  });

  test('says that a short stream is truncated, and by how much', async () => {
    const source = new WatchedSource(chunksOf(bytes.subarray(0, 999), [100]));
    const { error } = await outcome(verifyDigest(expected, 'the object a.sql.gz')(source));
    expect(error).toMatchObject({
      code: 'corrupt',
      message: 'the object a.sql.gz is truncated: 999 bytes of the 1000 recorded for it',
    });
  });

  test('stops a longer stream as soon as it is too long, before the block that would complete it has passed', async () => {
    const source = new WatchedSource(chunksOf(Buffer.concat([bytes, noise(5000)]), [100]));
    const { passed, error } = await outcome(verifyDigest(expected, 'the object')(source));
    expect(isPgarkError(error, 'corrupt')).toBe(true);
    expect(passed.length).toBe(900);
    expect(source).toMatchObject({ closed: true, chunksRead: 11 });
  });

  test('compares the length alone where no digest is expected', async () => {
    const verify = (chunks: Uint8Array[]) =>
      outcome(verifyDigest({ bytes: bytes.length }, 'the content of base.tar')(new WatchedSource(chunks)));
    expect(await verify([...chunksOf(bytes, [100])])).toEqual({ passed: bytes, error: undefined });
    expect(await verify([noise(1000)])).toMatchObject({ error: undefined });
    for (const [length, word] of [
      [999, 'truncated'],
      [1001, 'longer'],
    ] as const) {
      const { passed, error } = await verify([noise(length)]);
      expect(error).toMatchObject({ code: 'corrupt', message: expect.stringContaining(word) });
      expect(passed.length).toBeLessThan(bytes.length);
    }
  });

  test('passes an error of the source unchanged, also one behind the last byte', async () => {
    const failure = new Error('the connection was lost');
    const { passed, error } = await outcome(verifyDigest(expected, 'the object')(new WatchedSource([bytes], failure)));
    expect(error).toBe(failure);
    expect(passed.length).toBe(0);
  });

  test('closes the source when the consumer leaves early', async () => {
    const source = new WatchedSource(chunksOf(bytes, [100]));
    for await (const block of verifyDigest(expected, 'the object')(source)) if (block.length > 0) break;
    expect(source.closed).toBe(true);
  });
});
