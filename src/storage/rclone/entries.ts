import { PgarkError } from '../../common/errors.ts';
import type { ByteStream } from '../../common/bytes.ts';
import { type ObjectInfo, type ObjectKey, SMALL_OBJECT_BYTES_MAX } from '../object-store.ts';
import type { RemoteTraits } from './features.ts';

/** A file or folder as `rclone lsjson` describes it: https://rclone.org/commands/rclone_lsjson/ . */
export interface Entry {
  /** Relative to what was listed. */
  readonly path: string;
  /** -1 where the remote does not know. */
  readonly bytes: number;
  readonly modifiedNs: bigint;
  readonly isFolder: boolean;
  /** Hexadecimal, in lower case. Missing names: not asked for, or not known of this object. */
  readonly hashes: Readonly<Record<string, string>>;
}

const LINE_CHARACTERS_MAX = 64 * 1024;
const TIME = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)$/;

function unreadable(): PgarkError {
  return new PgarkError('store-failed', 'rclone describes objects in a form that pgark does not know', {
    hint: 'report the version that "rclone version" prints',
  });
}

function parseTimeNs(text: string): bigint {
  const match = TIME.exec(text);
  const ms = match === null ? Number.NaN : Date.parse(`${match[1]}${match[3]}`);
  if (Number.isNaN(ms)) throw unreadable();
  return BigInt(ms) * 1_000_000n + BigInt((match?.[2] ?? '').padEnd(9, '0'));
}

export function parseEntry(text: string): Entry {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw unreadable();
  }
  if (typeof value !== 'object' || value === null) throw unreadable();
  const { Path: path, Size: bytes, ModTime: time, IsDir: isFolder, Hashes: hashes } = value as Record<string, unknown>;
  if (
    typeof path !== 'string' ||
    typeof bytes !== 'number' ||
    typeof time !== 'string' ||
    typeof isFolder !== 'boolean'
  ) {
    throw unreadable();
  }
  const known = Object.entries(hashes ?? {}).filter(
    (pair): pair is [string, string] => typeof pair[1] === 'string' && pair[1] !== '',
  );
  return {
    path,
    bytes,
    modifiedNs: parseTimeNs(time),
    isFolder,
    hashes: Object.fromEntries(known.map(([name, digest]) => [name, digest.toLowerCase()])),
  };
}

/** The entries of a list, which rclone writes one a line between `[` and `]`. */
export async function* parseEntries(output: ByteStream): AsyncGenerator<Entry> {
  const decoder = new TextDecoder();
  let rest = '';
  for await (const chunk of output) {
    rest += decoder.decode(chunk, { stream: true });
    const lines = rest.split('\n');
    rest = lines.pop() ?? '';
    if (rest.length > LINE_CHARACTERS_MAX) throw unreadable();
    for (const line of lines) yield* parseLine(line);
  }
  yield* parseLine(rest + decoder.decode());
}

function* parseLine(line: string): Generator<Entry> {
  const text = line.trim().replace(/,$/, '');
  if (text !== '' && text !== '[' && text !== ']') yield parseEntry(text);
}

/**
 * Up to here an etag is made of the content's hash, where the remote tells it for nothing: state objects change often,
 * within one second too. Above, some remotes would have to be asked object by object.
 */
export const HASHED_BYTES_MAX = SMALL_OBJECT_BYTES_MAX;

export function infoOf(key: ObjectKey, entry: Entry, traits: RemoteTraits): ObjectInfo {
  const { bytes, modifiedNs, hashes } = entry;
  const digest =
    traits.hashIsCheap && traits.hash !== undefined && bytes <= HASHED_BYTES_MAX ? hashes[traits.hash] : undefined;
  const time = (modifiedNs / traits.timeUnitNs).toString(36);
  return {
    key,
    bytes,
    modified: new Date(Number(modifiedNs / 1_000_000n)),
    etag: digest === undefined ? `t-${bytes.toString(36)}-${time}` : `${traits.hash}-${digest}`,
  };
}
