import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { assertKeyPrefix, compareKeys, isKey } from './keys.ts';

const text = fc.string({ unit: 'binary', maxLength: 12 });

describe('keys', () => {
  test('order as the bytes of their UTF-8', () => {
    fc.assert(
      fc.property(text, text, (a, b) => {
        expect(Math.sign(compareKeys(a, b))).toBe(Buffer.compare(Buffer.from(a), Buffer.from(b)));
      }),
    );
    const keys = ['\u{1f600}', '\uffee', '\ud7ff', '\ue000', 'a/b', 'a0', 'a-b', 'a'];
    expect(keys.toSorted(compareKeys)).toEqual(keys.toSorted((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b))));
  });

  test('may have any beginning that a key can have', () => {
    for (const prefix of ['', 'a', 'a/', 'a/.', 'a/..', '.', '..', 'x'.repeat(1_000), 'x'.repeat(999)]) {
      expect(() => assertKeyPrefix(prefix)).not.toThrow();
    }
    for (const prefix of ['/', 'a//', '../', 'a/./', 'a\n', 'x'.repeat(1_001)]) {
      expect(() => assertKeyPrefix(prefix)).toThrow('cannot be the beginning');
    }
  });

  test('have a beginning that is accepted too', () => {
    fc.assert(
      fc.property(
        fc.array(fc.constantFrom('a', '.', '..', '.b', 'ü', 'c d'), { minLength: 1 }),
        fc.nat(),
        (parts, cut) => {
          const key = parts.join('/');
          fc.pre(isKey(key));
          expect(() => assertKeyPrefix(key.slice(0, cut % (key.length + 1)))).not.toThrow();
        },
      ),
    );
  });
});
