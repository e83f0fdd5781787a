import { describe, expect, test } from 'vitest';
import { SAMPLE_MAJORS, customSample, directorySample } from '../../../test/support/toc-samples.ts';
import { toDirectory } from './to-directory.ts';
import { writeToc } from './write-toc.ts';

describe('a table of contents made for a directory', () => {
  test.each(SAMPLE_MAJORS)('is the one that pg_dump %i itself writes for it', (major) => {
    const custom = customSample(major);
    const made = toDirectory(custom, 'none');
    const own = { ...directorySample(major), createdAt: custom.createdAt };
    expect(own.entries.some((entry) => entry.file.startsWith('blobs'))).toBe(true);
    expect(own.entries.some((entry) => entry.file.endsWith('.dat'))).toBe(true);
    expect(made).toEqual(own);
    expect(Buffer.from(writeToc(made)).equals(writeToc(own))).toBe(true);
  });

  test.each([
    [15, 'none', 0],
    [15, 'gzip', -1],
    [15, 'lz4', 0],
    [15, 'zstd', 0],
    [16, 'none', 0],
    [16, 'gzip', 1],
    [16, 'lz4', 2],
    [16, 'zstd', 3],
    [17, 'zstd', 3],
  ] as const)('says in the way of pg_dump %i that its files are compressed by %s', (major, compression, expected) => {
    expect(toDirectory(customSample(major), compression).compression).toBe(expected);
  });
});
