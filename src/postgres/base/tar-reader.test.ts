import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type Member, sealHeader, tarHeader, tarOf } from '../../../test/support/base-archive.ts';
import { isPgarkError } from '../../common/errors.ts';
import type { TarEntry } from './tar-header.ts';
import { TarReader } from './tar-reader.ts';

interface Seen {
  readonly entry: TarEntry;
  readonly content: Buffer;
}

function read(archive: Uint8Array, chunkBytes: number): Seen[] {
  const seen: Seen[] = [];
  let entry: TarEntry | undefined;
  let pieces: Buffer[] = [];
  const reader = new TarReader(
    {
      begun: (begun) => {
        expect(entry).toBeUndefined();
        entry = begun;
        pieces = [];
      },
      content: (piece) => void pieces.push(Buffer.from(piece)),
      ended: () => {
        if (entry !== undefined) seen.push({ entry, content: Buffer.concat(pieces) });
        entry = undefined;
      },
    },
    'base.tar',
  );
  for (let at = 0; at < archive.length; at += chunkBytes) reader.push(archive.subarray(at, at + chunkBytes));
  reader.end();
  return seen;
}

function refusal(archive: Uint8Array): string {
  try {
    read(archive, 1_000);
  } catch (error) {
    if (isPgarkError(error, 'corrupt')) return error.message;
    throw error;
  }
  throw new Error('it was read');
}

/** Bytes as characters; any but zero, and no slash, which would be a directory's; nor the folder of all, which has no name. */
const name = fc.stringMatching(/^[\u0001-\u002E\u0030-\u00FF]{1,98}$/).filter((each) => each !== '.');
const member: fc.Arbitrary<Member> = fc.oneof(
  fc.record({
    name,
    type: fc.constant('0' as const),
    content: fc.uint8Array({ maxLength: 1_600 }),
    mode: fc.constant(0o640),
  }),
  fc.record({ name, type: fc.constant('5' as const) }),
  fc.record({ name, type: fc.constant('2' as const), target: name }),
);

describe('an archive of a base backup', () => {
  test('is read as it was written, in pieces of any length, with and without an end mark', () => {
    fc.assert(
      fc.property(
        fc.array(member, { maxLength: 8 }),
        fc.integer({ min: 1, max: 2_000 }),
        fc.boolean(),
        (members, chunkBytes, endMark) => {
          const seen = read(tarOf(members, { endMark }), chunkBytes);
          const kinds = { 0: 'file', 5: 'directory', 2: 'link' } as const;
          expect(seen).toEqual(
            members.map(({ name: path, type = '0', content, target = '', mode = 0o600 }) => ({
              entry: {
                kind: kinds[type],
                name: path,
                bytes: content?.length ?? 0,
                mode,
                modifiedSeconds: 1_700_000_000,
                target,
              },
              content: Buffer.from(content ?? []),
            })),
          );
        },
      ),
    );
  });

  test('may hold files beyond 8 GiB, of which nothing is kept', () => {
    const bytes = 9 * 2 ** 30 + 5;
    let left = 0;
    let ended = 0;
    const handler = {
      begun: (entry: TarEntry) => (left = entry.bytes),
      content: (piece: Uint8Array) => (left -= piece.length),
      ended: () => (ended += 1),
    };
    const reader = new TarReader(handler, 'base.tar');
    reader.push(tarHeader({ name: 'base/1/2' }, bytes));
    const block = new Uint8Array(2 ** 30);
    for (let sent = 0; sent < bytes; sent += block.length)
      reader.push(block.subarray(0, Math.min(block.length, bytes - sent)));
    expect({ left, ended }).toEqual({ left: 0, ended: 1 });
    reader.push(new Uint8Array(507));
    reader.push(tarHeader({ name: 'next' }));
    expect(ended).toBe(2);
  });

  test('is refused where it breaks off, wherever that shows', () => {
    const archive = tarOf([{ name: 'PG_VERSION', content: Buffer.from('15\n') }]);
    expect(refusal(archive.subarray(0, 100))).toBe('base.tar is truncated: it ends within a block');
    expect(refusal(archive.subarray(0, 513))).toBe(
      'base.tar is truncated: it ends 2 bytes before the end of PG_VERSION',
    );
    expect(refusal(archive.subarray(0, 1_000))).toBe('base.tar is truncated: it ends within a block');
    expect(read(archive.subarray(0, 1_024), 7)).toHaveLength(1);
  });

  const changed = (change: (header: Buffer) => void, of: Member = { name: 'a' }): Buffer => {
    const header = tarHeader(of);
    change(header);
    return sealHeader(header);
  };

  test.each<[string, Buffer, string]>([
    ['a flipped bit', Buffer.concat([tarHeader({ name: 'a' })]).fill('b', 0, 1), 'the checksum of a header is wrong'],
    ['GNU’s long names', changed((header) => header.write('L', 156)), 'is of type "L"'],
    ['headers of pax', changed((header) => header.write('x', 156)), 'is of type "x"'],
    ['a hard link', changed((header) => header.write('1', 156)), 'is of type "1"'],
    ['GNU’s magic', changed((header) => header.write('ustar  \0', 257, 8, 'latin1')), 'is not one of ustar'],
    ['a name in two parts', changed((header) => header.write('b', 345)), 'is in two parts'],
    ['no name', changed((header) => header.fill(0, 0, 1)), 'has no name'],
    ['a size that is none', changed((header) => header.write('zzz', 124)), 'a number in the header of a'],
    ['a size beyond numbers', changed((header) => header.fill(0xff, 124, 136)), 'a number in the header of a'],
    [
      'a directory with content',
      changed((header) => header.write('00000000007 ', 124), { name: 'd', type: '5' }),
      'with content',
    ],
    ['a file with a target', changed((header) => header.write('b', 157)), 'is a file to "b"'],
    [
      'a link without one',
      changed((header) => header.fill(0, 157, 257), { name: 'l', type: '2', target: 'b' }),
      'is a link to ""',
    ],
    [
      'a header behind the end',
      Buffer.concat([Buffer.alloc(512), tarHeader({ name: 'a' })]),
      'goes on behind its end mark',
    ],
  ])('is refused with %s', (_, archive, words) => {
    expect(refusal(archive)).toContain(words);
  });

  test('of nonsense is refused with a sentence', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 3_000 }), (bytes) => {
        fc.pre(bytes.some((byte) => byte !== 0));
        expect(refusal(bytes)).toMatch(/^base\.tar is (damaged|truncated): /);
      }),
    );
  });
});
