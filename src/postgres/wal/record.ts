import { PgarkError } from '../../common/errors.ts';
import { formatLsn, type Lsn } from './lsn.ts';
import { type ServerTime, serverTimeOf, serverTimeOfDate } from './server-time.ts';

/** XLogRecord (src/include/access/xlogrecord.h). */
export const RECORD_HEADER_BYTES = 24;
/** What of a record is looked at: the longest is that of a tablespace with its path, which has less than MAXPGPATH (1,024) bytes. */
export const RECORD_HEAD_BYTES_MAX = 1_088;

/** Resource managers (src/include/access/rmgrlist.h), and what they call the kinds of their records. */
const RM_XLOG = 0;
const XLOG_CHECKPOINT_SHUTDOWN = 0x00;
const XLOG_SWITCH = 0x40;
const XLOG_PARAMETER_CHANGE = 0x60;
const XLOG_RESTORE_POINT = 0x70;
const XLOG_END_OF_RECOVERY = 0x90;
const XLOG_CHECKPOINT_REDO = 0xe0;
const RM_XACT = 1;
const XACT_MASK = 0x70;
const XACT_KINDS: ReadonlyMap<number, 'commit' | 'abort'> = new Map([
  [0x00, 'commit'],
  [0x20, 'abort'],
  [0x30, 'commit'],
  [0x40, 'abort'],
]);

const RM_TBLSPC = 5;
const XLOG_TBLSPC_CREATE = 0x00;
const OID_BYTES = 4;
/** Header, the mark of short main data, an object's identifier and the end of an empty text. */
const TABLESPACE_WITHOUT_PATH_BYTES = RECORD_HEADER_BYTES + 2 + OID_BYTES + 1;

/** What marks main data and what may stand before it (xlogrecord.h, XLR_BLOCK_ID_…). */
const DATA_SHORT = 255;
const DATA_LONG = 254;
const ORIGIN = 253;
const TOPLEVEL_XID = 252;
const NAME_BYTES = 64;
/** CheckPoint (src/include/catalog/pg_control.h): two timelines behind a position, and its time in seconds since 1970. */
const CHECKPOINT_TIMELINES_OFFSET = 8;
const CHECKPOINT_TIME_OFFSET = 64;

/** A record by which a recovery can be aimed, or that it depends on. */
export type Landmark = { readonly lsn: Lsn; readonly end: Lsn } & (
  | {
      readonly kind: 'commit' | 'abort';
      /** By the server's clock, as the record has it. */
      readonly time: ServerTime;
      /** 0 for a prepared transaction, whose own is elsewhere. */
      readonly xid: number;
    }
  | { readonly kind: 'restore-point'; readonly time: ServerTime; readonly name: string }
  | { readonly kind: 'parameters'; readonly parameters: ServerParameters }
  /** The first thing that a server writes on a timeline of its own. */
  | { readonly kind: 'timeline'; readonly timeline: number; readonly time: ServerTime }
  /** Where a recovery may begin, as PostgreSQL 17 and newer mark it. */
  | { readonly kind: 'redo-point' }
  /** Made at a path, which is used as it stands by whoever replays it; empty where it lies in the data directory. */
  | { readonly kind: 'tablespace'; readonly oid: number; readonly path: string }
);

/** Settings of the primary below which a server does not recover its WAL. */
export interface ServerParameters {
  readonly max_connections: number;
  readonly max_worker_processes: number;
  readonly max_wal_senders: number;
  readonly max_prepared_transactions: number;
  readonly max_locks_per_transaction: number;
}

/** Five numbers of 32 bits in this order, as pg_control and the records of their changes have them. */
export function readServerParameters(view: DataView, offset: number): ServerParameters {
  const number = (index: number): number => view.getInt32(offset + 4 * index, true);
  return {
    max_connections: number(0),
    max_worker_processes: number(1),
    max_wal_senders: number(2),
    max_prepared_transactions: number(3),
    max_locks_per_transaction: number(4),
  };
}

/** Behind it the rest of its segment is empty. */
export function isSegmentSwitch(head: DataView): boolean {
  return head.getUint8(17) === RM_XLOG && (head.getUint8(16) & 0xf0) === XLOG_SWITCH;
}

/**
 * Undefined for a record that is none. `head`: its first bytes, `RECORD_HEAD_BYTES_MAX` at the most. Error: `corrupt` for one of a
 * tablespace that does not say where that is.
 */
