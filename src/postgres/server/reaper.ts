import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import { lstat } from 'node:fs/promises';
import type { Writable } from 'node:stream';
import { PgarkError } from '../../common/errors.ts';

/**
 * What runs when this process is gone: waits for the end of its input, which comes with the end of this process however
 * that happens (SIGKILL included), then ends the processes whose numbers the files hold and removes the directory. A line
 * of input means that all is done already. Arguments: SIGNAL DIRECTORY INODE PIDFILE…
 */
const REAPER = `
trap '' HUP INT TERM
read -r word && exit 0
signal=$1 directory=$2 inode=$3
shift 3
# A number left behind by a process that ended on its own may by now be somebody else's: ours work in the directory, and
# what has ended but was not waited for works nowhere.
ours() {
  [ -d /proc/self ] || return 0
  case $(readlink "/proc/$1/cwd" 2>/dev/null) in "$directory" | "$directory"/*) ;; *) return 1 ;; esac
}
pids=
for file do
  # A pipe would keep us waiting.
  [ -f "$file" ] && pid=$(head -n 1 "$file" 2>/dev/null) && [ -n "$pid" ] && ours "$pid" && kill -s "$signal" "$pid" 2>/dev/null && pids="$pids $pid"
done
tries=0
for pid in $pids; do
  while ours "$pid" && kill -0 "$pid" 2>/dev/null && [ $tries -lt 50 ]; do sleep 0.1; tries=$((tries + 1)); done
  ours "$pid" && kill -s KILL "$pid" 2>/dev/null
done
# Who may write beside it may have put something else in its place, such as a link to what is somebody's. From here on we are in it,
# wherever its name may lead.
cd -P -- "$directory" && [ "$(pwd -P)" = "$directory" ] || exit
set -- $(ls -di .)
[ "$1" = "$inode" ] || exit
# By a mark in it others tell whose it was, if this is cut off: it goes last.
for entry in ./* ./.[!.]* ./..?*; do
  case $entry in ./owner.*) ;; *) rm -rf -- "$entry" ;; esac
done
rm -rf -- ./* ./.[!.]* ./..?*
rmdir -- "$directory"
`;

export interface ReaperOptions {
  /** Removed with all it holds. An absolute path without symbolic links; the processes have their working directory in it. */
  readonly directory: string;
  /** Files whose first line is the number of a process to end; they may come into being later. */
  readonly pidFiles: readonly string[];
  /** How the processes are ended. Five seconds after SIGQUIT follows SIGKILL. */
  readonly signal: 'QUIT' | 'KILL';
}

export interface Reaper {
  /** To be called when processes and directory are gone in good order. */
  dismiss(): Promise<void>;
}

/** Ends the processes and removes the directory now, if it is that of this inode: what a process that died has left. */
export async function reap(options: ReaperOptions & { readonly inode: bigint }): Promise<void> {
  const child = spawnReaper(options, options.inode);
  const ended = once(child, 'close');
  child.stdin.on('error', () => {});
  child.stdin.end();
  await ended;
}

/**
 * Sees to it that servers and their directory do not outlive this process, even if it is killed without a chance to
 * clean up. It does not keep the process alive.
 */
export async function startReaper(options: ReaperOptions): Promise<Reaper> {
  const { ino } = await lstat(options.directory, { bigint: true });
  const child = spawnReaper(options, ino);
  await new Promise<void>((resolve, reject) => {
    child.once('spawn', resolve);
    child.once('error', (error) => {
      reject(new PgarkError('internal', `/bin/sh could not be started: ${error.message}`, { cause: error }));
    });
  });
  child.unref();
  const { stdin } = child;
  if ('unref' in stdin && typeof stdin.unref === 'function') stdin.unref();
  // A reaper that somebody killed must not take us down with EPIPE.
  stdin.on('error', () => {});
  let dismissed: Promise<void> | undefined;
  return {
    dismiss() {
      dismissed ??= (async () => {
        if (child.exitCode !== null || child.signalCode !== null) return;
        child.ref();
        const ended = once(child, 'exit');
        stdin.end('done\n');
        await ended;
      })();
      return dismissed;
    },
  };
}

function spawnReaper(
  { signal, directory, pidFiles }: ReaperOptions,
  inode: bigint,
): ChildProcessByStdio<Writable, null, null> {
  // A session of its own, since the signals of a terminal go to everything in ours.
  return spawn('/bin/sh', ['-c', REAPER, 'pgark-reaper', signal, directory, String(inode), ...pidFiles], {
    stdio: ['pipe', 'ignore', 'ignore'],
    detached: true,
    cwd: '/',
  });
}
