import { FETCH_FAILED } from '../../common/restore-command.ts';
import { toByteString } from '../../postgres/toc/byte-string.ts';
import { formatLsn, type Lsn } from '../../postgres/wal/lsn.ts';
import type { ReplayedSpan } from '../../postgres/wal/tablespace-watch.ts';
import type { WalFolder } from '../../repository/wal-keys.ts';
import { RECOVERY_FOLDER } from './end-script.ts';
import type { TargetFolder } from './target-files.ts';

/** At the beginning of a segment's name; the rest is in the order of the log. */
const TIMELINE_DIGITS = 8;

/** How a server that recovers gets WAL: a program, and what it needs. */
export interface FetchProgram {
  /**
   * `pgark … wal fetch …` for a server’s WAL, run with the name of a file and a path behind it, which says what came of it as
   * JSON; `pgark … wal read-ahead …`, with the name of the first segment and a folder. They hold no secret.
   */
  readonly commandFor: (verb: 'fetch' | 'read-ahead', folder: WalFolder, needs: FetchNeeds) => readonly string[];
  /** The directory that relative paths in the command and `environment` start from. */
  readonly directory: string;
  /** Variables that it is run with, secrets among them. */
  readonly environment: Readonly<Record<string, string>>;
}

/** What a recovery asks of all that it gets, with positions as PostgreSQL shows them. */
interface FetchNeeds {
  /** Nothing behind it is needed, so that a gap there does not count. */
  readonly upTo: string;
  /** A segment is refused where a record from the one position on and before the other makes a tablespace at a path. */
  readonly refused: { readonly from: string; readonly to: string } | undefined;
}

/** The restore_command of a server that gets its WAL so, run in the data directory. */
export const FETCH_COMMAND = `/bin/sh ${RECOVERY_FOLDER}/fetch %f %p`;

/** Where `pgark wal fetch` says nothing: it was killed, or did not begin. */
const UNKNOWN = 'unknown';

/** Which WAL a recovery gets. */
export interface FetchedWal {
  readonly folder: WalFolder;
  /** Name of the last segment that the recovery needs; its timeline does not matter. */
  readonly last: string;
  /** Where that ends which it needs. */
  readonly upTo: Lsn;
  /** What is replayed, among which no record may make a tablespace at a path. Undefined: any may. */
  readonly replayed: ReplayedSpan | undefined;
}

/** Writes what that command runs. Only the owner of the data directory may read it. */
export async function writeFetchScript(data: TargetFolder, program: FetchProgram, wal: FetchedWal): Promise<void> {
  await data.makeFolder(toByteString(RECOVERY_FOLDER));
  const variables = Object.entries(program.environment).map(([name, value]) => `export ${name}=${forShell(value)}\n`);
  await data.replace(`${RECOVERY_FOLDER}/environment`, variables.join(''));
  await data.replace(`${RECOVERY_FOLDER}/fetch`, fetchScript(program, wal));
}

/**
 * Segments are taken from those that another process has fetched ahead; anything else, and whatever goes wrong with those, is
 * `pgark wal fetch` itself. Up to 125 a status means the end of what is archived to PostgreSQL: only where pgark says so it is
 * 1, and whatever else fails is 126. Servers since 15 ask ahead for what is behind the target: it may be a gap, or the archive end
 * there, and neither is to stop them before they are at the target. If they do come there, they have missed it, and say so.
 */
function fetchScript({ commandFor, directory }: FetchProgram, { folder, last, upTo, replayed }: FetchedWal): string {
  const refused = replayed && { from: formatLsn(replayed.from), to: formatLsn(replayed.to) };
  const needs = { upTo: formatLsn(upTo), refused };
  const command = (verb: 'fetch' | 'read-ahead'): string => commandFor(verb, folder, needs).map(forShell).join(' ');
  return `# Written by pgark: the restore_command of this server. 0: found; 1: surely not archived; else it cannot be told.
name=$1
target=$PWD/$2
folder=$PWD/${RECOVERY_FOLDER}
umask 077
fail() { echo "${FETCH_FAILED}$1" >&2; exit "$2"; }
# Behind the last segment that this recovery needs is nothing for it.
case $name in
  *[!0-9A-F]*) ;;
  *) LC_ALL=C expr "x\${name#????????}" \\> x${last.slice(TIMELINE_DIGITS)} >/dev/null && exit 1 ;;
esac
# A shell ends with 2 where the file is missing.
[ -r "$folder/environment" ] || fail ${UNKNOWN} 126
. "$folder/environment"
cd ${forShell(directory)} 2>/dev/null || cd /

runs() { kill -0 "$(cat "$folder/pid" 2>/dev/null)" 2>/dev/null; }
# Until it lies ready, or what is said of it is no longer so; a number of a process may be another one's by now.
wait_while() {
  tries=0
  while [ ! -e "$ahead/$name" ] && "$@" && runs && [ $tries -lt 15000 ]; do
    sleep 0.02 2>/dev/null || sleep 1
    tries=$((tries + 1))
  done
}
is_coming() { [ -e "$ahead/$name.coming" ]; }
goes_on() { [ ! -e "$ahead/failed" ]; }
take() { mv "$ahead/$name" "$target" 2>/dev/null; }

case $name in
  *[!0-9A-F]*) ;;
  *)
    ahead=$(cat "$folder/ahead" 2>/dev/null)
    wait_while is_coming
    take && exit 0
    # It begins anew with this segment: the first one, or one that is not next to those before.
    ahead=$folder/ahead.$$
    if mkdir -p "$ahead" && echo "$ahead" >"$folder/ahead"; then
      ${command('read-ahead')} "$name" "$ahead" </dev/null >/dev/null 2>&1 &
      echo $! >"$folder/pid"
      wait_while goes_on
      take && exit 0
    fi
    ;;
esac
said=$(${command('fetch')} "$name" "$target")
status=$?
[ $status -eq 0 ] && exit 0
# A program that cannot even begin ends with 1 too.
case $said in *'"outcome":"absent"'*) exit 1 ;; esac
code=${UNKNOWN}
case $said in
  *'"error":{"code":"'*)
    code=\${said#*'"error":{"code":"'}
    code=\${code%%'"'*}
    ;;
esac
[ $status -gt 125 ] && fail "$code" $status
fail "$code" 126
`;
}

function forShell(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
