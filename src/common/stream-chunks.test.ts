import { PassThrough, Readable } from 'node:stream';
import { expect, test } from 'vitest';
import { KIB, MIB } from './bytes.ts';
import { chunksOf } from './stream-chunks.ts';

/** A stream that gives chunks of 64 KiB as fast as they are taken, and counts them. */
function endless(): { readonly stream: Readable; readonly given: () => number } {
  let given = 0;
  const stream = new Readable({
    read() {
      given += 1;
      this.push(Buffer.alloc(64 * KIB, given));
    },
  });
  return { stream, given: () => given };
}

test('chunks come as they were read, although several wait', async () => {
  const stream = new PassThrough({ highWaterMark: MIB });
  const written = ['one', 'two', 'three'].map((text) => Buffer.from(text));
  for (const chunk of written) stream.write(chunk);
  stream.end();
  const read: Uint8Array[] = [];
  for await (const chunk of chunksOf(stream)) read.push(chunk);
  expect(read).toEqual(written);
});

test('a stream is held up while its chunks are not taken', async () => {
  const { stream, given } = endless();
  const chunks = chunksOf(stream);
  await chunks.next();
  await new Promise(setImmediate);
  const before = given();
  expect(before * 64 * KIB).toBeLessThanOrEqual(512 * KIB);
  await new Promise(setImmediate);
  expect(given()).toBe(before);
  for (let taken = 0; taken < 20; taken += 1) await chunks.next();
  expect(given()).toBeGreaterThan(20);
  await chunks.return(undefined);
  expect(stream.destroyed).toBe(true);
});

test('what came before a failure is given first', async () => {
  const stream = new PassThrough();
  stream.write('some');
  const chunks = chunksOf(stream);
  expect((await chunks.next()).value).toEqual(Buffer.from('some'));
  const next = chunks.next();
  stream.destroy(new Error('the cable was cut'));
  await expect(next).rejects.toThrow('the cable was cut');
});

test('a stream that failed before it was read throws its error', async () => {
  const stream = new PassThrough();
  stream.on('error', () => {});
  stream.destroy(new Error('too late'));
  await new Promise((resolve) => stream.once('close', resolve));
  await expect(chunksOf(stream).next()).rejects.toThrow('too late');
});

test('a stream that closes before its end is no whole one', async () => {
  const stream = new PassThrough();
  stream.write('some');
  const chunks = chunksOf(stream);
  await chunks.next();
  const next = chunks.next();
  stream.destroy();
  await expect(next).rejects.toMatchObject({ code: 'ERR_STREAM_PREMATURE_CLOSE' });
});
