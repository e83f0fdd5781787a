import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { RowsHash, sumOfHashes } from './rows-hash.ts';

const WORD = 2n ** 64n - 1n;

function rotl(word: bigint, bits: bigint): bigint {
  return ((word << bits) | (word >> (64n - bits))) & WORD;
}

/** MurmurHash3_x64_128 as its author writes it, slow and plain: the first half is the low one. */
function murmur(bytes: Uint8Array, seed = 0n): bigint {
  const [c1, c2] = [0x87c37b91114253d5n, 0x4cf5ad432745937fn];
  const mixed = (word: bigint, first: bigint, bits: bigint, second: bigint): bigint =>
    (rotl((word * first) & WORD, bits) * second) & WORD;
  let [h1, h2] = [seed, seed];
  const words = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  let at = 0;
  for (; at + 16 <= bytes.length; at += 16) {
    h1 ^= mixed(words.getBigUint64(at, true), c1, 31n, c2);
    h1 = (((rotl(h1, 27n) + h2) & WORD) * 5n + 0x52dce729n) & WORD;
    h2 ^= mixed(words.getBigUint64(at + 8, true), c2, 33n, c1);
    h2 = (((rotl(h2, 31n) + h1) & WORD) * 5n + 0x38495ab5n) & WORD;
  }
  const tail = bytes.subarray(at);
  const wordOf = (part: Uint8Array): bigint => part.reduceRight((word, byte) => (word << 8n) | BigInt(byte), 0n);
  h2 ^= mixed(wordOf(tail.subarray(8)), c2, 33n, c1);
  h1 ^= mixed(wordOf(tail.subarray(0, 8)), c1, 31n, c2);
  const avalanche = (word: bigint): bigint => {
    let value = ((word ^ (word >> 33n)) * 0xff51afd7ed558ccdn) & WORD;
    value = ((value ^ (value >> 33n)) * 0xc4ceb9fe1a85ec53n) & WORD;
    return value ^ (value >> 33n);
  };
  [h1, h2] = [h1 ^ BigInt(bytes.length), h2 ^ BigInt(bytes.length)];
  h1 = (h1 + h2) & WORD;
  h2 = (h2 + h1) & WORD;
  [h1, h2] = [avalanche(h1), avalanche(h2)];
  h1 = (h1 + h2) & WORD;
  h2 = (h2 + h1) & WORD;
  return (h2 << 64n) | h1;
}

function hashOf(text: Uint8Array, chunkBytes = Math.max(1, text.length)): string {
  const hash = new RowsHash();
  for (let at = 0; at < text.length; at += chunkBytes) hash.update(text.subarray(at, at + chunkBytes));
  return hash.digest();
}

function linesOf(rows: readonly Uint8Array[]): Buffer {
  return Buffer.concat(rows.flatMap((row) => [row, Buffer.from('\n')]));
}

function expectedOf(rows: readonly Uint8Array[]): string {
  const sum = rows.reduce((total, each) => total + murmur(linesOf([each])), 0n);
  return BigInt.asUintN(128, sum).toString(16).padStart(32, '0');
}

const byte = fc.integer({ min: 0, max: 254 }).map((value) => (value === 0x0a ? 255 : value));
const row = fc.array(byte, { maxLength: 70 }).map((bytes) => Uint8Array.from(bytes));

describe('the hash of rows', () => {
  test('is made of a hash that is the one that was published', () => {
    // The author's own test (`VerificationTest` of SMHasher): hashes of keys of all lengths, hashed.
    const hashes = Buffer.alloc(256 * 16);
    const key = Uint8Array.from({ length: 256 }, (_, index) => index);
    for (let length = 0; length < 256; length++) {
      const value = murmur(key.subarray(0, length), BigInt(256 - length));
      hashes.writeBigUInt64LE(value & WORD, 16 * length);
      hashes.writeBigUInt64LE(value >> 64n, 16 * length + 8);
    }
    expect(Number(murmur(hashes) & 0xffffffffn)).toBe(0x6384ba69);
  });

  test('is the sum of those of its lines, however the text is cut', () => {
    fc.assert(
      fc.property(fc.array(row, { maxLength: 12 }), fc.integer({ min: 1, max: 90 }), (rows, chunkBytes) => {
        const text = linesOf(rows);
        expect(hashOf(text, chunkBytes)).toBe(expectedOf(rows));
        expect(hashOf(text)).toBe(expectedOf(rows));
      }),
    );
  });

  test('takes lines of every length beside each other, and a line that is longer than what is read at once', () => {
    const rows = Array.from({ length: 70 }, (_, length) => Uint8Array.from({ length }, (_byte, at) => 0x20 + at));
    const long = Uint8Array.from({ length: 200_003 }, (_, at) => 0x20 + (at % 91));
    for (const some of [rows, [long], [...rows, long, ...rows]]) {
      expect(hashOf(linesOf(some), 100_001)).toBe(expectedOf(some));
    }
  });

  test('does not depend on the order, and tells a row that is there twice from one that is not there', () => {
    const [a, b, c] = ['1\tone', '2\ttwo', '3\t\\N'].map((text) => Buffer.from(text));
    if (a === undefined || b === undefined || c === undefined) throw new Error('there are three');
    expect(hashOf(linesOf([a, b, c]))).toBe(hashOf(linesOf([c, a, b])));
    expect(hashOf(linesOf([a, a, b]))).not.toBe(hashOf(linesOf([b])));
    expect(hashOf(linesOf([]))).toBe('0'.repeat(32));
    expect(hashOf(linesOf([Buffer.alloc(0)]))).not.toBe(hashOf(linesOf([])));
  });

  test('of a table is the sum of those of its pieces', () => {
    fc.assert(
      fc.property(fc.array(row, { maxLength: 6 }), fc.array(row, { maxLength: 6 }), (first, second) => {
        const pieces = [first, second].map((rows) => hashOf(linesOf(rows)));
        expect(sumOfHashes(pieces)).toBe(expectedOf([...first, ...second]));
      }),
    );
    expect(sumOfHashes([])).toBe('0'.repeat(32));
  });

  test('several at a time do not get in each other’s way', () => {
    const text = linesOf(Array.from({ length: 100 }, (_, index) => Buffer.from(`row ${index} of a table`)));
    const [one, other] = [new RowsHash(), new RowsHash()];
    for (let at = 0; at < text.length; at += 7) {
      one.update(text.subarray(at, at + 7));
      other.update(text.subarray(at, at + 7));
    }
    expect([one.digest(), other.digest()]).toEqual([hashOf(text), hashOf(text)]);
  });
});
