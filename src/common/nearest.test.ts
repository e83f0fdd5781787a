import { describe, expect, test } from 'vitest';
import { nearest } from './nearest.ts';

describe('the nearest names', () => {
  test('are those a typo away, best first', () => {
    for (const typo of ['shp', 'shopp', 'shep', 'shpo', 'hsop']) {
      expect(nearest(typo, ['orders', 'shop'], 3)).toEqual(['shop']);
    }
    expect(nearest('backup_2026-11-20', ['backup_2026-11-21', 'backup_2026-11-20', 'orders'], 3)).toEqual([
      'backup_2026-11-20',
      'backup_2026-11-21',
    ]);
  });

  test('are as many as asked for, each once', () => {
    expect(nearest('aaaa', ['aaab', 'aaac', 'aaab', 'aaad'], 2)).toEqual(['aaab', 'aaac']);
  });

  test('do not depend on upper and lower case', () => {
    expect(nearest('LATEST', ['latest'], 1)).toEqual(['latest']);
  });

  test('are none where more than a third of the letters differ', () => {
    expect(nearest('orders', ['odorless'], 1)).toEqual([]);
    expect(nearest('', ['shop'], 1)).toEqual([]);
    expect(nearest('shop', [], 1)).toEqual([]);
  });

  test('of a short word are one letter away at the most', () => {
    expect(nearest('ab', ['ac', 'xy'], 2)).toEqual(['ac']);
  });
});
