import { PgarkError } from '../../common/errors.ts';
import { addToCrc32c, CRC32C_BEGIN, endOfCrc32c } from './crc32c.ts';
import { formatLsn, type Lsn } from './lsn.ts';
import { isZeroHeader, LONG_HEADER_BYTES, readLongPageHeader, readPageHeader } from './page-header.ts';
import {
  beginsTablespace,
  continuedTablespace,
  type Landmark,
  landmarkOf,
  isSegmentSwitch,
  RECORD_HEAD_BYTES_MAX,
  RECORD_HEADER_BYTES,
} from './record.ts';

/** Headers of pages as they lie there, aligned: XLogPageHeaderData, XLogLongPageHeaderData. */
const SHORT_HEADER = 24;
const LONG_HEADER = 40;
/** XLP_FIRST_IS_CONTRECORD, XLP_FIRST_IS_OVERWRITE_CONTRECORD. */
const CONTINUES_FLAG = 0x0001;
const OVERWRITES_FLAG = 0x0008;
const ALIGNMENT = 8;
/** Where a record's checksum is (xl_crc): of all behind its header, and then of the header before it. */
const CRC_OFFSET = 20;

/** Where a record begins, and behind its last byte. */
export interface RecordPlace {
  readonly lsn: Lsn;
  readonly end: Lsn;
}

/** A record whose end has not come yet. */
interface OpenRecord {
  readonly lsn: Lsn;
  readonly head: Uint8Array;
  headBytes: number;
  leftBytes: number;
  /** Of what has come of it behind its header. */
  crc: number;
}

/**
 * Follows the records of WAL as its bytes come, from the start of a segment on: where each begins and ends, and those by which
 * a recovery can be aimed. Records that begin before the first one of that segment are not seen, but for one that makes a
 * tablespace and has all but the beginning of its header there. Error: `corrupt` where the pages are not those of a log without a
 * gap.
 */
export class RecordWalker {
  readonly #segmentBytes: bigint;
  readonly #checksums: boolean;
  /** Of the page that comes next, or has begun to come. */
  #pageStart: Lsn;
  #pageBytes = 0;
  #page: Uint8Array = new Uint8Array(0);
  #pageFilled = 0;
  #record: OpenRecord | undefined;
  /** Of the open record, of which there is one at a time. */
  readonly #head = new Uint8Array(RECORD_HEAD_BYTES_MAX);
  #isAtRecord = false;
  #isSwitched = false;
  #isAtEnd = false;
  #last: RecordPlace | undefined;
  #found: Landmark[] = [];

  /** `start`: of a segment. `checksums`: a record that has not its checksum is `corrupt` too. */
  constructor(start: Lsn, segmentBytes: number, { checksums = false }: { readonly checksums?: boolean } = {}) {
    this.#pageStart = start;
    this.#segmentBytes = BigInt(segmentBytes);
    this.#checksums = checksums;
  }

  /** The last record was a switch: the rest of its segment is empty. */
  get isSwitched(): boolean {
    return this.#isSwitched;
  }

  /** Where a record would have begun, there was none. */
  get isAtEnd(): boolean {
    return this.#isAtEnd;
  }

  /** The last record of which all has come, with the page that its last byte is in, or `finish` was called. */
  get last(): RecordPlace | undefined {
    return this.#last;
  }

