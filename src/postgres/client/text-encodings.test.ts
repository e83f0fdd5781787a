import { expect, test } from 'vitest';
import { decodeText } from './text-encodings.ts';

test.each([
  ['UTF8', [0xc3, 0xbc], 'ü'],
  ['LATIN1', [0xfc, 0x80], 'ü\u0080'],
  ['LATIN9', [0xa4], '€'],
  ['KOI8R', [0xda], 'з'],
  ['EUC_JP', [0xc6, 0xfc], '日'],
  ['an encoding that nobody knows', [0xc3, 0xbc], 'ü'],
  ['SQL_ASCII', [0xc3, 0xbc, 0xfc], 'ü\ufffd'],
  // Cut off.
  ['EUC_JP', [0x41, 0xc6], 'A\ufffd'],
])('text in %s is read as such, or taken for UTF-8', (encoding, bytes, text) => {
  expect(decodeText(Uint8Array.from(bytes), encoding)).toBe(text);
});
