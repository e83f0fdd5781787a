import { readFile } from 'node:fs/promises';

/** What a process takes, as Linux tells it. */
export interface ProcessUsage {
  /** Resident memory now (VmRSS). */
  readonly rssBytes: number;
  /** The most that it was (VmHWM). */
  readonly peakRssBytes: number;
  /** User and system time since its start; without its children. */
  readonly cpuMs: number;
}

/** Ticks of `/proc/PID/stat` in a second: USER_HZ, the same on all of Linux. */
const TICKS_PER_SECOND = 100;

/** Rejects if there is no such process. */
export async function processUsage(pid: number): Promise<ProcessUsage> {
  const [status, stat] = await Promise.all([
    readFile(`/proc/${pid}/status`, 'utf8'),
    readFile(`/proc/${pid}/stat`, 'utf8'),
  ]);
  const kibibytes = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(status)?.[1]);
  // The fields after the name, which may hold blanks and brackets: the first of them is the third of all.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const ticks = Number(fields[14 - 3]) + Number(fields[15 - 3]);
  return {
    rssBytes: kibibytes('VmRSS') * 1024,
    peakRssBytes: kibibytes('VmHWM') * 1024,
    cpuMs: (ticks / TICKS_PER_SECOND) * 1_000,
  };
}
