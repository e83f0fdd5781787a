import { COMPRESSION_LEVELS } from '../common/compression-levels.ts';
import type { CompressionConfig, JobConfig } from './model.ts';

/** What a job has that says nothing of it: plain dumps are for the tools that everybody has. */
export function defaultCompression(format: JobConfig['format']): CompressionConfig {
  const algorithm = format === 'plain' ? 'gzip' : 'zstd';
  return { algorithm, level: COMPRESSION_LEVELS[algorithm].default };
}
