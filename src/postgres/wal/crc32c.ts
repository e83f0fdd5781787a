/** Castagnoli's polynomial, reversed (RFC 3720, B.4); zlib's is another one. */
const POLYNOMIAL = 0x82f63b78;
const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit += 1) value = (value & 1) === 0 ? value >>> 1 : (value >>> 1) ^ POLYNOMIAL;
  return value;
});

/** Begins a CRC-32C that `addToCrc32c` goes on with and `endOfCrc32c` ends. */
export const CRC32C_BEGIN = 0xffffffff;

export function addToCrc32c(crc: number, bytes: Uint8Array): number {
  let value = crc;
  for (const byte of bytes) value = (TABLE[(value ^ byte) & 0xff] ?? 0) ^ (value >>> 8);
  return value;
}

export function endOfCrc32c(crc: number): number {
  return (crc ^ 0xffffffff) >>> 0;
}
