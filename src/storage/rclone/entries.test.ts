import { describe, expect, test } from 'vitest';
import type { ByteStream } from '../../common/bytes.ts';
import { type Entry, HASHED_BYTES_MAX, infoOf, parseEntries, parseEntry } from './entries.ts';
import type { RemoteTraits } from './features.ts';

const traits: RemoteTraits = {
  streams: true,
  publication: 'direct',
  bucketBased: true,
  bucketMissing: false,
  hash: 'md5',
  hashIsCheap: true,
  timeUnitNs: 1_000_000_000n,
};
const line = (more: object): string =>
  JSON.stringify({ Path: 'a', Name: 'a', Size: 3, ModTime: '2026-11-20T02:00:00.123456789Z', IsDir: false, ...more });
const pieces = async function* (text: string, length: number): ByteStream {
  const bytes = Buffer.from(text);
  for (let start = 0; start < bytes.length; start += length) yield bytes.subarray(start, start + length);
};
const all = async (text: string, length: number): Promise<Entry[]> => {
  const entries: Entry[] = [];
  for await (const entry of parseEntries(pieces(text, length))) entries.push(entry);
  return entries;
};

describe('an entry', () => {
  test('is read with its time to the nanosecond, from any zone, and with lower-case hashes', () => {
    expect(parseEntry(line({ ModTime: '2026-11-20T03:00:00.5+01:00', Hashes: { md5: 'ABCDEF', sha1: '' } }))).toEqual({
      path: 'a',
      bytes: 3,
      modifiedNs: BigInt(Date.UTC(2026, 10, 20, 2)) * 1_000_000n + 500_000_000n,
      isFolder: false,
      hashes: { md5: 'abcdef' },
    });
  });

  test.each([
    '',
    '[]',
    'null',
    '{}',
    'Usage:',
    line({ Size: '3' }),
    line({ ModTime: 'yesterday' }),
    line({ IsDir: null }),
  ])('is not read from %j', (text) => {
    expect(() => parseEntry(text)).toThrow(expect.objectContaining({ code: 'store-failed' }));
  });
});

describe('a list', () => {
  const text = `[\n${line({})},\n${line({ Path: 'ü/😀"b' })}\n]\n`;
  test.each([1, 2, 7, 1_000])('is read whole from pieces of %i bytes', async (length) => {
    expect((await all(text, length)).map(({ path }) => path)).toEqual(['a', 'ü/😀"b']);
  });

  test('may be empty', async () => {
    expect(await all('[\n]\n', 100)).toEqual([]);
  });

  test('with a line that does not end is given up', async () => {
    await expect(all(`[\n{"Path":"${'x'.repeat(200_000)}`, 10_000)).rejects.toMatchObject({ code: 'store-failed' });
  });
});

describe('an etag', () => {
  const entry = parseEntry(line({ Hashes: { md5: 'abc' } }));
  test('is the hash of what is small, where that costs nothing', () => {
    expect(infoOf('a', entry, traits).etag).toBe('md5-abc');
    expect(infoOf('a', entry, { ...traits, hashIsCheap: false }).etag).toMatch(/^t-/);
  });

  test('of what is large does not depend on whether the hash was asked for', () => {
    const large = { ...entry, bytes: HASHED_BYTES_MAX + 1 };
    expect(infoOf('a', large, traits).etag).toBe(infoOf('a', { ...large, hashes: {} }, traits).etag);
  });

  test('is made of times as exact as all of the remote’s answers have them', () => {
    const large = { ...entry, bytes: HASHED_BYTES_MAX + 1 };
    const inSeconds = { ...large, modifiedNs: (large.modifiedNs / 1_000_000_000n) * 1_000_000_000n };
    expect(infoOf('a', large, traits).etag).toBe(infoOf('a', inSeconds, traits).etag);
    expect(infoOf('a', large, { ...traits, timeUnitNs: 1n }).etag).not.toBe(
      infoOf('a', inSeconds, { ...traits, timeUnitNs: 1n }).etag,
    );
  });
});
