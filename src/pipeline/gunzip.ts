import { type ByteStream, KIB } from '../common/bytes.ts';
import { reblock } from './blocks.ts';
import { damaged, truncated } from './corrupt.ts';
import { ZlibEngine } from './zlib-engine.ts';

/** Small chunks, as sockets give them, would cost a turn through the thread pool each. */
const INPUT_BYTES = 256 * KIB;

/**
 * Decompresses gzip members one after another, of any length (RFC 1952, 2.2), and checks each one's CRC and length.
 * Zeros after the last member are ignored, as gunzip does (tapes pad their blocks so); anything else there, and an end
 * inside a member or before the first, is `corrupt`. Memory: one block of input and one of output.
 */
export async function* gunzip(source: ByteStream): AsyncGenerator<Uint8Array> {
  const engine = new ZlibEngine('gzip');
  try {
    let bytesBefore = 0;
    for await (const chunk of reblock(INPUT_BYTES)(source)) {
      if (engine.bytesConsumed === bytesBefore) yield* engine.write(chunk);
      // zlib stops for good at a zero where a member could begin; bytes that it did not want must all be zero.
      const padding = chunk.subarray(Math.max(0, engine.bytesConsumed - bytesBefore));
      if (padding.some((byte) => byte !== 0)) throw damaged('gzip', 'other bytes follow its end');
      bytesBefore += chunk.length;
    }
    // Without a single write, the library has nothing to complain about in some of its versions.
    if (bytesBefore === 0) throw truncated('gzip');
    yield* engine.end();
  } finally {
    engine.destroy();
  }
}
