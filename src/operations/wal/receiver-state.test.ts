import { expect, test } from 'vitest';
import { ManualClock } from '../../../test/support/manual-clock.ts';
import { PgarkError } from '../../common/errors.ts';
import { serverTimeOfDate } from '../../postgres/wal/server-time.ts';
import { walLagMs } from './receive-request.ts';
import { ReceiverState } from './receiver-state.ts';

test('what a server has covers a moment only where all that was committed by then is known', () => {
  const state = new ReceiverState(new ManualClock(new Date('2026-11-20T02:00:00Z')));
  const server = { end: 300n, time: 20_000_000n };
  state.isArchived(300n);
  state.heard({ server, committed: undefined });
  expect(state.snapshot()).toMatchObject({ server, coveredUntil: undefined });
  const committed = { end: 300n, time: 10_000_000n };
  state.heard({ server, committed });
  expect(state.snapshot()).toMatchObject({ server, coveredUntil: committed.time });
});

test('a storage refuses since the first time, and has what was archived when the others went on without it', () => {
  const clock = new ManualClock(new Date('2026-11-20T02:00:00Z'));
  const state = new ReceiverState(clock);
  const failure = new PgarkError('store-unreachable', 'it is away');
  state.isArchived(300n);
  state.heard({ server: { end: 300n, time: 10n }, committed: { end: 300n, time: 10n } });
  const since = clock.now();
  state.storeFails('far', failure, false);
  expect(state.snapshot().failingStores.get('far')).toEqual({ failure, since, left: undefined });
  clock.stopFor(300_000);
  state.storeFails('far', failure, true);
  state.heard({ server: { end: 300n, time: 20n }, committed: { end: 300n, time: 20n } });
  state.storeFails('far', failure, true);
  expect(state.snapshot()).toMatchObject({ coveredUntil: 20n });
  expect(state.snapshot().failingStores.get('far')).toEqual({ failure, since, left: { coveredUntil: 10n } });
});

test('what is not archived lags behind the more, not the less, when a clock is put back', () => {
  const now = new Date('2026-11-20T02:00:00Z');
  const time = serverTimeOfDate(now);
  const known = { server: { end: 300n, time }, coveredUntil: time - 5_000_000n };
  expect(walLagMs({ ...known, heardAt: new Date(now.getTime() - 2_000) }, now)).toBe(7_000);
  expect(walLagMs({ ...known, heardAt: new Date(now.getTime() + 3_600_000) }, now)).toBe(3_605_000);
});
