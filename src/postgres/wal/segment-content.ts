import { allocateBlock, releaseBlock } from '../../common/block-memory.ts';
import { BLOCK_BYTES } from '../../common/bytes.ts';
import { assert, PgarkError } from '../../common/errors.ts';
import { formatLsn, type Lsn } from './lsn.ts';
import {
  isZeroHeader,
  LONG_HEADER_BYTES,
  readLongPageHeader,
  readPageHeader,
  SHORT_HEADER_BYTES,
} from './page-header.ts';
import { type Segment, segmentName, segmentStart } from './segment.ts';

/** What WAL has to be, so that it is not that of another server, version or place. */
export interface WalIdentity {
  /** Digits. */
  readonly systemIdentifier: string;
  readonly segmentBytes: number;
  /** The magic number of every page; undefined: that of the first one seen. */
  readonly magic: number | undefined;
}

const PAGE_BYTES_MIN = 1024;
const PAGE_BYTES_MAX = 64 * 1024;

/**
 * The bytes of one segment, from its start to wherever they have come, in blocks of 1 MiB that are made as they are needed.
 * The head of every page is checked as it comes: magic, address, timeline, and on the first page system identifier and size
 * of segments. What PostgreSQL leaves empty behind a switch of segments (pages of zeros up to the end) passes.
 */
export class SegmentContent {
  readonly segment: Segment;
  readonly #identity: WalIdentity;
  readonly #start: Lsn;
  readonly #blocks: Uint8Array[] = [];
  #copiedBytes = 0;
  /** Where the next page begins whose head was not seen yet. */
  #nextPage = 0;
  #pageBytes = 0;
  #magic: number | undefined;
  #timeline = 0;
  readonly #mayBeRecycled: boolean;
  #unwrittenFrom: number | undefined;
  #isRecycled = false;

  /**
   * `mayBeRecycled`: it comes from a server's own file, which was that of an older segment before. Whose pages may stand at its
   * end, where it was not written yet.
   */
  constructor(segment: Segment, identity: WalIdentity, { mayBeRecycled = false }: { mayBeRecycled?: boolean } = {}) {
    this.segment = segment;
    this.#identity = identity;
    this.#mayBeRecycled = mayBeRecycled;
    this.#start = segmentStart(segment, identity.segmentBytes);
    this.#magic = identity.magic;
  }

