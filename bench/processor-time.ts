import { readdir, readFile } from 'node:fs/promises';

/** Ticks of `/proc/PID/stat` in a second: USER_HZ, which is 100 on every machine that Node.js runs on. */
const TICKS_PER_SECOND = 100;

interface ProcessTimes {
  readonly parent: number;
  /** User and system time of the process itself. */
  readonly ownS: number;
  /** The same of its children that have ended. */
  readonly endedChildrenS: number;
}

/** User and system time in seconds that a process has used up to now. */
export async function processorTimeOf(pid: number): Promise<number> {
  return (await timesOf(pid))?.ownS ?? 0;
}

/** The same of a process and all its children, those that have ended as well: of a PostgreSQL server by its first process. */
export async function familyTimeOf(pid: number): Promise<number> {
  for (;;) {
    const before = await timesOf(pid);
    let sum = before === undefined ? 0 : before.ownS + before.endedChildrenS;
    for (const name of await readdir('/proc')) {
      if (!/^\d+$/.test(name)) continue;
      const times = await timesOf(Number(name));
      if (times?.parent === pid) sum += times.ownS;
    }
    // A child that has ended meanwhile is counted twice, or not at all.
    if ((await timesOf(pid))?.endedChildrenS === before?.endedChildrenS) return sum;
  }
}

/** Fields of proc_pid_stat(5), counted behind the name, which may hold anything: 1 is the parent, 11 to 14 are times. */
async function timesOf(pid: number): Promise<ProcessTimes | undefined> {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => undefined);
  if (text === undefined) return undefined;
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  const seconds = (index: number): number => Number(fields[index]) / TICKS_PER_SECOND;
  return {
    parent: Number(fields[1]),
    ownS: seconds(11) + seconds(12),
    endedChildrenS: seconds(13) + seconds(14),
  };
}
