import { COMPRESSION_LEVELS, type CompressionAlgorithm } from '../common/compression-levels.ts';
import { PgarkError } from '../common/errors.ts';

export type { CompressionAlgorithm };

export interface Compression {
  readonly algorithm: CompressionAlgorithm;
  /** gzip 1 to 9, zstd 1 to 19 (higher ones need far more memory to read); 0 with `none`. */
  readonly level: number;
}

const suffixes: Readonly<Record<CompressionAlgorithm, string>> = { gzip: '.gz', zstd: '.zst', none: '' };

export function defaultLevel(algorithm: CompressionAlgorithm): number {
  return COMPRESSION_LEVELS[algorithm].default;
}

/** `.gz`, `.zst` or nothing: what stock tools expect at the end of a file's name. */
export function compressionSuffix(algorithm: CompressionAlgorithm): string {
  return suffixes[algorithm];
}

/**
 * The algorithm with a level that it has, the default one where none is given. Throws `config-invalid` for a level out
 * of range; `none` takes any level and ignores it, so that switching compression off needs only one setting.
 */
export function compressionOf(algorithm: CompressionAlgorithm, level?: number): Compression {
  const levels = COMPRESSION_LEVELS[algorithm];
  if (level === undefined || algorithm === 'none') return { algorithm, level: levels.default };
  if (!Number.isInteger(level) || level < levels.min || level > levels.max) {
    throw new PgarkError('config-invalid', `${algorithm} has no compression level ${level}`, {
      hint: `use a whole number from ${levels.min} to ${levels.max}; ${levels.default} is the default`,
    });
  }
  return { algorithm, level };
}

/** As many bytes of an object's beginning as `detectCompression` looks at. */
const DETECT_BYTES = 4;

/**
 * Tells by the first bytes how an object that pgark did not write is compressed: gzip's magic and its one method
 * (RFC 1952, 2.3.1), zstd's magic or that of a skippable frame in front (RFC 8878, 3.1). Anything else is `none`.
 */
export function detectCompression(firstBytes: Uint8Array): CompressionAlgorithm {
  if (firstBytes[0] === 0x1f && firstBytes[1] === 0x8b && firstBytes[2] === 8) return 'gzip';
  if (firstBytes.length < DETECT_BYTES) return 'none';
  const magic = new DataView(firstBytes.buffer, firstBytes.byteOffset, DETECT_BYTES).getUint32(0, true);
  return isZstdMagic(magic) || isSkippableMagic(magic) ? 'zstd' : 'none';
}

export function isZstdMagic(magic: number): boolean {
  return magic === 0xfd2fb528;
}

export function isSkippableMagic(magic: number): boolean {
  return magic >= 0x184d2a50 && magic <= 0x184d2a5f;
}