  get name(): string {
    return segmentName(this.segment, this.#identity.segmentBytes);
  }

  /** Up to the page whose head is damaged, or has not come in full: what was not checked must not be archived. */
  get filledBytes(): number {
    return Math.min(this.#copiedBytes, this.#nextPage);
  }

  /** Where the first page begins that is empty, or an older segment's; none behind it is this one's. */
  get unwrittenFrom(): number | undefined {
    return this.#unwrittenFrom;
  }

  /** Pages of an older segment are at its end. */
  get isRecycled(): boolean {
    return this.#isRecycled;
  }

  /** The position behind the last byte that was checked. */
  get end(): Lsn {
    return this.#start + BigInt(this.filledBytes);
  }

  get isFull(): boolean {
    return this.filledBytes === this.#identity.segmentBytes;
  }

  /**
   * Copies what comes next, as far as it belongs to this segment, and returns how many bytes that were. Error: `corrupt` if
   * a page is not what it has to be; what came before it is good, and nothing can follow.
   */
  append(bytes: Uint8Array): number {
    const takenBytes = Math.min(bytes.length, this.#identity.segmentBytes - this.#copiedBytes);
    for (let at = 0; at < takenBytes; ) {
      const offset = this.#copiedBytes % BLOCK_BYTES;
      if (offset === 0) this.#blocks.push(allocateBlock(BLOCK_BYTES));
      const piece = bytes.subarray(at, Math.min(takenBytes, at + BLOCK_BYTES - offset));
      this.#blocks.at(-1)?.set(piece, offset);
      this.#copiedBytes += piece.length;
      at += piece.length;
    }
    this.#checkPages();
    return takenBytes;
  }

  /** The bytes from an offset up to another one, in views of the blocks: to be read or copied before `release`. */
  *views(from: number, to: number): Generator<Uint8Array> {
    assert(from <= to && to <= this.filledBytes, 'only bytes that were checked are read');
    for (let at = from; at < to; ) {
      const block = this.#blocks[Math.floor(at / BLOCK_BYTES)];
      assert(block !== undefined, 'the block is there');
      const offset = at % BLOCK_BYTES;
      const bytes = Math.min(to - at, BLOCK_BYTES - offset);
      yield block.subarray(offset, offset + bytes);
      at += bytes;
    }
  }

  /** Gives the memory back; nothing can be read any more. */
  release(): void {
    for (const block of this.#blocks.splice(0)) releaseBlock(block);
    this.#copiedBytes = 0;
  }

  #checkPages(): void {
    for (;;) {
      const headerBytes = this.#nextPage === 0 ? LONG_HEADER_BYTES : SHORT_HEADER_BYTES;
      if (this.#nextPage >= this.#identity.segmentBytes || this.#nextPage + headerBytes > this.#copiedBytes) return;
      const block = this.#blocks[Math.floor(this.#nextPage / BLOCK_BYTES)];
      assert(block !== undefined, 'a page lies within one block');
      const view = new DataView(block.buffer, block.byteOffset, block.byteLength);
      if (this.#nextPage === 0) this.#checkFirst(view);
      this.#checkPage(view, this.#nextPage % BLOCK_BYTES);
      this.#nextPage += this.#pageBytes;
    }
  }

  #checkFirst(view: DataView): void {
    const { isLong, systemIdentifier, segmentBytes, pageBytes, magic } = readLongPageHeader(view, 0);
    if (!isLong) throw this.#damaged(0, 'its first page has not the long header that begins a segment');
    const expected = this.#identity;
    if (systemIdentifier !== expected.systemIdentifier) {
      throw this.#damaged(0, `it is of the server ${systemIdentifier}, not of ${expected.systemIdentifier}`);
    }
    if (segmentBytes !== expected.segmentBytes) {
      throw this.#damaged(0, `it is made for segments of ${segmentBytes} bytes, not of ${expected.segmentBytes}`);
    }
    if (pageBytes < PAGE_BYTES_MIN || pageBytes > PAGE_BYTES_MAX || !Number.isInteger(Math.log2(pageBytes))) {
      throw this.#damaged(0, `no server has pages of ${pageBytes} bytes`);
    }
    this.#pageBytes = pageBytes;
    this.#magic ??= magic;
  }

  #checkPage(view: DataView, offset: number): void {
    const at = this.#nextPage;
    const { magic, timeline, address } = readPageHeader(view, offset);
    const isOlder = this.#mayBeRecycled && magic === this.#magic && address < this.#start;
    if (at > 0 && (isOlder || isZeroHeader(view, offset))) {
      this.#unwrittenFrom ??= at;
      this.#isRecycled ||= isOlder;
      return;
    }
    if (this.#unwrittenFrom !== undefined) {
      throw this.#damaged(at, 'a page follows one that was not written, which only the end of a segment has');
    }
    if (magic !== this.#magic) {
      throw this.#damaged(at, `its magic number is ${hex(magic)}, not ${hex(this.#magic ?? 0)} as that of its server`);
    }
    if (address !== this.#start + BigInt(at)) {
      throw this.#damaged(at, `it says that it belongs to ${formatLsn(address)}`);
    }
    if (timeline < this.#timeline || timeline > this.segment.timeline || timeline === 0) {
      throw this.#damaged(at, `it is of timeline ${timeline}, in WAL of timeline ${this.segment.timeline}`);
    }
    this.#timeline = timeline;
  }

  #damaged(offset: number, why: string): PgarkError {
    const place = formatLsn(this.#start + BigInt(offset));
    return new PgarkError('corrupt', `the page at ${place} of the WAL segment ${this.name} is damaged: ${why}`);
  }
}

function hex(number: number): string {
  return `0x${number.toString(16).toUpperCase()}`;
}
