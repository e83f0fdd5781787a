import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { manifestOf } from '../../../test/support/base-archive.ts';
import { isPgarkError } from '../../common/errors.ts';
import { byteStringOf } from '../toc/byte-string.ts';
import { BackupManifestReader, type BackupManifest, type ManifestFile } from './backup-manifest.ts';

function read(bytes: Uint8Array, chunkBytes = 1_000): { files: ManifestFile[]; manifest: BackupManifest } {
  const files: ManifestFile[] = [];
  const reader = new BackupManifestReader((file) => void files.push(file));
  for (let at = 0; at < bytes.length; at += chunkBytes) reader.push(bytes.subarray(at, at + chunkBytes));
  return { files, manifest: reader.end() };
}

function refusal(bytes: Uint8Array): string {
  try {
    read(bytes);
  } catch (error) {
    if (isPgarkError(error, 'corrupt')) return error.message;
    throw error;
  }
  throw new Error('it was read');
}

const someFiles = fc.array(
  fc.record({
    path: fc.string({ unit: 'grapheme', minLength: 1, maxLength: 40 }),
    content: fc.uint8Array({ maxLength: 9 }),
  }),
  { maxLength: 5 },
);

describe('a backup_manifest', () => {
  test('is read as it was written, in pieces of any length, its identifier to the last digit', () => {
    fc.assert(
      fc.property(someFiles, fc.integer({ min: 1, max: 400 }), fc.constantFrom(1, 2), (files, chunkBytes, version) => {
        const { files: seen, manifest } = read(manifestOf(files, { version }), chunkBytes);
        expect(seen.map(({ path, bytes }) => ({ path: Buffer.from(path, 'latin1').toString(), bytes }))).toEqual(
          files.map(({ path, content }) => ({ path: Buffer.from(path).toString(), bytes: content.length })),
        );
        expect(manifest).toEqual({
          version,
          systemIdentifier: version === 1 ? undefined : '7712539176122962914',
          walRanges: [{ timeline: 1, startLsn: '0/2000028', endLsn: '1/FF000100' }],
        });
      }),
    );
  });

  test('tells checksums, and paths that are no UTF-8', () => {
    const body = manifestOf([{ path: 'a', content: Buffer.from('x') }]).toString();
    const encoded = resealed(body.replace('"Path": "a"', '"Encoded-Path": "C3286F"'));
    expect(read(encoded).files).toEqual([
      {
        path: byteStringOf(Buffer.from('c3286f', 'hex')),
        bytes: 1,
        algorithm: 'SHA256',
        checksum: '2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881',
      },
    ]);
  });

  test('that was changed in any byte is refused', () => {
    const whole = manifestOf([{ path: 'global/pg_control', content: Buffer.from('abc') }]);
    fc.assert(
      fc.property(fc.nat({ max: whole.length - 2 }), fc.integer({ min: 1, max: 255 }), (at, difference) => {
        const damaged = Buffer.from(whole);
        damaged.writeUInt8((damaged.readUInt8(at) + difference) % 256, at);
        expect(refusal(damaged)).toMatch(/^the backup_manifest cannot be read: /);
      }),
    );
  });

  test('that breaks off anywhere is refused', () => {
    const whole = manifestOf([{ path: 'a', content: Buffer.from('x') }]);
    for (let bytes = 0; bytes < whole.length; bytes += 1) {
      expect(refusal(whole.subarray(0, bytes))).toContain('it is truncated');
    }
  });

  test.each<[string, (text: string) => string, string]>([
    ['another version', (text) => text.replace('Version": 2', 'Version": 3'), 'version 1 or 2'],
    ['a line that is no JSON', (text) => text.replace('"Size": 1', '"Size": 1x'), 'a line is no JSON'],
    ['a list for a file', (text) => text.replace(/\{ "Path".*\}/, '[1]'), 'a line is no object'],
    ['a file without a path', (text) => text.replace('"Path"', '"Pfad"'), 'what it says of a file'],
    ['an empty path', (text) => text.replace('"Path": "a"', '"Path": ""'), 'what it says of a file'],
    ['two paths', (text) => text.replace('"Path": "a"', '"Path": "a", "Encoded-Path": "61"'), 'what it says of a file'],
    ['a path of half bytes', (text) => text.replace('"Path": "a"', '"Encoded-Path": "616"'), 'what it says of a file'],
    ['a negative size', (text) => text.replace('"Size": 1', '"Size": -1'), 'what it says of a file'],
    ['a checksum of no kind', (text) => text.replace('"Checksum-Algorithm": "SHA256", ', ''), 'what it says of a file'],
    ['a range without an end', (text) => text.replace('"End-LSN": "1/FF000100"', '"End-LSN": ""'), 'a range of WAL'],
    ['something behind its end', (text) => `${text}{}\n`, 'goes on behind its end'],
    ['two identifiers', (text) => text.replace(/"System.*\n/, (line) => line + line), 'two system identifiers'],
  ])('is refused with %s', (_, change, words) => {
    const text = manifestOf([{ path: 'a', content: Buffer.from('x') }]).toString();
    expect(refusal(resealed(change(text)))).toContain(words);
  });

  test('of nonsense is refused, and no line is gathered without end', () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => void refusal(bytes)));
    const reader = new BackupManifestReader(() => {});
    expect(() => {
      for (let round = 0; round < 100; round += 1) reader.push(new Uint8Array(1_024).fill(0x20));
    }).toThrow('a line is too long');
  });
});

/** Makes the checksum right again. */
function resealed(text: string): Buffer {
  const mark = text.indexOf('"Manifest-Checksum"');
  const end = text.indexOf('\n', mark) + 1;
  const body = text.slice(0, mark);
  const sum = createHash('sha256').update(body).digest('hex');
  return Buffer.from(`${body}"Manifest-Checksum": "${sum}"}\n${text.slice(end)}`);
}
