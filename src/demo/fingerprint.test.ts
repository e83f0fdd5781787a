import { describe, expect, test } from 'vitest';
import { compareFingerprints, type Fingerprint } from './fingerprint.ts';

function fingerprint(
  tables: Record<string, [rowCount: number, hash: string]>,
  objects: Record<string, string> = {},
): Fingerprint {
  return {
    tables: Object.entries(tables).map(([table, [rowCount, hash]]) => ({ table, rowCount, hash })),
    objects: new Map(Object.entries(objects)),
  };
}

describe('comparing fingerprints', () => {
  const before = fingerprint({ a: [2, '10'], b: [0, '0'] }, { 'view v': 'SELECT 1' });

  test('equal ones have no differences', () => {
    expect(compareFingerprints(before, structuredClone(before))).toEqual([]);
  });

  test.each([
    ['a missing table', fingerprint({ b: [0, '0'] }, { 'view v': 'SELECT 1' }), 'table a is missing (it had 2 rows)'],
    [
      'a lost row',
      fingerprint({ a: [1, '10'], b: [0, '0'] }, { 'view v': 'SELECT 1' }),
      'table a has 1 rows instead of 2',
    ],
    [
      'a changed value',
      fingerprint({ a: [2, '11'], b: [0, '0'] }, { 'view v': 'SELECT 1' }),
      'table a has other values in its 2 rows',
    ],
    [
      'a new table',
      fingerprint({ a: [2, '10'], b: [0, '0'], c: [0, '0'] }, { 'view v': 'SELECT 1' }),
      'table c is new',
    ],
    ['a missing object', fingerprint({ a: [2, '10'], b: [0, '0'] }), 'view v is missing'],
    [
      'a changed object',
      fingerprint({ a: [2, '10'], b: [0, '0'] }, { 'view v': 'SELECT 2' }),
      'view v differs: "SELECT 2" instead of "SELECT 1"',
    ],
    [
      'a new object',
      fingerprint({ a: [2, '10'], b: [0, '0'] }, { 'view v': 'SELECT 1', 'view w': '' }),
      'view w is new',
    ],
  ])('%s is told', (_what, after, difference) => {
    expect(compareFingerprints(before, after)).toEqual([difference]);
  });
});
