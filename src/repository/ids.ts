import type { Brand } from '../common/brand.ts';
import { AHEAD_MS_MAX } from '../common/clock.ts';
import type { Random } from '../common/random.ts';

/** `20261120T020000Z-p7k2m4x`: UTC start time, format letter, six random base32 characters. Sorts by time as text. */
export type BackupId = Brand<string, 'BackupId'>;
/** A ULID (Crockford base32, 48 bits of milliseconds, 80 random bits). Sorts by time as text. */
export type RunId = Brand<string, 'RunId'>;

/** Plain, directory, full, incremental; and `g`, the globals of a server. */
export type FormatLetter = 'p' | 'd' | 'f' | 'i' | 'g';

/** What a backup is of: the content of a database, or the files of a whole server. */
export type BackupKind = 'logical' | 'physical';

const BASE32 = 'abcdefghijklmnopqrstuvwxyz234567';
const CROCKFORD = '0123456789ABCDEFGHJKMNPQRSTVWXYZ';
const BACKUP_ID = /^\d{8}T\d{6}Z-[pdfig][a-z2-7]{6}$/;
const RUN_ID = /^[0-7][0-9A-HJKMNP-TV-Z]{25}$/;

/** `2026-11-20T02:00:00.123Z` as `20261120T020000Z`, as ids begin. */
export function compactTime(time: Date): string {
  return `${time.toISOString().slice(0, 19).replaceAll(/[-:]/g, '')}Z`;
}

export function makeBackupId(startedAt: Date, letter: FormatLetter, random: Random): BackupId {
  const suffix = [...random.bytes(6)].map((byte) => BASE32[byte % 32]).join('');
  return `${compactTime(startedAt)}-${letter}${suffix}` as BackupId;
}

export function isBackupId(text: string): text is BackupId {
  return BACKUP_ID.test(text);
}

export function kindOfId(id: BackupId): BackupKind {
  return /-[fi]/.test(id) ? 'physical' : 'logical';
}

/** Whether it is relative to another backup. */
export function isIncrementalId(id: BackupId): boolean {
  return id.includes('-i');
}

/** The second in which the backup of this id was begun. */
export function startSecondOf(id: BackupId): Date {
  const [, year, month, day, hour, minute, second] = /^(....)(..)(..)T(..)(..)(..)Z/.exec(id) ?? [];
  return new Date(`${year}-${month}-${day}T${hour}:${minute}:${second}Z`);
}

/** Whether it begins so far ahead of now that a wrong clock has named it. */
export function isOfFuture(id: string, now: Date): boolean {
  const latest = compactTime(new Date(now.getTime() + AHEAD_MS_MAX));
  return id.slice(0, latest.length) > latest;
}

export function makeRunId(now: Date, random: Random): RunId {
  let time = now.getTime();
  let text = '';
  for (let index = 0; index < 10; index++) {
    text = `${CROCKFORD[time % 32]}${text}`;
    time = Math.floor(time / 32);
  }
  return (text + [...random.bytes(16)].map((byte) => CROCKFORD[byte % 32]).join('')) as RunId;
}

export function isRunId(text: string): text is RunId {
  return RUN_ID.test(text);
}

/** When the run of this id started, to the millisecond. */
export function timeOfRunId(id: RunId): Date {
  return new Date([...id].slice(0, 10).reduce((time, digit) => time * 32 + CROCKFORD.indexOf(digit), 0));
}
