import { finished, type Readable } from 'node:stream';

/** Bytes that wait for the consumer before the stream is held up. */
const AHEAD_BYTES_MAX = 256 * 1024;

/**
 * The chunks of a stream of bytes, each as it was read. Iterating the stream itself gives all that has come by now as one
 * chunk: a copy, beside which the chunks that it was made of are left to the garbage collector. Throws what the stream does, and
 * `ERR_STREAM_PREMATURE_CLOSE` if it closes before its end. It is destroyed in the end.
 */
export async function* chunksOf(stream: Readable): AsyncGenerator<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let waitingBytes = 0;
  let over: { readonly error: unknown } | undefined;
  let wake: () => void = () => undefined;
  const stopWatching = finished(stream, { writable: false }, (error) => {
    over = { error };
    wake();
  });
  const take = (chunk: Uint8Array): void => {
    chunks.push(chunk);
    waitingBytes += chunk.length;
    if (waitingBytes >= AHEAD_BYTES_MAX) stream.pause();
    wake();
  };
  stream.on('data', take);
  try {
    for (;;) {
      const chunk = chunks.shift();
      if (chunk !== undefined) {
        waitingBytes -= chunk.length;
        yield chunk;
      } else if (over !== undefined) {
        if (over.error !== undefined && over.error !== null) throw over.error;
        return;
      } else {
        const woken = new Promise<void>((resolve) => {
          wake = resolve;
        });
        if (stream.isPaused()) stream.resume();
        await woken;
      }
    }
  } finally {
    stream.off('data', take);
    stopWatching();
    stream.destroy();
  }
}
