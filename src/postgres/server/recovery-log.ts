import { FETCH_FAILED } from '../../common/restore-command.ts';

/** What the log of a server that recovered says, in English. */
export interface RecoveryLog {
  /** The last record that was read: `0/3000028`. */
  readonly redoneAt: string | undefined;
  /** RFC 3339, in UTC, with microseconds. */
  readonly lastTransaction: string | undefined;
  /** What made it end, or wait: of `pgark wal fetch` first, then the server's own words. */
  readonly failure: string | undefined;
  readonly hint: string | undefined;
  /** Code of the error for which the server got no WAL, and ended. */
  readonly fetchError: string | undefined;
}

/** What people can do, by what the server says. */
const HINTS: readonly (readonly [RegExp, string])[] = [
  [/could not bind|could not create any TCP\/IP sockets/, 'another server listens there: choose another --port'],
  [
    /could not create lock file|could not create any Unix-domain sockets/,
    'set unix_socket_directories in its postgresql.conf to a directory that is there',
  ],
  [
    /has wrong ownership|group or world access/,
    'the directory has to belong to who runs the server, and to nobody else',
  ],
  [
    /could not access the server configuration file|could not (load|open).*pg_hba/,
    'the server kept its configuration elsewhere: copy postgresql.conf and pg_hba.conf into the directory',
  ],
  [
    /could not load (server certificate|private key)|could not access.*library/,
    'its configuration names files that are not on this machine',
  ],
  [
    /ended before configured recovery target was reached/,
    'archived WAL ends before the target: pgark wal status shows how far it reaches',
  ],
  [/not compatible with server|database files are incompatible/, 'start a server of the version that was backed up'],
  [
    /could not map anonymous shared memory|No space left on device/,
    'give the server more memory or disk, or lower its settings',
  ],
  [/before consistent recovery point/, 'choose a later target, or an older backup'],
  [
    /maximum number of prepared transactions reached/,
    'the primary was given a higher max_prepared_transactions behind the backup: restore again with --verify-first, which finds it, or set it at the end of postgresql.auto.conf',
  ],
];

/** Reads a log from its beginning; where several servers have written to it, the last one counts. */
export function readRecoveryLog(text: string): RecoveryLog {
  const start = text.lastIndexOf('starting PostgreSQL');
  const lines = text.slice(Math.max(0, start)).split('\n');
  const last = (pattern: RegExp): string | undefined =>
    lines
      .findLast((line) => pattern.test(line))
      ?.match(pattern)?.[1]
      ?.trim();
  const fatal = last(/(?:FATAL|PANIC): +(.*)$/);
  const fetchWords = fatal === undefined ? undefined : last(/^error {2}(.*)$/);
  const fetchHint = fetchWords === undefined ? undefined : last(/^ {2}hint (.*)$/);
  const isForWal = lines.some((line) => NO_WAL.test(line));
  const ended = fatal === undefined ? undefined : [fetchWords, fatal].filter((part) => part !== undefined).join('; ');
  return {
    redoneAt: last(/redo done at ([0-9A-F]+\/[0-9A-F]+)/),
    lastTransaction: inUtc(last(/last completed transaction was at log time (.*)$/)),
    failure: ended ?? pauseIn(lines),
    hint: fetchHint ?? HINTS.find(([pattern]) => lines.some((line) => pattern.test(line)))?.[1] ?? last(/HINT: +(.*)$/),
    fetchError: isForWal ? last(FETCH_ERROR) : undefined,
  };
}

/** Of a restore_command that ended with more than 125. */
const NO_WAL = /FATAL: +could not restore file /;
const FETCH_ERROR = new RegExp(`^${FETCH_FAILED}(.*)$`);

/** In English, when the recovery waits for somebody to let it go on. */
export const PAUSED = /LOG: +recovery has paused/;

/** With what the server warned of before, such as settings below those of the primary. */
function pauseIn(lines: readonly string[]): string | undefined {
  const paused = lines.findLastIndex((line) => PAUSED.test(line));
  if (paused < 0) return undefined;
  const warned = lines.slice(0, paused).findLastIndex((line) => /WARNING: /.test(line));
  const why = warned < 0 ? [] : lines.slice(warned, Math.min(paused, warned + 2));
  return ['its recovery has paused', ...why.map((line) => line.replace(/^.*?(?:WARNING|DETAIL): +/, ''))].join('; ');
}

/** From `2026-11-20 04:00:00.123456+02`, in whatever time zone the server has. */
function inUtc(text: string | undefined): string | undefined {
  const [, second, us = '', hours, minutes = '00'] =
    /^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)(?:\.(\d{1,6}))?([+-]\d\d)(?::(\d\d))?$/.exec(text ?? '') ?? [];
  if (second === undefined) return text;
  const time = new Date(`${second.replace(' ', 'T')}${hours}:${minutes}`);
  return `${time.toISOString().slice(0, 19)}.${us.padEnd(6, '0')}Z`;
}
