import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { decodeName, encodeName } from './names.ts';

describe('names in keys', () => {
  test('ordinary, quoted, spaced and non-ASCII names stay as people know them', () => {
    for (const name of ['shop', 'we"ird', 'with space', 'Größe', 'a.b_c-d', '日本', "o'hara", 'a:b']) {
      expect(encodeName(name)).toBe(name);
    }
  });

  test('separators, percent signs, control characters and a leading dot are percent-encoded', () => {
    expect(encodeName('na/me')).toBe('na%2Fme');
    expect(encodeName('100%')).toBe('100%25');
    expect(encodeName('a\nb')).toBe('a%0Ab');
    expect(encodeName('..')).toBe('%2E.');
    expect(encodeName('.pgark')).toBe('%2Epgark');
    expect(encodeName('\u0085')).toBe('%C2%85');
  });

  test('every name survives the way there and back, and no two share a segment', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme', minLength: 1 }), (name) => {
        expect(decodeName(encodeName(name))).toBe(name);
        expect(encodeName(name)).not.toMatch(/^\.|\//);
      }),
    );
  });

  test('a segment that no name is encoded as is refused', () => {
    for (const segment of ['', '.hidden', '%61', '%2f', '%', '%ZZ', 'a%2Fb%20c'])
      expect(decodeName(segment)).toBeUndefined();
  });
});
