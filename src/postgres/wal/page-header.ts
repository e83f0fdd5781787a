import type { Lsn } from './lsn.ts';

/** XLOG_PAGE_MAGIC of each major version (src/include/access/xlog_internal.h); minor releases keep it. */
const MAGIC_OF_MAJOR: ReadonlyMap<number, number> = new Map([
  [13, 0xd106],
  [14, 0xd10d],
  [15, 0xd110],
  [16, 0xd113],
  [17, 0xd116],
  [18, 0xd118],
]);

/** XLP_LONG_HEADER. */
const LONG_HEADER_FLAG = 0x0002;

/** Fields of a short header that are looked at, and their end; the alignment behind them is not. */
export const SHORT_HEADER_BYTES = 20;
/** Of the first page of a segment. */
export const LONG_HEADER_BYTES = 40;

/** The head of a page of WAL (XLogPageHeaderData), as a little-endian server writes it. */
export interface PageHeader {
  readonly magic: number;
  readonly isLong: boolean;
  /** Of the WAL that the page was first written for: that of its segment, or an ancestor. */
  readonly timeline: number;
  readonly address: Lsn;
}

/** What the first page of a segment tells besides (XLogLongPageHeaderData). */
export interface LongPageHeader extends PageHeader {
  /** Digits; beyond 2^53. */
  readonly systemIdentifier: string;
  readonly segmentBytes: number;
  readonly pageBytes: number;
}

/** The magic number of a version's WAL; undefined for one that is not known here. */
export function magicOf(major: number): number | undefined {
  return MAGIC_OF_MAJOR.get(major);
}

/** Reads the `SHORT_HEADER_BYTES` at the offset. */
export function readPageHeader(bytes: DataView, offset: number): PageHeader {
  return {
    magic: bytes.getUint16(offset, true),
    isLong: (bytes.getUint16(offset + 2, true) & LONG_HEADER_FLAG) !== 0,
    timeline: bytes.getUint32(offset + 4, true),
    address: bytes.getBigUint64(offset + 8, true),
  };
}

/** Reads the `LONG_HEADER_BYTES` at the offset, whatever its flag says. */
export function readLongPageHeader(bytes: DataView, offset: number): LongPageHeader {
  return {
    ...readPageHeader(bytes, offset),
    systemIdentifier: String(bytes.getBigUint64(offset + 24, true)),
    segmentBytes: bytes.getUint32(offset + 32, true),
    pageBytes: bytes.getUint32(offset + 36, true),
  };
}

/** Whether there is no header at all: after a switch of segments the rest of one is zeros. */
export function isZeroHeader(bytes: DataView, offset: number): boolean {
  return (
    bytes.getBigUint64(offset) === 0n && bytes.getBigUint64(offset + 8) === 0n && bytes.getUint32(offset + 16) === 0
  );
}
