export type CompressionAlgorithm = 'gzip' | 'zstd' | 'none';

export interface CompressionLevels {
  readonly min: number;
  readonly max: number;
  readonly default: number;
}

/**
 * The levels of each algorithm. The defaults are those beyond which SQL text, in blocks of 1 MiB, hardly gets smaller
 * (adr/0014). zstd has three more, which need far more memory to read.
 */
export const COMPRESSION_LEVELS: Readonly<Record<CompressionAlgorithm, CompressionLevels>> = {
  gzip: { min: 1, max: 9, default: 5 },
  zstd: { min: 1, max: 19, default: 2 },
  none: { min: 0, max: 0, default: 0 },
};
