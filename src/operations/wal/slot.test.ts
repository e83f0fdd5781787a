import { expect, test } from 'vitest';
import { keptFrom } from './slot.ts';

test.each([
  { restartLsn: 4n, state: 'reserved', kept: 4n },
  // Where nobody may look at it.
  { restartLsn: 4n, state: undefined, kept: 4n },
  { restartLsn: 4n, state: 'unreserved', kept: 4n },
  { restartLsn: undefined, state: undefined, kept: 'nothing' },
  { restartLsn: undefined, state: 'lost', kept: 'nothing' },
  // As `idle_replication_slot_timeout` leaves it.
  { restartLsn: 4n, state: 'lost', kept: 'nothing' },
] as const)('a slot at $restartLsn that is $state keeps from there on: $kept', ({ kept, ...status }) => {
  expect(keptFrom(status)).toBe(kept);
});
