import type { ObjectKey } from '../storage/object-store.ts';
import { keys } from './keys.ts';

/** The folder of one server's WAL. */
export interface WalFolder {
  readonly source: string;
  /** Digits. */
  readonly systemIdentifier: string;
}

/**
 * What the names of WAL files say, without endings. `file` is anything else that an archive_command is given: the last,
 * partial segment of a timeline, and the labels of backups.
 */
export type WalName =
  | { readonly kind: 'segment'; readonly name: string }
  /** Bytes of a segment from an offset up to another one. */
  | { readonly kind: 'delta'; readonly name: string; readonly from: number; readonly to: number }
  | { readonly kind: 'history'; readonly name: string }
  | { readonly kind: 'file'; readonly name: string };

/** One object of WAL, as its key tells it. */
export type WalObject = WalFolder & WalName & { readonly encryption: '.age' | '.enc' | undefined };

const KEY = /^([^/]+)\/wal\/(\d{1,20})\/(?:([0-9A-F]{8})\/)?([^/]+)$/;
const SEGMENT = /^[0-9A-F]{24}$/;
const DELTA = /^([0-9A-F]{24})\.([0-9A-F]{6,8})-([0-9A-F]{6,8})\.delta$/;
const FILE = /^[0-9A-F]{24}\.(partial|[0-9A-F]{8}\.backup)$/;
const HISTORY = /^[0-9A-F]{8}\.history$/;
const OFFSET_DIGITS_MIN = 6;
const DIGEST = '.sha256';

/** Of everything that is archived of a server, also of its timeline's beginning: the first eight digits of names. */
export function walPrefix({ source, systemIdentifier }: WalFolder, timelineDigits?: string): string {
  const prefix = keys.walPrefix(source, systemIdentifier);
  return timelineDigits === undefined ? prefix : `${prefix}${timelineDigits}/`;
}

/** Keys of all objects that hold something of the segment, whatever their endings, begin with it. */
export function walSegmentPrefix(folder: WalFolder, name: string): string {
  return `${walPrefix(folder, name.slice(0, 8))}${name}`;
}

/** `endings` say what was done: `.zst`, `.zst.age`. */
export function walKey(folder: WalFolder, wal: WalName, endings: string): ObjectKey {
  switch (wal.kind) {
    case 'history':
      return `${walPrefix(folder)}${wal.name}${endings}`;
    case 'segment':
    case 'file':
      return `${walSegmentPrefix(folder, wal.name)}${endings}`;
    case 'delta':
      return `${walSegmentPrefix(folder, wal.name)}.${offset(wal.from)}-${offset(wal.to)}.delta${endings}`;
    default:
      return wal satisfies never;
  }
}

/** Where the digest of an archived history is noted. Earlier versions know nothing of it, and pass over it. */
export function walHistoryDigestKey(folder: WalFolder, name: string): ObjectKey {
  return `${walPrefix(folder)}${name}${DIGEST}`;
}

export function isWalHistoryDigest(key: ObjectKey): boolean {
  return key.endsWith(DIGEST) && parseWalKey(key.slice(0, -DIGEST.length))?.kind === 'history';
}

/** What a WAL file's own name says; undefined for what no server archives. */
export function parseWalFileName(name: string): WalName | undefined {
  if (SEGMENT.test(name)) return { kind: 'segment', name };
  if (HISTORY.test(name)) return { kind: 'history', name };
  return FILE.test(name) ? { kind: 'file', name } : undefined;
}

/** Undefined for keys that are not of WAL, or not as pgark spells them. The source is as the key spells it. */
export function parseWalKey(key: ObjectKey): WalObject | undefined {
  const [, source, systemIdentifier, timeline, file] = KEY.exec(key) ?? [];
  if (source === undefined || systemIdentifier === undefined || file === undefined) return undefined;
  if (timeline === undefined) {
    return HISTORY.test(file)
      ? { source, systemIdentifier, kind: 'history', name: file, encryption: undefined }
      : undefined;
  }
  const [, base = '', encryption] = /^(.*)\.zst(\.age|\.enc)?$/.exec(file) ?? [];
  if (!base.startsWith(timeline)) return undefined;
  const wal = parseDelta(base) ?? parseWalFileName(base);
  if (wal === undefined || wal.kind === 'history') return undefined;
  return { source, systemIdentifier, ...wal, encryption: encryption as WalObject['encryption'] };
}

/** If a key is one of WAL, what sorts behind all of them in its folder. */
export function walFolderEnd(key: ObjectKey): ObjectKey | undefined {
  const wal = parseWalKey(key);
  return wal && `${wal.source}/wal/${wal.systemIdentifier}/~`;
}

function parseDelta(name: string): WalName | undefined {
  const [, segment, from, to] = DELTA.exec(name) ?? [];
  if (segment === undefined || from === undefined || to === undefined) return undefined;
  const delta = { from: Number.parseInt(from, 16), to: Number.parseInt(to, 16) };
  return delta.from < delta.to ? { kind: 'delta', name: segment, ...delta } : undefined;
}

/** Wide enough for every offset in a segment of 16 MiB; those of larger ones are as wide as they need. */
function offset(bytes: number): string {
  return bytes.toString(16).toUpperCase().padStart(OFFSET_DIGITS_MIN, '0');
}
