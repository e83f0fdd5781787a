import type { ObjectKey } from '../../storage/object-store.ts';

/** What the name of another tool's dump says of it. */
export interface ForeignName {
  /** The database that it is of, as far as the name has one. */
  readonly database: string | undefined;
  /** When it was made. Names without a zone are taken for UTC, which containers have by default. */
  readonly takenAt: Date | undefined;
}

/** What dumps end in: their form, then compression and encryption. */
const FORM = String.raw`\.(?:sql|dump|dmp|backup|custom|pgdump)(?:\.(?:gz|zst))?(?:\.(?:age|enc|gpg))?$`;
const RESTORABLE = new RegExp(FORM, 'i');
/** pg_dump's tar format under the name that Railway's template gives it; other tars are files of anything. */
const TAR = /\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d-\d{3}Z\.tar(\.gz)?$/;

/** Words that stand where others put the database. */
const NO_DATABASE = /^(postgres|pg|db|sql)?[-_]?(backups?|dumps?)$/i;
const MONTHS = 'January February March April May June July August September October November December'.split(' ');

/**
 * `DB_2026-11-20T02:00:00.dump` (eeshugerman/postgres-backup-s3, and schickling's with `.sql.gz`),
 * `postgres-backup-2026-11-20_02-00-00.sql.gz`, `backup-2026-11-20T02-00-00-000Z.tar.gz` (Railway's template).
 */
const WITH_DASHES = /^(.*?)[-_]?(\d{4})-(\d\d)-(\d\d)[T_](\d\d)[:-](\d\d)[:-](\d\d)(?:[.-]\d{3})?Z?\./;
/** `last/DB-20261120-020000.sql.gz` (prodrigestivill/postgres-backup-local), `backup_20261120_020000.sql.gz`. */
const COMPACT = /^(.*?)[-_]?(\d{4})(\d\d)(\d\d)[-_T](\d\d)(\d\d)(\d\d)Z?\./;
/** `daily/DB-20261120`, `weekly/DB-202647`, `monthly/DB-202611`: written again and again, so that only the store knows when. */
const ROTATED = /(?:^|\/)(?:last|daily|weekly|monthly)\/(.+)-(?:\d{8}|\d{6}|latest)\.[^/]+$/;
/** `2026/November/PG_DB.20-November-2026-02-00.dmp` (kartoza/pg-backup); without a time in older versions. */
const WITH_MONTH = /^(?:[^_]+_)?(.+)\.(\d{1,2})-([A-Z][a-z]+)-(\d{4})(?:-(\d\d)-(\d\d))?\./;

/** Whether the name is one that dumps have. */
export function looksLikeDump(key: ObjectKey): boolean {
  return RESTORABLE.test(key) || TAR.test(key);
}

export function readForeignName(key: ObjectKey): ForeignName {
  const name = key.slice(key.lastIndexOf('/') + 1);
  const month = WITH_MONTH.exec(name);
  if (month !== null && MONTHS.includes(month[3] ?? '')) {
    const [, database, day, monthName = '', year, hour = '0', minute = '0'] = month;
    return { database, takenAt: time([year, String(MONTHS.indexOf(monthName) + 1), day, hour, minute, '0']) };
  }
  const dated = WITH_DASHES.exec(name) ?? COMPACT.exec(name);
  if (dated !== null) {
    const [, before = '', ...parts] = dated;
    // A tar's name begins with a word of its user's choice.
    const database = before === '' || NO_DATABASE.test(before) || TAR.test(key) ? undefined : before;
    return { database, takenAt: time(parts) };
  }
  return { database: ROTATED.exec(key)?.[1], takenAt: undefined };
}

/** Undefined for what is no time, such as a 13th month. */
function time(parts: readonly (string | undefined)[]): Date | undefined {
  const [year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0] = parts.map(Number);
  const date = new Date(Date.UTC(year, month - 1, day, hour, minute, second));
  const real = date.getUTCMonth() === month - 1 && date.getUTCDate() === day && date.getUTCHours() === hour;
  return real ? date : undefined;
}
