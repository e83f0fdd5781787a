import type { ByteStream } from '../common/bytes.ts';

/** The first bytes of a stream, at most `count`, and a stream that still has all of it. */
export async function peek(
  source: ByteStream,
  count: number,
): Promise<{ readonly first: Uint8Array; readonly stream: ByteStream }> {
  const iterator = source[Symbol.asyncIterator]();
  const blocks: Uint8Array[] = [];
  let bytes = 0;
  let ended = false;
  while (bytes < count && !ended) {
    const next = await iterator.next();
    if (next.done) ended = true;
    else {
      blocks.push(next.value);
      bytes += next.value.length;
    }
  }
  const first = Buffer.concat(blocks).subarray(0, count);
  async function* whole(): ByteStream {
    let finished = ended;
    try {
      yield* blocks;
      while (!finished) {
        const next = await iterator.next();
        if (next.done) finished = true;
        else yield next.value;
      }
    } catch (error) {
      finished = true;
      throw error;
    } finally {
      if (!finished) await iterator.return?.();
    }
  }
  return { first, stream: whole() };
}