export function landmarkOf(head: DataView, { lsn, end }: { lsn: Lsn; end: Lsn }): Landmark | undefined {
  const manager = head.getUint8(17);
  const info = head.getUint8(16) & 0xf0;
  if (manager === RM_XACT) {
    const kind = XACT_KINDS.get(info & XACT_MASK);
    const data = kind && mainData(head, 8);
    if (kind === undefined || data === undefined) return undefined;
    return { lsn, end, kind, time: serverTimeOf(head.getBigInt64(data, true)), xid: head.getUint32(4, true) };
  }
  if (manager === RM_TBLSPC && info === XLOG_TBLSPC_CREATE) {
    const made = tablespaceAt(head, mainData(head, OID_BYTES + 1));
    if (made !== undefined) return { lsn, end, kind: 'tablespace', ...made };
    throw new PgarkError('corrupt', `the record at ${formatLsn(lsn)} makes a tablespace, and does not say where`);
  }
  if (manager !== RM_XLOG) return undefined;
  if (info === XLOG_RESTORE_POINT) {
    const data = mainData(head, 8 + NAME_BYTES);
    if (data === undefined) return undefined;
    const bytes = Buffer.from(head.buffer, head.byteOffset + data + 8, NAME_BYTES);
    const nameBytes = bytes.indexOf(0);
    const name = bytes.toString('utf8', 0, nameBytes < 0 ? NAME_BYTES : nameBytes);
    return { lsn, end, kind: 'restore-point', time: serverTimeOf(head.getBigInt64(data, true)), name };
  }
  if (info === XLOG_PARAMETER_CHANGE) {
    const data = mainData(head, 20);
    return data === undefined
      ? undefined
      : { lsn, end, kind: 'parameters', parameters: readServerParameters(head, data) };
  }
  const begun = timelineBegun(head, info);
  if (begun !== undefined) return { lsn, end, kind: 'timeline', ...begun };
  if (info === XLOG_CHECKPOINT_REDO || info === XLOG_CHECKPOINT_SHUTDOWN) return { lsn, end, kind: 'redo-point' };
  return undefined;
}

/** xl_tblspc_create_rec (src/include/commands/tablespace.h), if all of it is there. */
function tablespaceAt(view: DataView, data: number | undefined): { oid: number; path: string } | undefined {
  if (data === undefined) return undefined;
  const bytes = Buffer.from(view.buffer, view.byteOffset + data + OID_BYTES, view.byteLength - data - OID_BYTES);
  const pathBytes = bytes.indexOf(0);
  return pathBytes < 0 ? undefined : { oid: view.getUint32(data, true), path: bytes.toString('utf8', 0, pathBytes) };
}

/**
 * Whether a record of which only the first bytes are there makes a tablespace at a path. Where not even its kind is there it is
 * found by `continuedTablespace`.
 */
export function beginsTablespace(head: DataView): boolean {
  return (
    head.byteLength > 17 &&
    head.getUint8(17) === RM_TBLSPC &&
    (head.getUint8(16) & 0xf0) === XLOG_TBLSPC_CREATE &&
    head.getUint32(0, true) > TABLESPACE_WITHOUT_PATH_BYTES
  );
}

/** How much of a header may lie before a page, as records are aligned, without the kind of the record. */
const HEADER_PIECES = [8, 16];

/**
 * A record that makes a tablespace, of which the page before holds but the beginning of the header: known by its kind, and by its
 * length, which has to be that of the bytes that are there. `before`: how many are missing.
 */
export function continuedTablespace(
  rest: DataView,
): { readonly before: number; readonly oid: number; readonly path: string } | undefined {
  for (const before of HEADER_PIECES) {
    if (rest.byteLength < TABLESPACE_WITHOUT_PATH_BYTES - before) continue;
    const whole = new Uint8Array(before + rest.byteLength);
    whole.set(new Uint8Array(rest.buffer, rest.byteOffset, rest.byteLength), before);
    const view = new DataView(whole.buffer);
    view.setUint32(0, whole.length, true);
    const mark = view.getUint8(RECORD_HEADER_BYTES);
    const length =
      mark === DATA_SHORT
        ? 2 + view.getUint8(RECORD_HEADER_BYTES + 1)
        : mark === DATA_LONG
          ? 5 + view.getUint32(RECORD_HEADER_BYTES + 1, true)
          : 0;
    if (RECORD_HEADER_BYTES + length !== whole.length || !beginsTablespace(view)) continue;
    const made = tablespaceAt(view, mainData(view, OID_BYTES + 1));
    if (made !== undefined) return { before, ...made };
  }
  return undefined;
}

/** By a promotion, or by a checkpoint at the end of any other recovery. */
function timelineBegun(head: DataView, info: number): { timeline: number; time: ServerTime } | undefined {
  if (info === XLOG_END_OF_RECOVERY) {
    const data = mainData(head, 12);
    if (data === undefined) return undefined;
    return { timeline: head.getUint32(data + 8, true), time: serverTimeOf(head.getBigInt64(data, true)) };
  }
  const data = info === XLOG_CHECKPOINT_SHUTDOWN ? mainData(head, CHECKPOINT_TIME_OFFSET + 8) : undefined;
  if (data === undefined) return undefined;
  const timeline = head.getUint32(data + CHECKPOINT_TIMELINES_OFFSET, true);
  const before = head.getUint32(data + CHECKPOINT_TIMELINES_OFFSET + 4, true);
  if (timeline === before) return undefined;
  const seconds = Number(head.getBigInt64(data + CHECKPOINT_TIME_OFFSET, true));
  return { timeline, time: serverTimeOfDate(new Date(seconds * 1_000)) };
}

/** Offset of the main data of a record without pages, if so many bytes of it are there. */
function mainData(head: DataView, bytes: number): number | undefined {
  for (let at = RECORD_HEADER_BYTES; at + 2 <= head.byteLength; ) {
    const id = head.getUint8(at);
    if (id === ORIGIN) at += 3;
    else if (id === TOPLEVEL_XID) at += 5;
    else {
      const data = id === DATA_SHORT ? at + 2 : id === DATA_LONG ? at + 5 : head.byteLength;
      return data + bytes <= head.byteLength ? data : undefined;
    }
  }
  return undefined;
}
