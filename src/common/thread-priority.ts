import { readdirSync, readFileSync } from 'node:fs';
import { getPriority, setPriority } from 'node:os';

/** Added to the nice value: such a thread gets a third of what another one gets that wants the same processor. */
const NICER_BY = 5;
const NICEST = 19;
/** As Linux tells it, of the threads of libuv's pool. */
const POOL_THREAD = 'libuv-worker';
/** A pool may not have begun yet, or have threads of another name. */
const TRIES_MAX = 3;

/** None until the process is known to be pgark's own: no other thread of it could take back what is given away here. */
let triesLeft = 0;

/** Allows `letPoolGiveWay` to change threads of this process, which all of it uses. */
export function poolMayGiveWay(): void {
  triesLeft = process.platform === 'linux' ? TRIES_MAX : 0;
}

/**
 * Lets the threads of libuv's pool give way to the main thread of this process, and to the database's where that is in the
 * same group of processes. What they compress waits for them in memory, while a server that is not read from stands still.
 * Once for a process, on Linux, where each thread has its own nice value; a system that does not allow it is let be.
 */
export function letPoolGiveWay(): void {
  if (triesLeft === 0) return;
  triesLeft -= 1;
  try {
    const threads = readdirSync('/proc/self/task').map(Number);
    // libuv starts them all when it is given something to do for the first time.
    const pool = threads.filter((thread) => nameOf(thread) === POOL_THREAD);
    for (const thread of pool) giveWay(thread);
    if (pool.length > 0) triesLeft = 0;
  } catch {
    triesLeft = 0;
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
