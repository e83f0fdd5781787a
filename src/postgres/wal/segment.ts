import { GIB, MIB } from '../../common/bytes.ts';
import { assert, PgarkError } from '../../common/errors.ts';
import type { Lsn } from './lsn.ts';

const SEGMENT_BYTES_MIN = MIB;
const SEGMENT_BYTES_MAX = GIB;
/** A segment's name counts in units of 4 GiB, and in segments within one. */
const LOG_BYTES = 0x1_0000_0000n;
const SEGMENT_NAME = /^([0-9A-F]{8})([0-9A-F]{8})([0-9A-F]{8})$/;

/** One file of WAL: its timeline, and which one it is from the beginning of the log, for the server's size of segments. */
export interface Segment {
  readonly timeline: number;
  readonly number: bigint;
}

/** Whether a server can have been made with it: a power of two from 1 MiB to 1 GiB. */
export function isSegmentBytes(bytes: number): boolean {
  return bytes >= SEGMENT_BYTES_MIN && bytes <= SEGMENT_BYTES_MAX && Number.isInteger(Math.log2(bytes));
}

/** Reads what `SHOW wal_segment_size` says: `16MB`, `1GB`. Error: `postgres-failed`. */
export function parseSegmentBytes(text: string): number {
  const [, digits, unit] = /^(\d+)(kB|MB|GB)$/.exec(text) ?? [];
  const bytes = Number(digits) * (unit === 'GB' ? GIB : unit === 'MB' ? MIB : 1024);
  if (isSegmentBytes(bytes)) return bytes;
  throw new PgarkError('postgres-failed', `the server says that its WAL segments have "${text}", which none has`);
}

/** The segment that holds the byte at the position. */
export function segmentAt(timeline: number, lsn: Lsn, segmentBytes: number): Segment {
  return { timeline, number: lsn / BigInt(segmentBytes) };
}

export function segmentStart({ number }: Pick<Segment, 'number'>, segmentBytes: number): Lsn {
  return number * BigInt(segmentBytes);
}

/** Where the next one starts. */
export function segmentEnd({ number }: Pick<Segment, 'number'>, segmentBytes: number): Lsn {
  return (number + 1n) * BigInt(segmentBytes);
}

/** The position of the start of the segment that holds the byte at the given one. */
export function segmentStartAt(lsn: Lsn, segmentBytes: number): Lsn {
  return lsn - (lsn % BigInt(segmentBytes));
}

/** 24 hexadecimal digits: timeline, 4 GiB, segment within them. */
export function segmentName({ timeline, number }: Segment, segmentBytes: number): string {
  assert(isSegmentBytes(segmentBytes), 'a segment has a power of two of bytes, from 1 MiB to 1 GiB');
  const perLog = LOG_BYTES / BigInt(segmentBytes);
  return timelineDigits(timeline) + eightDigits(number / perLog) + eightDigits(number % perLog);
}

/** Undefined for what is no segment's name, or not one of segments of that size. */
export function parseSegmentName(name: string, segmentBytes: number): Segment | undefined {
  const match = SEGMENT_NAME.exec(name);
  if (match === null) return undefined;
  const perLog = LOG_BYTES / BigInt(segmentBytes);
  const [timeline, log, within] = match.slice(1).map((digits) => BigInt(`0x${digits}`));
  if (timeline === undefined || log === undefined || within === undefined) return undefined;
  return timeline === 0n || within >= perLog
    ? undefined
    : { timeline: Number(timeline), number: log * perLog + within };
}

/** Whether it is the name of a segment of some size. */
export function isSegmentName(name: string): boolean {
  return SEGMENT_NAME.test(name) && !name.startsWith('00000000');
}

/** The first eight digits of a segment's name, and the name of a history file. */
export function timelineDigits(timeline: number): string {
  assert(Number.isInteger(timeline) && timeline > 0 && timeline <= 0xffff_ffff, 'a timeline is a positive number');
  return eightDigits(BigInt(timeline));
}

function eightDigits(number: bigint): string {
  return number.toString(16).toUpperCase().padStart(8, '0');
}
