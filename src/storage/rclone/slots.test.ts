import { describe, expect, test } from 'vitest';
import { Slots } from './slots.ts';

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe('slots', () => {
  test('let as many tasks run as there are, in the order in which they came, whether they fail or not', async () => {
    const slots = new Slots(2);
    let running = 0;
    let most = 0;
    const order: number[] = [];
    const tasks = Array.from({ length: 10 }, (_, index) =>
      slots.run(async () => {
        order.push(index);
        running += 1;
        most = Math.max(most, running);
        await turn();
        running -= 1;
        if (index % 3 === 0) throw new Error('failed');
      }),
    );
    await Promise.allSettled(tasks);
    expect(most).toBe(2);
    expect(order).toEqual(order.toSorted((a, b) => a - b));
  });

  test('are not waited for after an abort, and none is lost by it', async () => {
    const slots = new Slots(1);
    const release = Promise.withResolvers<void>();
    const first = slots.run(() => release.promise);
    const controller = new AbortController();
    const reason = new Error('stopped by the user');
    const second = slots.run(() => Promise.reject(new Error('ran')), controller.signal);
    controller.abort(reason);
    await expect(second).rejects.toBe(reason);
    release.resolve();
    await first;
    expect(await slots.run(() => Promise.resolve('free'))).toBe('free');
  });
});
