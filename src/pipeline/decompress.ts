import { letPoolGiveWay } from '../common/thread-priority.ts';
import { type CompressOptions, defaultBlocksInFlightMax } from './compress.ts';
import type { CompressionAlgorithm } from './compression.ts';
import { gunzip } from './gunzip.ts';
import type { Transform } from './transform.ts';
import { unzstd } from './unzstd.ts';

/**
 * Decompresses what `compress` or any other tool wrote, in blocks of 1 MiB at the most. Truncated or damaged data, and
 * anything behind its end (but zeros after gzip), throws `corrupt` in place of the end; errors of the source pass as
 * they are. The one truncation that these formats cannot show is that exactly between two members or frames: the
 * recorded length and digest are there for it (`verifyDigest`).
 */
export function decompress(algorithm: CompressionAlgorithm, options: CompressOptions = {}): Transform {
  const blocksInFlightMax = options.blocksInFlightMax ?? defaultBlocksInFlightMax();
  if (algorithm !== 'none') letPoolGiveWay();
  switch (algorithm) {
    case 'none':
      return (source) => source;
    case 'gzip':
      return gunzip;
    case 'zstd':
      return (source) => unzstd(source, blocksInFlightMax);
    default:
      return algorithm satisfies never;
  }
}
