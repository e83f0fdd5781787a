import { createHash } from 'node:crypto';
import { MIB } from '../../common/bytes.ts';
import { messageOf, PgarkError } from '../../common/errors.ts';
import { type ByteString, byteStringOf, toByteString } from '../toc/byte-string.ts';

/** What the server says of a file that a base backup holds. */
export interface ManifestFile {
  /** Relative to the data directory; files of a tablespace are in `pg_tblspc/OID/`. */
  readonly path: ByteString;
  readonly bytes: number;
  /** Digits of the checksum, in lower case; missing where the backup was made without. */
  readonly checksum?: string;
  /** `SHA256`, `CRC32C` … */
  readonly algorithm?: string;
}

/** WAL that a base backup needs. Positions are as PostgreSQL writes them: `0/2000028`. */
export interface ManifestWalRange {
  readonly timeline: number;
  readonly startLsn: string;
  readonly endLsn: string;
}

/** What stands in a backup_manifest besides its files. */
export interface BackupManifest {
  readonly version: number;
  /** Digits, beyond 2^53. PostgreSQL 17 and newer. */
  readonly systemIdentifier: string | undefined;
  readonly walRanges: readonly ManifestWalRange[];
}

const VERSIONS: ReadonlySet<number> = new Set([1, 2]);
/** A path has 1,024 bytes at the most, in hexadecimal digits twice as many. */
const LINE_BYTES_MAX = 64 * 1024;
/** A base backup of some million files. */
const BYTES_MAX = 1_024 * MIB;
const NEWLINE = 0x0a;

/** The lines that hold no file. Documentation: https://www.postgresql.org/docs/current/backup-manifest-format.html */
const FIRST = /^\{ "PostgreSQL-Backup-Manifest-Version": (\d{1,9}),$/;
const SYSTEM = /^"System-Identifier": (\d{1,20}),$/;
const FILES = '"Files": [';
const RANGES = '"WAL-Ranges": [';
const LIST_END = /^\],?$/;
const LAST = /^"Manifest-Checksum": "([0-9a-f]{64})"\}$/;

type State = 'first' | 'system' | 'files' | 'ranges' | 'range list' | 'last' | 'over';

/**
 * Reads a backup_manifest as all versions of PostgreSQL write it: a line for each file. Each file is told of as it comes,
 * and none is kept. Errors: `corrupt` for anything else, also for one whose own checksum is wrong, which `end` finds out.
 */
export class BackupManifestReader {
  readonly #onFile: (file: ManifestFile) => void;
  readonly #hash = createHash('sha256');
  readonly #walRanges: ManifestWalRange[] = [];
  #state: State = 'first';
  /** A line that came in pieces. */
  #line: Buffer = Buffer.alloc(0);
  #bytes = 0;
  #version = 0;
  #systemIdentifier: string | undefined;

  constructor(onFile: (file: ManifestFile) => void) {
    this.#onFile = onFile;
  }

