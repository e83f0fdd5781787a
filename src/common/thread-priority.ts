import { readdirSync, readFileSync } from 'node:fs';
import { getPriority, setPriority } from 'node:os';

/** Added to the nice value: such a thread gets a third of what another one gets that wants the same processor. */
const NICER_BY = 5;
const NICEST = 19;
/** As Linux tells it, of the threads of libuv's pool. */
const POOL_THREAD = 'libuv-worker';

let poolHasGivenWay = false;

/**
 * Lets the threads of libuv's pool give way to the main thread of this process, and to the database's where that is in the
 * same group of processes. What they compress waits for them in memory, while a server that is not read from stands still.
 * On Linux, where each thread has its own nice value; once for a process. A system that does not allow it is let be.
 */
export function letPoolGiveWay(): void {
  if (poolHasGivenWay || process.platform !== 'linux') return;
  try {
    const threads = readdirSync('/proc/self/task').map(Number);
    // libuv starts them all when it is given something to do for the first time.
    const pool = threads.filter((thread) => nameOf(thread) === POOL_THREAD);
    for (const thread of pool) giveWay(thread);
    poolHasGivenWay = pool.length > 0;
  } catch {
    poolHasGivenWay = true;
  }
}

/** The same for the thread that calls it, which is not the main one. */
export function letThisThreadGiveWay(): void {
  if (process.platform !== 'linux') return;
  try {
    giveWay(0);
  } catch {}
}

function giveWay(thread: number): void {
  setPriority(thread, Math.min(NICEST, getPriority(thread) + NICER_BY));
}

function nameOf(thread: number): string {
  try {
    return readFileSync(`/proc/self/task/${thread}/comm`, 'utf8').trim();
  } catch {
    // It has ended.
    return '';
  }
}