  /** Where a record begins that makes a tablespace at a path, and whose end has not come yet. */
  get openTablespace(): Lsn | undefined {
    if (this.#record === undefined) return undefined;
    const { lsn, head, headBytes } = this.#record;
    return beginsTablespace(viewOf(head.subarray(0, headBytes))) ? lsn : undefined;
  }

  /** Takes the bytes that come next, and returns the landmarks whose records are whole by now. */
  push(bytes: Uint8Array): readonly Landmark[] {
    for (let at = 0; at < bytes.length; ) {
      if (this.#pageBytes === 0) at = this.#beginAt(bytes, at);
      else if (this.#pageFilled === 0 && bytes.length - at >= this.#pageBytes) {
        this.#walkPage(bytes.subarray(at, at + this.#pageBytes));
        this.#pageStart += BigInt(this.#pageBytes);
        at += this.#pageBytes;
      } else at = this.#fill(bytes, at);
    }
    return this.taken();
  }

  /** Nothing more comes: what is whole in a page that is not counts too. */
  finish(): readonly Landmark[] {
    if (this.#pageFilled > 0) this.#walkPage(this.#page.subarray(0, this.#pageFilled));
    this.#pageFilled = 0;
    return this.taken();
  }

  /** Landmarks that were not returned yet, as after an error. */
  taken(): readonly Landmark[] {
    const found = this.#found;
    this.#found = [];
    return found;
  }

  /** The first page tells how long all are. */
  #beginAt(bytes: Uint8Array, at: number): number {
    if (this.#page.length === 0) this.#page = new Uint8Array(LONG_HEADER_BYTES);
    const next = this.#copy(bytes, at, LONG_HEADER_BYTES);
    if (this.#pageFilled < LONG_HEADER_BYTES) return next;
    const { isLong, pageBytes } = readLongPageHeader(viewOf(this.#page), 0);
    if (!isLong || pageBytes < 1024 || pageBytes > 65_536) throw this.#broken(0, 'no segment begins so');
    const head = this.#page;
    this.#page = new Uint8Array(pageBytes);
    this.#page.set(head);
    this.#pageBytes = pageBytes;
    return next;
  }

  #fill(bytes: Uint8Array, at: number): number {
    const next = this.#copy(bytes, at, this.#pageBytes);
    if (this.#pageFilled < this.#pageBytes) return next;
    this.#walkPage(this.#page);
    this.#pageStart += BigInt(this.#pageBytes);
    this.#pageFilled = 0;
    return next;
  }

  #copy(bytes: Uint8Array, at: number, upTo: number): number {
    const piece = bytes.subarray(at, at + upTo - this.#pageFilled);
    this.#page.set(piece, this.#pageFilled);
    this.#pageFilled += piece.length;
    return at + piece.length;
  }

  /** A page, or the beginning of the last one. */
  #walkPage(page: Uint8Array): void {
    const isFirst = this.#pageStart % this.#segmentBytes === 0n;
    if (isFirst) this.#isSwitched = false;
    const headerBytes = isFirst ? LONG_HEADER : SHORT_HEADER;
    if (this.#isSwitched || page.length < headerBytes) return;
    if (this.#isAtEnd) throw this.#broken(0, 'the log goes on where no record was');
    const view = viewOf(page);
    if (isZeroHeader(view, 0)) throw this.#broken(0, 'there is an empty page');
    const { address } = readPageHeader(view, 0);
    if (address !== this.#pageStart) throw this.#broken(0, `the page says that it belongs to ${formatLsn(address)}`);
    let at = this.#continue(page, view, headerBytes);
    while (at !== undefined && at + 4 <= page.length) at = this.#begin(page, view, at);
  }

  /** What a record before has on this page. Returns where the next one begins, if it does on this page. */
  #continue(page: Uint8Array, view: DataView, headerBytes: number): number | undefined {
    const flags = view.getUint16(2, true);
    const isContinued = (flags & CONTINUES_FLAG) !== 0;
    const restBytes = view.getUint32(16, true);
    // What a crash cut off is written over by what came after it.
    if (this.#record !== undefined && (flags & OVERWRITES_FLAG) !== 0) this.#record = undefined;
    if (this.#record !== undefined) {
      if (!isContinued || restBytes !== this.#record.leftBytes) {
        throw this.#broken(0, `the record that begins at ${formatLsn(this.#record.lsn)} does not go on`);
      }
      return this.#take(page, headerBytes, this.#record);
    }
    if (this.#isAtRecord) {
      if (isContinued) throw this.#broken(0, 'a record goes on that did not begin');
      return headerBytes;
    }
    if (isContinued && headerBytes + restBytes > this.#pageBytes) return undefined;
    this.#isAtRecord = true;
    if (!isContinued) return headerBytes;
    const next = headerBytes + aligned(restBytes);
    if (headerBytes === LONG_HEADER) {
      // A switch may begin in the last bytes of a segment, and takes all of the next one for itself.
      this.#isSwitched = isEndOfSwitch(page, headerBytes, restBytes) && isZero(page.subarray(next, next + 4));
      if (this.#isSwitched) return undefined;
      this.#seeTablespace(page, headerBytes, restBytes);
    }
    return next;
  }

  #seeTablespace(page: Uint8Array, at: number, bytes: number): void {
    const made = continuedTablespace(viewOf(page.subarray(at, at + bytes)));
    if (made === undefined) return;
    const { before, oid, path } = made;
    const [lsn, end] = [this.#pageStart - BigInt(before), this.#pageStart + BigInt(at + bytes)];
    this.#found.push({ kind: 'tablespace', lsn, end, oid, path });
  }

  #begin(page: Uint8Array, view: DataView, at: number): number | undefined {
    const bytes = view.getUint32(at, true);
    if (bytes === 0) {
      this.#isAtEnd = true;
      return undefined;
    }
    if (bytes < RECORD_HEADER_BYTES) throw this.#broken(at, `no record has ${bytes} bytes`);
    const lsn = this.#pageStart + BigInt(at);
    if (at + bytes <= page.length) {
      // As most are: whole on this page.
      const crc = this.#addToCrc(CRC32C_BEGIN, page.subarray(at + RECORD_HEADER_BYTES, at + bytes));
      this.#complete(page.subarray(at, at + Math.min(bytes, RECORD_HEAD_BYTES_MAX)), { lsn, crc }, at + bytes);
      return this.#isSwitched ? undefined : at + aligned(bytes);
    }
    const head = this.#head.subarray(0, Math.min(bytes, RECORD_HEAD_BYTES_MAX));
    this.#record = { lsn, head, headBytes: 0, leftBytes: bytes, crc: CRC32C_BEGIN };
    return this.#take(page, at, this.#record);
  }

  #take(page: Uint8Array, at: number, record: OpenRecord): number | undefined {
    const { head } = record;
    const bytes = Math.min(record.leftBytes, page.length - at);
    const ofHead = Math.min(bytes, head.length - record.headBytes);
    head.set(page.subarray(at, at + ofHead), record.headBytes);
    const ofHeader = Math.min(bytes, Math.max(0, RECORD_HEADER_BYTES - record.headBytes));
    record.crc = this.#addToCrc(record.crc, page.subarray(at + ofHeader, at + bytes));
    record.headBytes += ofHead;
    record.leftBytes -= bytes;
    if (record.leftBytes > 0) return undefined;
    this.#record = undefined;
    this.#complete(head, record, at + bytes);
    return this.#isSwitched ? undefined : at + aligned(bytes);
  }

  #addToCrc(crc: number, bytes: Uint8Array): number {
    return this.#checksums ? addToCrc32c(crc, bytes) : crc;
  }

  #complete(head: Uint8Array, { lsn, crc }: Pick<OpenRecord, 'lsn' | 'crc'>, endOffset: number): void {
    const view = viewOf(head);
    if (
      this.#checksums &&
      endOfCrc32c(addToCrc32c(crc, head.subarray(0, CRC_OFFSET))) !== view.getUint32(CRC_OFFSET, true)
    ) {
      throw this.#broken(endOffset, `the record at ${formatLsn(lsn)} has not its checksum`);
    }
    const before = view.getBigUint64(8, true);
    if (this.#last !== undefined && before !== this.#last.lsn) {
      throw this.#broken(
        endOffset,
        `the record at ${formatLsn(lsn)} says that one at ${formatLsn(before)} came before it, which was at ${formatLsn(this.#last.lsn)}`,
      );
    }
    const place = { lsn, end: this.#pageStart + BigInt(endOffset) };
    this.#last = place;
    this.#isSwitched = isSegmentSwitch(view);
    const landmark = landmarkOf(view, place);
    if (landmark !== undefined) this.#found.push(landmark);
  }

  #broken(offset: number, why: string): PgarkError {
    return new PgarkError(
      'corrupt',
      `the write-ahead log is broken at ${formatLsn(this.#pageStart + BigInt(offset))}: ${why}`,
    );
  }
}

function aligned(bytes: number): number {
  return Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Of a record that is nothing but its header, the last of whose bytes say of which kind it is. */
function isEndOfSwitch(page: Uint8Array, at: number, bytes: number): boolean {
  if (bytes >= RECORD_HEADER_BYTES || bytes % 8 !== 0 || at + bytes > page.length) return false;
  return isSegmentSwitch(viewOf(page.subarray(at + bytes - RECORD_HEADER_BYTES, at + bytes)));
}

function isZero(bytes: Uint8Array): boolean {
  return bytes.every((byte) => byte === 0);
}
