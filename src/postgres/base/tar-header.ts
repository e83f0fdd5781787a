import { PgarkError } from '../../common/errors.ts';
import { type ByteString, byteStringOf, readable } from '../toc/byte-string.ts';

/** Headers and contents come in blocks of so many bytes, the last one of a content padded with zeros. */
export const TAR_BLOCK_BYTES = 512;

/** Offsets of a header's fields, from and before (POSIX.1-1988 ustar; PostgreSQL's src/port/tar.c). */
const NAME = [0, 100] as const;
const MODE = [100, 108] as const;
const SIZE = [124, 136] as const;
const MODIFIED = [136, 148] as const;
const CHECKSUM = [148, 156] as const;
const TYPE = 156;
const LINK = [157, 257] as const;
const MAGIC = [257, 263] as const;
const PREFIX = [345, 500] as const;

const USTAR = 'ustar\0';
const BLANK = 0x20;
/** The highest bit of a number's field: the rest is the number itself, not octal digits. For files beyond 8 GiB. */
const BINARY_NUMBER = 0x80;

/** What a header says of a file, a directory or a symbolic link. */
export interface TarEntry {
  readonly kind: 'file' | 'directory' | 'link';
  /** Relative, without the slash at the end that directories have, nor the `./` that PostgreSQL begins some with. */
  readonly name: ByteString;
  /** Of the content that follows; 0 for all but files. */
  readonly bytes: number;
  /** Permission bits. */
  readonly mode: number;
  /** Seconds since 1970. */
  readonly modifiedSeconds: number;
  /** Of a link, where it points to. */
  readonly target: ByteString;
}

const KINDS: Readonly<Record<string, TarEntry['kind']>> = { '0': 'file', '5': 'directory', '2': 'link' };

/** Whether a block is the end mark, or one of the zeros behind it. */
export function isZeroBlock(block: Uint8Array): boolean {
  return block.every((byte) => byte === 0);
}

/**
 * Reads a header as PostgreSQL writes it. Error: `corrupt` for anything else, such as the extensions of GNU and pax, which
 * PostgreSQL never uses. `what` names the archive for the message.
 */
export function readTarHeader(block: Buffer, what: string): TarEntry {
  const damaged = (why: string): PgarkError => new PgarkError('corrupt', `${what} is damaged: ${why}`);
  if (numberIn(block, CHECKSUM) !== checksumOf(block)) throw damaged('the checksum of a header is wrong');
  if (block.toString('latin1', ...MAGIC) !== USTAR) throw damaged('a header is not one of ustar');
  const type = block.toString('latin1', TYPE, TYPE + 1);
  const kind = KINDS[type];
  const raw = textIn(block, NAME);
  const name = raw.replace(/^\.\//, '').replace(/\/+$/, '') as ByteString;
  if (kind === undefined) throw damaged(`${readable(raw)} is of type "${type}", which PostgreSQL does not write`);
  if (name === '') throw damaged('a header has no name');
  if (textIn(block, PREFIX) !== '') throw damaged(`the name of ${readable(name)} is in two parts`);
  const bytes = numberIn(block, SIZE);
  const mode = numberIn(block, MODE);
  const modifiedSeconds = numberIn(block, MODIFIED);
  if (![bytes, mode, modifiedSeconds].every((number) => Number.isSafeInteger(number))) {
    throw damaged(`a number in the header of ${readable(name)} is none`);
  }
  if (kind !== 'file' && bytes !== 0) throw damaged(`${readable(name)} is a ${kind} with content`);
  const target = textIn(block, LINK);
  if ((kind === 'link') !== (target !== '')) throw damaged(`${readable(name)} is a ${kind} to "${readable(target)}"`);
  return { kind, name, bytes, mode: mode & 0o7777, modifiedSeconds, target };
}

/** The sum of all bytes, those of the checksum itself taken for blanks. */
function checksumOf(block: Uint8Array): number {
  let sum = (CHECKSUM[1] - CHECKSUM[0]) * BLANK;
  for (let at = 0; at < TAR_BLOCK_BYTES; at += 1) {
    if (at < CHECKSUM[0] || at >= CHECKSUM[1]) sum += block[at] ?? 0;
  }
  return sum;
}

/** Up to the first zero; a name may fill its field. */
function textIn(block: Buffer, [from, before]: readonly [number, number]): ByteString {
  const end = block.indexOf(0, from);
  return byteStringOf(block.subarray(from, end < 0 ? before : Math.min(end, before)));
}

/** NaN for what is no number. */
function numberIn(block: Buffer, [from, before]: readonly [number, number]): number {
  if (((block[from] ?? 0) & BINARY_NUMBER) !== 0) {
    return block.subarray(from + 1, before).reduce((number, byte) => number * 256 + byte, 0);
  }
  const digits = /^ *([0-7]+)[ \0]*$/.exec(block.toString('latin1', from, before))?.[1];
  return digits === undefined ? Number.NaN : Number.parseInt(digits, 8);
}
