import { expect, test } from 'vitest';
import type { ErrorCode } from '../common/error-table.ts';
import { PgarkError } from '../common/errors.ts';
import { failureOf, type JobResult } from './job-report.ts';

function resultOf(code?: ErrorCode): JobResult {
  return {
    database: 'shop',
    storage: 'near',
    location: undefined,
    outcome: undefined,
    error: code === undefined ? undefined : new PgarkError(code, `it is ${code}`),
    pruned: undefined,
  };
}

test.each<[readonly (ErrorCode | undefined)[], ErrorCode | undefined]>([
  [[undefined, undefined], undefined],
  [['store-unreachable', 'locked'], 'store-unreachable'],
  [['store-unreachable', undefined], 'partial'],
  [['store-unreachable', 'corrupt', undefined], 'corrupt'],
  [[undefined, 'repository-damaged'], 'repository-damaged'],
  [['store-unreachable', 'corrupt'], 'corrupt'],
])('of %j a command ends with %s', (codes, expected) => {
  expect(failureOf(codes.map(resultOf))?.code).toBe(expected);
});
