import { expect, test } from 'vitest';
import { ManualClock } from '../../test/support/manual-clock.ts';
import { letGo } from './let-go.ts';

const reason = new Error('enough');

test('work that hangs although its signal was aborted is left to itself, but not at once', async () => {
  const clock = new ManualClock(new Date(0));
  const abort = new AbortController();
  let ended: unknown;
  letGo(new Promise(() => {}), { signal: abort.signal, clock, patienceMs: 90_000 }).catch((error: unknown) => {
    ended = error;
  });
  await clock.advance(3_600_000);
  abort.abort(reason);
  await clock.advance(89_000);
  expect(ended).toBeUndefined();
  await clock.advance(1_000);
  expect(ended).toBe(reason);
});

test('work that ends in time gives its own result or error', async () => {
  const clock = new ManualClock(new Date(0));
  const options = { signal: AbortSignal.abort(reason), clock, patienceMs: 1_000 };
  expect(await letGo(Promise.resolve(42), options)).toBe(42);
  const failure = new Error('its own');
  await expect(letGo(Promise.reject(failure), options)).rejects.toBe(failure);
});
