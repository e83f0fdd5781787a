import { expect, test } from 'vitest';
import { PgarkError } from '../../common/errors.ts';
import { mayBeOfTheWay } from './second-look.ts';

test.each([
  [undefined, true],
  ['corrupt', true],
  ['wal-gap', false],
  ['object-not-found', false],
  ['tablespace-path', false],
])(
  'a server that did not recover for want of WAL is looked at once more, unless that is decided: %s',
  (fetchError, may) => {
    const details = fetchError === undefined ? {} : { fetchError };
    expect(mayBeOfTheWay(new PgarkError('recovery-failed', 'it did not recover', { details }))).toBe(may);
  },
);

test('a word on the storage or the machine is no doubt of the backup', () => {
  expect(mayBeOfTheWay(new PgarkError('corrupt', 'a byte turned'))).toBe(true);
  expect(mayBeOfTheWay(new PgarkError('store-unreachable', 'it is away'))).toBe(false);
});
