import type { ErrorCode } from '../../common/error-table.ts';
import { messageOf, PgarkError, systemCodeOf } from '../../common/errors.ts';

interface Meaning {
  readonly code: ErrorCode;
  readonly why: string;
  readonly hint?: string;
}

const denied: Meaning = {
  code: 'store-access-denied',
  why: 'the operating system does not allow it',
  hint: 'give the user that pgark runs as the right to read and write the directory and all that is in it',
};
const full: Meaning = { code: 'store-full', why: 'there is no room left on its file system' };
const gone: Meaning = {
  code: 'store-unreachable',
  why: 'the device or the server that the directory lies on does not answer',
  hint: 'check the disk or the mount (dmesg, mount), then run the command again',
};
const openFiles: Meaning = {
  code: 'store-failed',
  why: 'too many files are open',
  hint: 'raise the limit of open files (ulimit -n)',
};

/** errno(3) of the calls that the file store makes. */
const meanings: Readonly<Record<string, Meaning>> = {
  EACCES: denied,
  EPERM: denied,
  EROFS: {
    code: 'store-access-denied',
    why: 'its file system is mounted read-only',
    hint: 'mount it for writing; a disk that failed is often made read-only by the system (dmesg)',
  },
  ENOSPC: full,
  EDQUOT: { ...full, why: 'the disk quota is used up' },
  EFBIG: {
    code: 'store-failed',
    why: 'the file would be larger than the file system or a limit (ulimit -f) allows',
    hint: 'use a file system that keeps large files; FAT keeps at most 4 GiB',
  },
  ENAMETOOLONG: {
    code: 'object-key-invalid',
    why: 'the name is longer than the file system allows',
    hint: 'shorten the source’s name or the file name template; most file systems allow 255 bytes between slashes',
  },
  EIO: gone,
  ESTALE: gone,
  ENODEV: gone,
  ENXIO: gone,
  ENOTCONN: gone,
  ETIMEDOUT: gone,
  EHOSTDOWN: gone,
  EHOSTUNREACH: gone,
  ECONNRESET: gone,
  EMFILE: openFiles,
  ENFILE: openFiles,
  EXDEV: {
    code: 'store-unsupported',
    why: 'another file system is mounted inside the directory',
    hint: 'keep the whole storage directory on one file system',
  },
};

/**
 * The error of a system call as a PgarkError: `cannot write the object "x": there is no room left on its file system
 * (ENOSPC)`. What is none (an abort's reason, an error of pgark's own) is given back as it is.
 */
export function fileError(error: unknown, doing: string): unknown {
  if (error instanceof PgarkError) return error;
  const code = systemCodeOf(error);
  if (code === undefined || !/^E[A-Z0-9]+$/.test(code)) return error;
  const { code: kind, why, hint } = meanings[code] ?? { code: 'store-failed' as const, why: messageOf(error) };
  return new PgarkError(kind, `cannot ${doing}: ${why} (${code})`, {
    cause: error,
    ...(hint === undefined ? {} : { hint }),
  });
}

/**
 * Runs calls of the file system so that no raw error leaves them; `doing` completes the sentence `cannot …`. What fails
 * after an abort rejects with the signal's reason.
 */
export async function io<T>(doing: string, call: () => Promise<T>, signal?: AbortSignal): Promise<T> {
  try {
    return await call();
  } catch (error) {
    signal?.throwIfAborted();
    throw fileError(error, doing);
  }
}

/** What the call gives, or undefined where it fails with one of the codes. Other errors are passed on as they are. */
export async function unless<T>(codes: readonly string[], call: () => Promise<T>): Promise<T | undefined> {
  try {
    return await call();
  } catch (error) {
    if (codes.includes(systemCodeOf(error) ?? '')) return undefined;
    throw error;
  }
}

/** Codes that say: there is no such file, since a part of its path is missing, is a file or a symbolic link. */
export const ABSENT = ['ENOENT', 'ENOTDIR', 'ELOOP'] as const;
