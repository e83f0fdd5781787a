import { PgarkError } from '../../common/errors.ts';

/** A position in the write-ahead log: bytes since its beginning, 64 bits. 0 is no position. */
export type Lsn = bigint;

/** Behind which none is. */
export const LSN_MAX: Lsn = 2n ** 64n - 1n;

const LSN_TEXT = /^([0-9A-F]{1,8})\/([0-9A-F]{1,8})$/i;

/** Reads `A2/F3000000`, as PostgreSQL writes it. Error: `postgres-failed`. */
export function parseLsn(text: string): Lsn {
  const match = LSN_TEXT.exec(text);
  if (match === null) throw new PgarkError('postgres-failed', `"${text}" is no position in the WAL, such as 0/3000028`);
  return (BigInt(`0x${match[1]}`) << 32n) | BigInt(`0x${match[2]}`);
}

/** As PostgreSQL up to version 18 writes it: two hexadecimal numbers without leading zeros. */
export function formatLsn(lsn: Lsn): string {
  return `${upperHex(lsn >> 32n)}/${upperHex(lsn & 0xffff_ffffn)}`;
}

function upperHex(number: bigint): string {
  return number.toString(16).toUpperCase();
}
