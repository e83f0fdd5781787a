import { expect, test } from 'vitest';
import { addToCrc32c, CRC32C_BEGIN, endOfCrc32c } from './crc32c.ts';

// RFC 3720, B.4, and the check value of the catalogues.
test.each([
  [Buffer.from('123456789'), 0xe3069283],
  [Buffer.alloc(32), 0x8a9136aa],
  [Buffer.alloc(32, 0xff), 0x62a8ab43],
])('a CRC-32C is the published one', (bytes, expected) => {
  const half = addToCrc32c(CRC32C_BEGIN, bytes.subarray(0, 5));
  expect(endOfCrc32c(addToCrc32c(half, bytes.subarray(5)))).toBe(expected);
});
