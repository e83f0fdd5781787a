import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { compositeEtag, crc32Base64, decodeListedKey, decodeMetadata, encodeMetadata, WRITE_ID } from './wire.ts';

describe('metadata on the wire', () => {
  test('comes back as it was, whatever text it is', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        const value = text.toWellFormed();
        const encoded = encodeMetadata({ Database: value });
        expect(encoded['database']).toMatch(/^[ -~]*$/u);
        expect(encoded['database']?.trim()).toBe(encoded['database']);
        expect(decodeMetadata(encoded)).toEqual({ database: value });
      }),
    );
  });

  test('leaves plain text readable', () => {
    expect(encodeMetadata({ timestamp: '2026-11-20T02:00:00Z', host: 'db 1' })).toEqual({
      timestamp: '2026-11-20T02:00:00Z',
      host: 'db 1',
    });
  });

  test('of somebody else stays as it is where it is no percent-encoding, and our own mark is not shown', () => {
    expect(decodeMetadata({ note: '100% sure', [WRITE_ID]: 'x' })).toEqual({ note: '100% sure' });
  });
});

describe('a listed key', () => {
  test('is decoded in both spellings of a space', () => {
    expect(decodeListedKey('a+b%20c%2Bd%25')).toBe('a b c+d%');
    expect(decodeListedKey('%C3%BC/%E6%97%A5')).toBe('ü/日');
    expect(decodeListedKey('not%utf%ff')).toBe('not%utf%ff');
  });
});

describe('checksums', () => {
  test('CRC-32 is spelled as S3 wants it', () => {
    // The check value of the algorithm's catalogue: CRC-32 of "123456789" is cbf43926.
    expect(crc32Base64(Buffer.from('123456789'))).toBe(Buffer.from('cbf43926', 'hex').toString('base64'));
  });

  test('a composite etag is the MD5 of the MD5s, and there is none if a part has another kind of etag', () => {
    const md5 = (text: string): string => createHash('md5').update(text).digest('hex');
    const both = createHash('md5')
      .update(Buffer.from(md5('a') + md5('b'), 'hex'))
      .digest('hex');
    expect(compositeEtag([md5('a'), md5('b')])).toBe(`${both}-2`);
    expect(compositeEtag([md5('a'), 'kms-etag'])).toBeUndefined();
  });
});
