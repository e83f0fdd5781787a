import { expect, test, vi } from 'vitest';
import { ManualClock } from '../../../test/support/manual-clock.ts';
import { MemoryStore } from '../../../test/support/memory-store.ts';
import { WAL_FOLDER } from '../../../test/support/wal-pieces.ts';
import { silentLogger } from '../../common/log.ts';
import { LeftBehind } from './left-behind.ts';

/** Lets what goes on go on; no time passes. */
function turn(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}

test('a storage that is left behind listens to its end once, however often it is woken, and ends while it waits', async () => {
  const left = new LeftBehind({
    name: 'far',
    store: new MemoryStore(),
    folder: WAL_FOLDER,
    from: new MemoryStore(),
    keys: { identities: [], passphrases: [] },
    since: undefined,
    clock: new ManualClock(new Date('2026-11-20T02:00:00Z')),
    logger: silentLogger,
  });
  const listening = vi.spyOn(EventTarget.prototype, 'addEventListener');
  for (let round = 0; round < 20; round += 1) {
    await turn();
    left.wake();
  }
  await turn();
  const times = listening.mock.calls.length;
  listening.mockRestore();
  await left.end();
  expect(times).toBeLessThan(2);
});
