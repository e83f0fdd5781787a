import { isPgarkError, PgarkError, messageOf, systemCodeOf } from '../common/errors.ts';
import type { Transform } from './transform.ts';

type Format = 'gzip' | 'zstd';

export function truncated(format: Format): PgarkError {
  return new PgarkError('corrupt', `the ${format} data is truncated: it ends before its own end mark`);
}

export function damaged(format: Format, why: string, cause?: unknown): PgarkError {
  return new PgarkError('corrupt', `the ${format} data is damaged: ${why}`, cause === undefined ? {} : { cause });
}

/**
 * What zlib or zstd said of their input, as `corrupt`. Errors that do not speak of the input, such as a lack of memory,
 * stay as they are: they must not make anybody throw a good backup away.
 */
export function asCorrupt(format: Format, error: unknown): unknown {
  const code = systemCodeOf(error) ?? '';
  if (code === 'Z_BUF_ERROR') return truncated(format);
  const speaksOfInput =
    code === 'Z_DATA_ERROR' ||
    code === 'Z_NEED_DICT' ||
    // A frame holds more than it claims: the output was limited to that.
    code === 'ERR_BUFFER_TOO_LARGE' ||
    code.startsWith('ZSTD_error_');
  if (!speaksOfInput || code === 'ZSTD_error_memory_allocation') return error;
  return damaged(format, messageOf(error), error);
}

/** What there is to say of an object, and not of pgark or its machine. */
const SPEAKS_OF_OBJECT = ['corrupt', 'wrong-key', 'key-missing'] as const;

/**
 * The stage that `make` gives, but that what it and its making find wrong with their object is said of it by name: a stage
 * knows only its bytes.
 */
export function namingObject(name: string, make: () => Transform): Transform {
  const withName = (error: unknown): unknown => {
    if (!isPgarkError(error) || error.message.includes(name)) return error;
    const { code, message, hint } = error;
    if (!SPEAKS_OF_OBJECT.some((each) => each === code)) return error;
    return new PgarkError(code, `${name}: ${message}`, { hint, cause: error });
  };
  let stage: Transform;
  try {
    stage = make();
  } catch (error) {
    throw withName(error);
  }
  return async function* named(source) {
    try {
      yield* stage(source);
    } catch (error) {
      throw withName(error);
    }
  };
}
