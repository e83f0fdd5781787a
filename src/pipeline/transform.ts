import type { ByteStream } from '../common/bytes.ts';

/**
 * One stage of a pipeline. Ownership and end of stream are those of `ByteStream`; a stage that is left early (its
 * consumer stops iterating) ends its source's iteration too.
 */
export type Transform = (source: ByteStream) => ByteStream;

/** Applies stages in order: `pipe(source, digest, compress, encrypt)`. */
export function pipe(source: ByteStream, ...stages: readonly Transform[]): ByteStream {
  return stages.reduce((stream, stage) => stage(stream), source);
}
