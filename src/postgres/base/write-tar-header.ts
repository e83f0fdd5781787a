import { assert } from '../../common/errors.ts';
import { TAR_BLOCK_BYTES } from './tar-header.ts';

const OCTAL_BYTES_MAX = 8 ** 11 - 1;
const BLANK = 0x20;

/** A file of an archive, as PostgreSQL's own programs write it. */
export interface WrittenFile {
  /** Of ASCII, 99 characters at the most. */
  readonly name: string;
  readonly bytes: number;
  /** Permission bits. */
  readonly mode: number;
  readonly modifiedSeconds: number;
}

/** The header (POSIX.1-1988 ustar) of a file up to 8 GiB, whose content follows, filled up with `paddingAfter`. */
export function writeTarHeader({ name, bytes, mode, modifiedSeconds }: WrittenFile): Uint8Array {
  assert(/^[ -~]{1,99}$/.test(name) && bytes <= OCTAL_BYTES_MAX, 'a name and a length that a header holds');
  const block = Buffer.alloc(TAR_BLOCK_BYTES);
  const number = (at: number, digits: number, value: number): void => {
    block.write(`${value.toString(8).padStart(digits, '0')} `, at, 'latin1');
  };
  block.write(name, 0, 'latin1');
  number(100, 7, mode);
  number(108, 7, 0);
  number(116, 7, 0);
  number(124, 11, bytes);
  number(136, 11, modifiedSeconds);
  block.write('0', 156, 'latin1');
  block.write('ustar\x0000', 257, 'latin1');
  block.write('postgres', 265, 'latin1');
  block.write('postgres', 297, 'latin1');
  block.fill(BLANK, 148, 156);
  const sum = block.reduce((total, byte) => total + byte, 0);
  number(148, 7, sum);
  return block;
}

/** Zeros behind a content of so many bytes. */
export function paddingAfter(bytes: number): Uint8Array {
  return new Uint8Array((TAR_BLOCK_BYTES - (bytes % TAR_BLOCK_BYTES)) % TAR_BLOCK_BYTES);
}

/** Two blocks of zeros, as at the end of every archive. */
export function tarEnd(): Uint8Array {
  return new Uint8Array(2 * TAR_BLOCK_BYTES);
}
