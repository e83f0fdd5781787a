import { gzipSync, zstdCompressSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { compressionOf, compressionSuffix, defaultLevel, detectCompression } from './compression.ts';

test('levels default to gzip 5 and zstd 2', () => {
  expect(defaultLevel('gzip')).toBe(5);
  expect(defaultLevel('zstd')).toBe(2);
  expect(compressionOf('gzip')).toEqual({ algorithm: 'gzip', level: 5 });
  expect(compressionOf('zstd', 19)).toEqual({ algorithm: 'zstd', level: 19 });
});

test.each([
  ['gzip', 0],
  ['gzip', 10],
  ['zstd', 0],
  ['zstd', 20],
  ['zstd', -1],
  ['gzip', 2.5],
  ['gzip', Number.NaN],
] as const)('%s refuses level %d and says which it has', (algorithm, level) => {
  expect(() => compressionOf(algorithm, level)).toThrow(
    expect.objectContaining({
      code: 'config-invalid',
      message: `${algorithm} has no compression level ${level}`,
      hint: expect.stringContaining('whole number from 1 to'),
    }),
  );
});

test('none ignores the level', () => {
  expect(compressionOf('none', 6)).toEqual({ algorithm: 'none', level: 0 });
});

test('suffixes are those of the stock tools', () => {
  expect(['gzip', 'zstd', 'none'].map((name) => compressionSuffix(name as 'gzip'))).toEqual(['.gz', '.zst', '']);
});

describe('detectCompression', () => {
  test('knows gzip, zstd and a skippable frame before zstd by their first bytes', () => {
    expect(detectCompression(gzipSync('x'))).toBe('gzip');
    expect(detectCompression(zstdCompressSync('x'))).toBe('zstd');
    expect(detectCompression(Buffer.from('5e2a4d18', 'hex'))).toBe('zstd');
  });

  test('looks at the bytes of a view, not at the buffer behind it', () => {
    expect(detectCompression(Buffer.concat([Buffer.from('----'), zstdCompressSync('x')]).subarray(4))).toBe('zstd');
  });

  test('takes everything else for plain, also what is too short to tell', () => {
    for (const bytes of ['', '\x1f', '--\n-- PostgreSQL database dump', 'PGDMP', '\x1f\x8b\x07\x00']) {
      expect(detectCompression(Buffer.from(bytes, 'latin1'))).toBe('none');
    }
    expect(detectCompression(zstdCompressSync('x').subarray(0, 3))).toBe('none');
  });
});
