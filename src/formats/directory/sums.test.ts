import { expect, test } from 'vitest';
import { parseSums } from './sums.ts';

const SHA256 = '0123456789abcdef'.repeat(4);

test('a list of SHA-256 sums is read as sha256sum writes it', () => {
  const text = `${SHA256}  toc.dat\n${SHA256} *3.dat.zst.age\n`;
  expect([...parseSums(Buffer.from(text), 'SHA256SUMS')]).toEqual([
    ['toc.dat', SHA256],
    ['3.dat.zst.age', SHA256],
  ]);
});

test.each([
  ['a line that is none', `${SHA256} toc.dat\n`],
  ['a path that leads elsewhere', `${SHA256}  ../toc.dat\n`],
  ['a file that stands there twice', `${SHA256}  toc.dat\n${SHA256}  toc.dat\n`],
])('a list with %s is corrupt', (_what, text) => {
  expect(() => parseSums(Buffer.from(text), 'shop/SHA256SUMS')).toThrow(/^shop\/SHA256SUMS is no list/);
});
