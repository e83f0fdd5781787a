import { chmodSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statfsSync } from 'node:fs';
import path from 'node:path';

const SHARED_MEMORY = '/dev/shm';
const NAME = /^pgark-tests-(\d+)-/;
const TMPFS = 0x01021994;
const GIB = 2 ** 30;
/** What all tests together write, with room to spare, and what is left for everything else. */
const ROOM_BYTES = 6 * GIB;
const AVAILABLE_BYTES = 12 * GIB;

/**
 * Runs something with a directory for temporary files that lies in memory, where there is enough of it and TMPDIR names no other:
 * servers of tests make and remove thousands of files, which takes a disk's file system as long as all else that they do. The
 * directory is removed in the end, and so are those of processes that were killed.
 *
 * @template T
 * @param {(env: Record<string, string>) => Promise<T>} work
 * @returns {Promise<T>}
 */
export async function withMemoryDirectory(work) {
  if (!hasRoom()) return work({});
  removeLeftOnes();
  const directory = mkdtempSync(path.join(SHARED_MEMORY, `pgark-tests-${process.pid}-`));
  // Servers run by an account of their own, and find their folders within.
  chmodSync(directory, 0o1777);
  try {
    return await work({ TMPDIR: directory });
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

function hasRoom() {
  if (process.env.TMPDIR || !existsSync(SHARED_MEMORY)) return false;
  const { type, bavail, bsize } = statfsSync(SHARED_MEMORY);
  const mount = readFileSync('/proc/mounts', 'utf8')
    .match(/^\S+ \/dev\/shm \S+ (\S+)/m)?.[1]
    .split(',') ?? ['noexec'];
  const availableKib = Number(readFileSync('/proc/meminfo', 'utf8').match(/^MemAvailable:\s*(\d+)/m)?.[1] ?? 0);
  return (
    type === TMPFS &&
    !mount.includes('noexec') &&
    bavail * bsize >= ROOM_BYTES &&
    availableKib * 1024 >= AVAILABLE_BYTES
  );
}

function removeLeftOnes() {
  for (const name of readdirSync(SHARED_MEMORY)) {
    const pid = NAME.exec(name)?.[1];
    if (pid !== undefined && !existsSync(`/proc/${pid}`)) {
      rmSync(path.join(SHARED_MEMORY, name), { recursive: true, force: true });
    }
  }
}