  push(block: Uint8Array): void {
    this.#bytes += block.length;
    if (this.#bytes > BYTES_MAX) throw unreadable('it is too long');
    for (let at = 0; at < block.length; ) {
      const newline = block.indexOf(NEWLINE, at);
      const end = newline < 0 ? block.length : newline + 1;
      this.#append(block.subarray(at, end));
      if (newline >= 0) this.#takeLine();
      at = end;
    }
  }

  /** Nothing more comes. */
  end(): BackupManifest {
    if (this.#state !== 'over' || this.#line.length > 0) throw unreadable('it is truncated, or goes on behind its end');
    return { version: this.#version, systemIdentifier: this.#systemIdentifier, walRanges: this.#walRanges };
  }

  #append(piece: Uint8Array): void {
    if (this.#line.length + piece.length > LINE_BYTES_MAX) throw unreadable('a line is too long');
    this.#line = this.#line.length === 0 ? Buffer.from(piece) : Buffer.concat([this.#line, piece]);
  }

  #takeLine(): void {
    const bytes = this.#line;
    this.#line = Buffer.alloc(0);
    const line = bytes.toString('utf8', 0, bytes.length - 1);
    if (this.#state !== 'last' && this.#state !== 'over') this.#hash.update(bytes);
    this.#state = this.#read(line);
  }

  /** What may come after this line. */
  #read(line: string): State {
    switch (this.#state) {
      case 'first':
        this.#version = Number(FIRST.exec(line)?.[1] ?? Number.NaN);
        if (!VERSIONS.has(this.#version))
          throw unreadable(`it does not begin as one of version 1 or 2: ${short(line)}`);
        return 'system';
      case 'system': {
        const identifier = SYSTEM.exec(line)?.[1];
        if (identifier === undefined) return this.#expect(line, FILES, 'files');
        if (this.#systemIdentifier !== undefined) throw unreadable('it has two system identifiers');
        this.#systemIdentifier = identifier;
        return 'system';
      }
      case 'files':
        if (LIST_END.test(line)) return 'ranges';
        this.#onFile(fileOf(objectIn(line)));
        return 'files';
      case 'ranges':
        return this.#expect(line, RANGES, 'range list');
      case 'range list':
        if (LIST_END.test(line)) return 'last';
        this.#walRanges.push(rangeOf(objectIn(line)));
        return 'range list';
      case 'last':
        return this.#checkSelf(line);
      case 'over':
        throw unreadable('it goes on behind its end');
      default:
        return this.#state satisfies never;
    }
  }

  #expect(line: string, expected: string, next: State): State {
    if (line !== expected) throw unreadable(`where ${expected} should stand, there is ${short(line)}`);
    return next;
  }

  #checkSelf(line: string): State {
    const expected = LAST.exec(line)?.[1];
    if (expected === undefined) throw unreadable(`where its checksum should stand, there is ${short(line)}`);
    if (this.#hash.digest('hex') !== expected) throw unreadable('its own checksum is wrong');
    return 'over';
  }
}

function objectIn(line: string): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(line.replace(/,$/, ''));
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  } catch (error) {
    throw unreadable(`a line is no JSON (${messageOf(error)})`);
  }
  throw unreadable(`a line is no object: ${short(line)}`);
}

function fileOf(object: Readonly<Record<string, unknown>>): ManifestFile {
  const { Path: path, 'Encoded-Path': encoded, Size: bytes, Checksum: checksum } = object;
  const algorithm = object['Checksum-Algorithm'];
  const whole = typeof bytes === 'number' && Number.isSafeInteger(bytes) && bytes >= 0;
  if (!whole || (typeof path === 'string') === (typeof encoded === 'string')) throw badFile(object);
  if ((checksum === undefined) !== (algorithm === undefined)) throw badFile(object);
  const name = typeof path === 'string' ? toByteString(path) : decoded(encoded);
  if (name === undefined || name === '') throw badFile(object);
  if (checksum === undefined || algorithm === undefined) return { path: name, bytes };
  if (typeof checksum !== 'string' || typeof algorithm !== 'string') throw badFile(object);
  return { path: name, bytes, checksum: checksum.toLowerCase(), algorithm };
}

/** A path that is no UTF-8 is in hexadecimal digits. */
function decoded(encoded: unknown): ByteString | undefined {
  if (typeof encoded !== 'string' || !/^([0-9a-f]{2})+$/i.test(encoded)) return undefined;
  return byteStringOf(Buffer.from(encoded, 'hex'));
}

function rangeOf(object: Readonly<Record<string, unknown>>): ManifestWalRange {
  const { Timeline: timeline, 'Start-LSN': startLsn, 'End-LSN': endLsn } = object;
  const isTimeline = typeof timeline === 'number' && Number.isSafeInteger(timeline) && timeline > 0;
  if (!isTimeline || !isLsn(startLsn) || !isLsn(endLsn)) {
    throw unreadable(`a range of WAL is none: ${short(JSON.stringify(object))}`);
  }
  return { timeline, startLsn, endLsn };
}

function isLsn(value: unknown): value is string {
  return typeof value === 'string' && /^[0-9A-F]{1,8}\/[0-9A-F]{1,8}$/.test(value);
}

function badFile(object: Readonly<Record<string, unknown>>): PgarkError {
  return unreadable(`what it says of a file cannot be understood: ${short(JSON.stringify(object))}`);
}

function unreadable(why: string): PgarkError {
  return new PgarkError('corrupt', `the backup_manifest cannot be read: ${why}`);
}

function short(text: string): string {
  return text.length > 80 ? `${text.slice(0, 80)} …` : text;
}
