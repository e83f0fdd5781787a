import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type TarEntry } from './tar-header.ts';
import { TarReader } from './tar-reader.ts';
import { paddingAfter, tarEnd, writeTarHeader } from './write-tar-header.ts';

test('a header that is written is read as what it was', () => {
  fc.assert(
    fc.property(
      fc.stringMatching(/^[0-9A-F]{1,99}$/),
      fc.uint8Array({ maxLength: 1_100 }),
      fc.integer({ min: 0, max: 0o777 }),
      (name, content, mode) => {
        const entries: TarEntry[] = [];
        const pieces: Uint8Array[] = [];
        const handler = {
          begun: (entry: TarEntry) => void entries.push(entry),
          content: (piece: Uint8Array) => void pieces.push(piece),
          ended: () => {},
        };
        const reader = new TarReader(handler, 'pg_wal.tar');
        reader.push(writeTarHeader({ name, bytes: content.length, mode, modifiedSeconds: 1_700_000_000 }));
        reader.push(content);
        reader.push(paddingAfter(content.length));
        reader.push(tarEnd());
        reader.end();
        expect(entries).toEqual([
          { kind: 'file', name, bytes: content.length, mode, modifiedSeconds: 1_700_000_000, target: '' },
        ]);
        expect(Buffer.concat(pieces)).toEqual(Buffer.from(content));
      },
    ),
  );
});

test('a name or a length that no header holds is a defect of ours', () => {
  const file = { name: 'a', bytes: 1, mode: 0o600, modifiedSeconds: 0 };
  expect(() => writeTarHeader({ ...file, name: 'a'.repeat(100) })).toThrow('that a header holds');
  expect(() => writeTarHeader({ ...file, bytes: 8 ** 11 })).toThrow('that a header holds');
});
