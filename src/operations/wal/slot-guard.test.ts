import { expect, test } from 'vitest';
import { judgeSlot } from './slot-guard.ts';

const GIB = 2 ** 30;
const slot = {
  restartLsn: 1n,
  state: 'reserved' as const,
  safeBytes: undefined,
  retainedBytes: GIB,
  isActive: true,
};

test.each([
  ['no limit at all', slot, undefined, 'fine'],
  ['well below the budget', slot, 2 * GIB, 'fine'],
  ['three quarters of the budget', slot, (4 / 3) * GIB, 'alarm'],
  ['all of the budget', slot, GIB, 'over'],
  ['well below the server’s limit', { ...slot, safeBytes: GIB }, undefined, 'fine'],
  ['three quarters of the server’s limit', { ...slot, safeBytes: GIB / 3 }, undefined, 'alarm'],
  ['beyond the server’s limit, to be lost at its next checkpoint', { ...slot, safeBytes: -5 }, 100 * GIB, 'alarm'],
  ['unreserved', { ...slot, state: 'unreserved' as const }, 100 * GIB, 'alarm'],
  ['lost', { ...slot, state: 'lost' as const, retainedBytes: undefined }, GIB, 'lost'],
  ['nothing reserved', { ...slot, state: undefined, retainedBytes: undefined }, GIB, 'fine'],
])('a slot that holds back %s', (_, status, budgetBytes, kind) => {
  expect(judgeSlot(status, budgetBytes).kind).toBe(kind);
});

test('the lower of both limits is named', () => {
  expect(judgeSlot({ ...slot, safeBytes: GIB / 8 }, 8 * GIB)).toEqual({
    kind: 'alarm',
    retainedBytes: GIB,
    limitBytes: 1.125 * GIB,
  });
});
