import { expect, test } from 'vitest';
import { PgarkError } from '../../common/errors.ts';
import { forbiddenWalHint } from './of-machine.ts';

const denied = 'the restored server did not recover: cannot list the storage directory /srv/backups: EACCES';

function failed(message: string, fetchError?: string): PgarkError {
  const details = fetchError === undefined ? {} : { fetchError };
  return new PgarkError('recovery-failed', message, { hint: 'its own', details });
}

test('WAL that the account of a server may not read has a hint that says so where pgark is root', () => {
  expect(forbiddenWalHint(failed(denied, 'store-failed'), 0)).toMatch(/runs as postgres .* fetches the WAL itself/);
  expect(forbiddenWalHint(failed(denied, 'store-failed'), 1000)).toBe('its own');
});

test('nothing else has it: other failures of the storage, archives that say it, and a server that ended for another reason', () => {
  expect(forbiddenWalHint(failed('it timed out', 'store-unreachable'), 0)).toBeUndefined();
  expect(forbiddenWalHint(failed(denied, 'wal-gap'), 0)).toBeUndefined();
  expect(forbiddenWalHint(failed(denied), 0)).toBeUndefined();
});
