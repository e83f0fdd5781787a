import { addToCrc32c, CRC32C_BEGIN, endOfCrc32c } from '../../src/postgres/wal/crc32c.ts';
import { WAL_IDENTITY } from './wal-bytes.ts';

export const PAGE_BYTES = 8192;
export const LOG_SEGMENT_BYTES = 2 ** 20;
/** Of its fourth segment. */
export const LOG_START = BigInt(LOG_SEGMENT_BYTES) * 3n;

/** A log as a server writes it, in memory: records one after another, with the heads of pages between. */
export class MadeLog {
  readonly bytes = Buffer.alloc(2 * LOG_SEGMENT_BYTES);
  at = 0;
  #before = 0n;

  get lsn(): bigint {
    return LOG_START + BigInt(this.at);
  }

  /** Returns where it begins. Without `data` it is nothing but its header. */
  record(manager: number, info: number, data: Buffer | undefined, xid = 0): bigint {
    const header = Buffer.alloc(24);
    const main =
      data === undefined
        ? Buffer.alloc(0)
        : data.length < 256
          ? Buffer.from([255, data.length])
          : Buffer.from([254, 0, 0, 0, 0]);
    if (data !== undefined && data.length >= 256) main.writeUInt32LE(data.length, 1);
    const record = Buffer.concat([header, main, data ?? Buffer.alloc(0)]);
    record.writeUInt32LE(record.length, 0);
    record.writeUInt32LE(xid, 4);
    record.writeBigUInt64LE(this.#before, 8);
    record.writeUInt8(info, 16);
    record.writeUInt8(manager, 17);
    const crc = addToCrc32c(addToCrc32c(CRC32C_BEGIN, record.subarray(24)), record.subarray(0, 20));
    record.writeUInt32LE(endOfCrc32c(crc), 20);
    if (this.at % PAGE_BYTES === 0) this.#head(0, 0);
    const lsn = this.lsn;
    this.#before = lsn;
    for (let done = 0; done < record.length; ) {
      if (this.at % PAGE_BYTES === 0) this.#head(1, record.length - done);
      const piece = record.subarray(done, done + PAGE_BYTES - (this.at % PAGE_BYTES));
      this.bytes.set(piece, this.at);
      this.at += piece.length;
      done += piece.length;
    }
    this.at = Math.ceil(this.at / 8) * 8;
    return lsn;
  }

  /** As a crash does: what was written of the last record stays, and the next one begins a page. */
  cutOff(lsn: bigint, before: bigint): void {
    this.at = Number(lsn - LOG_START) + PAGE_BYTES - (Number(lsn - LOG_START) % PAGE_BYTES);
    this.bytes.fill(0, this.at);
    this.#before = before;
    this.#head(8, 0);
  }

  /** Fills up with one record, so that the next one begins at this offset. */
  fillTo(offset: number): void {
    const headers = Math.ceil((offset - this.at) / PAGE_BYTES) + 2;
    for (let bytes = offset - this.at - 29 - headers * 24; ; bytes += 8) {
      const tried = this.#after(bytes + 29);
      if (tried === offset) return void this.record(10, 0, Buffer.alloc(bytes, 7));
      if (tried > offset) throw new Error(`no record ends at ${offset}`);
    }
  }

  /** Where the next record would begin behind one of so many bytes. */
  #after(bytes: number): number {
    let at = this.at;
    for (let left = bytes; left > 0; ) {
      if (at % PAGE_BYTES === 0) at += at % LOG_SEGMENT_BYTES === 0 ? 40 : 24;
      const piece = Math.min(left, PAGE_BYTES - (at % PAGE_BYTES));
      at += piece;
      left -= piece;
    }
    return Math.ceil(at / 8) * 8;
  }

  skipToNextSegment(): void {
    this.at = LOG_SEGMENT_BYTES;
  }

  #head(flags: number, rest: number): void {
    const isFirst = this.at % LOG_SEGMENT_BYTES === 0;
    this.bytes.writeUInt16LE(0xd110, this.at);
    this.bytes.writeUInt16LE(flags | (isFirst ? 2 : 0), this.at + 2);
    this.bytes.writeUInt32LE(1, this.at + 4);
    this.bytes.writeBigUInt64LE(LOG_START + BigInt(this.at), this.at + 8);
    this.bytes.writeUInt32LE(rest, this.at + 16);
    if (isFirst) {
      this.bytes.writeBigUInt64LE(BigInt(WAL_IDENTITY.systemIdentifier), this.at + 24);
      this.bytes.writeUInt32LE(LOG_SEGMENT_BYTES, this.at + 32);
      this.bytes.writeUInt32LE(PAGE_BYTES, this.at + 36);
    }
    this.at += isFirst ? 40 : 24;
  }
}

/** XLOG_TBLSPC_CREATE. */
export const TABLESPACE = { manager: 5, info: 0x00 } as const;

/** xl_tblspc_create_rec */
export function tablespaceData(oid: number, path: string): Buffer {
  const data = Buffer.alloc(4 + Buffer.byteLength(path) + 1);
  data.writeUInt32LE(oid);
  data.write(path, 4);
  return data;
}
