import { expect, test } from 'vitest';
import { ManualClock } from '../../../test/support/manual-clock.ts';
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
