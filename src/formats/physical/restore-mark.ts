import { randomBytes } from 'node:crypto';
import { readdir, readFile, readlink, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { PgarkError, systemCodeOf } from '../../common/errors.ts';

/** Stands in a folder that is being filled, so that nobody else fills it, and what a killed restore leaves can be told. */
const MARK = '.pgark-restoring';
const NOTE = 'pgark restores into this directory; after a restore that was killed all of it can be removed\n';

/** Without this file no server starts on a data directory. */
const CONTROL_FILE = 'global/pg_control';
/** Its name until all else is there: a mark too, and the last one that goes. */
const CONTROL_FILE_UNTIL_THEN = 'global/pg_control.pgark-restoring';

/** What of a data directory has another name until the restore is finished, and which. */
export const WITHHELD: ReadonlyMap<string, string> = new Map([[CONTROL_FILE, CONTROL_FILE_UNTIL_THEN]]);

/** Whether a name is one of a mark: that of a restore, or of one that takes over what another has left. */
function isMark(name: string): boolean {
  return name === MARK || name.startsWith(`${MARK}.`);
}

/** Puts the mark into an empty folder; resolves with its name. Error: `target-not-empty`; the system's `EEXIST` where somebody was faster. */
export async function putMark(folder: string): Promise<string> {
  await writeMark(folder, MARK);
  // Another may have been done between the look and the mark.
  if ((await readdir(folder)).every(isMark)) return MARK;
  await rm(path.join(folder, MARK), { force: true });
  throw notEmpty(folder);
}

/**
 * Error: `target-not-empty` for a folder that is not empty, unless it holds an unfinished restore whose process is not known to
 * live, and it `isAsked` to replace that.
 */
export async function checkReplaceable(folder: string, isAsked: boolean): Promise<void> {
  const traces = await tracesIn(folder);
  if (traces.length === 0) throw notEmpty(folder);
  for (const trace of traces) {
    if (isMark(trace) && (await isOfLiving(path.join(folder, trace)))) throw beingFilled(folder);
  }
  if (isAsked) return;
  throw new PgarkError(
    'target-not-empty',
    `the directory ${folder} holds an unfinished restore, which was killed, or still runs on another machine or in another container`,
    {
      hint: 'if none runs into it, repeat the command with --replace-unfinished, which removes all that is in it; or name another directory; no server starts on this one',
    },
  );
}

/**
 * Makes what an unfinished restore has left one's own: the folder is empty then but for a mark, whose name this resolves with. Of
 * several that want that at once, one gets it at the most. Error: `target-not-empty`.
 */
export async function takeOver(folder: string): Promise<string> {
  await checkReplaceable(folder, true);
  const before = await tracesIn(folder);
  const own = `${MARK}.${randomBytes(6).toString('hex')}`;
  await writeMark(folder, own);
  // Announced first, then looked: of two, one at least sees the other, or that it is done.
  const others = (await tracesIn(folder)).filter((trace) => trace !== own);
  if (others.length === 0 || others.some((trace) => !before.includes(trace))) {
    await rm(path.join(folder, own), { force: true });
    throw beingFilled(folder);
  }
  await emptyFolder(folder, own);
  return own;
}

/** Removes all that a folder holds but for one file. The marks come last, so that what is cut off can still be told. */
export async function emptyFolder(folder: string, but?: string): Promise<void> {
  const names = (await readdir(folder)).filter((name) => name !== but);
  const remove = async (some: readonly string[]): Promise<void> => {
    const removals = some.map(async (name) => rm(path.join(folder, name), { recursive: true, force: true }));
    for (const removal of await Promise.allSettled(removals)) if (removal.status === 'rejected') throw removal.reason;
  };
  await remove(names.filter((name) => !isMark(name)));
  await remove(names.filter(isMark));
}

export function beingFilled(folder: string): PgarkError {
  return new PgarkError('target-not-empty', `the directory ${folder} is being filled by another restore`, {
    hint: 'name another directory, or wait until that restore has ended; if none runs, remove the directory with all that is in it',
  });
}

function notEmpty(folder: string): PgarkError {
  return new PgarkError('target-not-empty', `the directory ${folder} is not empty`, {
    hint: 'name one that is empty, or that does not exist yet; a running server’s files are never written over',
  });
}

/** By what an unfinished restore is told, as paths in the folder. */
async function tracesIn(folder: string): Promise<readonly string[]> {
  const marks = (await readdir(folder)).filter(isMark);
  const { dir, base } = path.parse(CONTROL_FILE_UNTIL_THEN);
  const inside = await readdir(path.join(folder, dir)).catch((): string[] => []);
  return inside.includes(base) ? [...marks, CONTROL_FILE_UNTIL_THEN] : marks;
}

/** Who fills a folder. */
interface Filler {
  /** Of each start of a machine another one; containers on it share it. */
  readonly boot: string;
  /** Within which numbers of processes have a meaning. */
  readonly namespace: string;
  readonly pid: number;
  /** Of the process, in the system's own count: numbers of processes are given again. */
  readonly startedAt: string;
}

async function writeMark(folder: string, name: string): Promise<void> {
  const filler = await fillerOf(process.pid).catch(() => undefined);
  const content = NOTE + (filler === undefined ? '' : `${JSON.stringify(filler)}\n`);
  const mark = path.join(folder, name);
  try {
    await writeFile(mark, content, { flag: 'wx' });
  } catch (error) {
    if (systemCodeOf(error) !== 'EEXIST') await rm(mark, { force: true });
    throw error;
  }
}

/** Rejects where there is no such process, or the system does not tell (proc_pid_stat(5)). */
async function fillerOf(pid: number): Promise<Filler> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
  // The name of the program may hold anything, and ends with the last bracket.
  const [state, ...fields] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  if (state === 'Z') throw new Error('it has ended, and its parent has not asked yet');
  const boot = (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim();
  return { boot, namespace: await readlink('/proc/self/ns/pid'), pid, startedAt: fields[18] ?? '' };
}

/** Whether who put a mark lives for certain; one of another machine or container may live as well, and nobody knows. */
async function isOfLiving(mark: string): Promise<boolean> {
  let text: string;
  try {
    text = await readFile(mark, 'utf8');
  } catch (error) {
    if (systemCodeOf(error) === 'ENOENT') return false;
    throw error;
  }
  // It is there for a moment before anything is in it.
  if (!text.startsWith(NOTE)) return true;
  try {
    const filler = JSON.parse(text.slice(NOTE.length)) as Filler;
    return JSON.stringify(await fillerOf(filler.pid)) === JSON.stringify(filler);
  } catch {
    return false;
  }
}
