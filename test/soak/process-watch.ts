import { readdir, readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

const POLL_MS = 20;

/** What a process came to, as the kernel counts it. */
export interface ProcessUse {
  /** The most memory that it had at any time. */
  readonly peakBytes: number;
  /** Sent to block devices by it and those of its children that have ended; not what lies in memory alone. */
  readonly writtenBytes: number;
  /** The most that lay in the watched folder. */
  readonly folderBytes: number;
}

/** Looks at a process, and at a folder, until the process is gone. */
export async function watchProcess(pid: number, folder: string): Promise<ProcessUse> {
  let use: ProcessUse = { peakBytes: 0, writtenBytes: 0, folderBytes: 0 };
  for (;;) {
    const [status, io] = await Promise.all(
      ['status', 'io'].map((name) => readFile(`/proc/${pid}/${name}`, 'utf8').catch(() => '')),
    );
    const peakKib = /^VmHWM:\s+(\d+) kB$/mu.exec(status ?? '')?.[1];
    if (peakKib === undefined) return use;
    const written = Number(/^write_bytes: (\d+)$/mu.exec(io ?? '')?.[1] ?? '0');
    use = {
      peakBytes: Number(peakKib) * 1024,
      writtenBytes: Math.max(use.writtenBytes, written),
      folderBytes: Math.max(use.folderBytes, await bytesBelow(folder)),
    };
    await delay(POLL_MS);
  }
}

async function bytesBelow(folder: string): Promise<number> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => []);
  const sizes = await Promise.all(
    entries
      .filter((entry) => entry.isFile())
      .map(async (entry) => (await stat(path.join(entry.parentPath, entry.name)).catch(() => ({ size: 0 }))).size),
  );
  return sizes.reduce((sum, size) => sum + size, 0);
}
