/** A release of PostgreSQL. */
interface Release {
  readonly major: number;
  readonly minor: number;
}

/** What a dump is, as far as its first bytes tell. */
export interface DumpFormat {
  /** SQL text for psql, or an archive for pg_restore. */
  readonly kind: 'sql' | 'archive';
  /** An archive in tar format; otherwise it is in custom format. */
  readonly isTar?: boolean;
  /** The server that was dumped. */
  readonly server?: Release;
  /** The pg_dump that wrote it. */
  readonly writtenBy?: Release;
}

/**
 * Whether a dump was made by a pg_dump that need not know everything about its server, or that wrote for a newer one:
 * any but that of the server's own major version, of the same or a later minor release.
 */
export function isOutOfStep({ server, writtenBy }: DumpFormat): boolean {
  if (server === undefined || writtenBy === undefined) return false;
  return writtenBy.major !== server.major || writtenBy.minor < server.minor;
}

/** First bytes of a custom-format archive of pg_dump. */
const ARCHIVE_MAGIC = 'PGDMP';
/** First file of an archive in tar format, which begins as a custom-format one does; pg_restore reads it from a pipe. */
const TAR_FIRST_FILE = 'toc.dat\0';
const TAR_HEADER_BYTES = 512;
/** Enough for both kinds to say their versions, however long the name of the database. */
export const DUMP_HEAD_BYTES = 1024;
const STRING_BYTES_MAX = 512;

/** Tells a dump by its first DUMP_HEAD_BYTES; undefined for what is no dump. */
export function readDumpHead(head: Uint8Array): DumpFormat | undefined {
  const bytes = Buffer.from(head.buffer, head.byteOffset, head.byteLength);
  if (bytes.subarray(0, ARCHIVE_MAGIC.length).toString('latin1') === ARCHIVE_MAGIC) {
    return { kind: 'archive', ...archiveVersions(bytes) };
  }
  if (bytes.subarray(0, TAR_FIRST_FILE.length).toString('latin1') === TAR_FIRST_FILE) {
    const toc = bytes.subarray(TAR_HEADER_BYTES);
    const hasMagic = toc.subarray(0, ARCHIVE_MAGIC.length).toString('latin1') === ARCHIVE_MAGIC;
    return { kind: 'archive', isTar: true, ...(hasMagic ? archiveVersions(toc) : {}) };
  }
  // A dump begins with comments, settings or statements, which are text; zero bytes never stand in SQL.
  if (bytes.length === 0 || bytes.includes(0)) return undefined;
  const text = bytes.toString('latin1');
  return {
    kind: 'sql',
    ...versions(
      /^-- Dumped from database version (.*)$/m.exec(text)?.[1],
      /^-- Dumped by pg_dump version (.*)$/m.exec(text)?.[1],
    ),
  };
}

function versions(server: string | undefined, writtenBy: string | undefined): Omit<DumpFormat, 'kind'> {
  const [from, by] = [readRelease(server), readRelease(writtenBy)];
  return { ...(from && { server: from }), ...(by && { writtenBy: by }) };
}

/** `15.18 (Debian 15.18-0+deb12u1)`, `19beta1`. */
function readRelease(text: string | undefined): Release | undefined {
  const match = /^(\d+)(?:\.(\d+))?/.exec(text ?? '');
  return match === null ? undefined : { major: Number(match[1]), minor: Number(match[2] ?? 0) };
}

/**
 * The header as `ReadHead` in pg_dump's pg_backup_archiver.c reads it: magic, three bytes of the archive's own version,
 * the size of an integer, the size of an offset, the format, the compression (an integer before 1.15, a byte from then
 * on), seven integers of the time, and three strings: database, server version, version of pg_dump. An integer is a byte
 * of sign and its bytes, lowest first; a string is an integer of its length and its bytes.
 */
function archiveVersions(bytes: Buffer): Omit<DumpFormat, 'kind'> {
  const [versionMajor = 0, versionMinor = 0, , integerBytes = 0] = bytes.subarray(ARCHIVE_MAGIC.length);
  if (versionMajor !== 1 || versionMinor < 10 || integerBytes < 1 || integerBytes > 8) return {};
  let at = ARCHIVE_MAGIC.length + 6;
  at += versionMinor >= 15 ? 1 : 1 + integerBytes;
  at += 7 * (1 + integerBytes);
  const strings: string[] = [];
  while (strings.length < 3) {
    if (at + 1 + integerBytes > bytes.length) return {};
    // An absent string has the length -1.
    const length = bytes[at] === 0 ? bytes.readUIntLE(at + 1, Math.min(integerBytes, 6)) : 0;
    at += 1 + integerBytes;
    if (length > STRING_BYTES_MAX || at + length > bytes.length) return {};
    strings.push(bytes.toString('latin1', at, at + length));
    at += length;
  }
  return versions(strings[1], strings[2]);
}
