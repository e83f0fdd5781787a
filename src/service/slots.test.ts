import { describe, expect, test } from 'vitest';
import { Slots } from './slots.ts';

const never = new AbortController().signal;

/** Work that goes on until it is told to end. */
function task(slots: Slots, name: string, log: string[], signal = never) {
  const { promise, resolve } = Promise.withResolvers<void>();
  const done = slots.within(signal, async () => {
    log.push(name);
    await promise;
  });
  return { end: resolve, done };
}

describe('slots', () => {
  test('let in so many at once, the others in the order in which they came', async () => {
    const log: string[] = [];
    const slots = new Slots(2);
    const tasks = ['a', 'b', 'c', 'd'].map((name) => task(slots, name, log));
    await Promise.resolve();
    expect(log).toEqual(['a', 'b']);
    tasks[1]?.end();
    await tasks[1]?.done;
    await Promise.resolve();
    expect(log).toEqual(['a', 'b', 'c']);
    for (const { end } of tasks) end();
    await Promise.all(tasks.map(({ done }) => done));
    expect(log).toEqual(['a', 'b', 'c', 'd']);
  });

  test('are given back by work that fails', async () => {
    const slots = new Slots(1);
    await expect(slots.within(never, () => Promise.reject(new Error('no')))).rejects.toThrow('no');
    expect(await slots.within(never, () => Promise.resolve(7))).toBe(7);
  });

  test('are no longer waited for once the signal is aborted, by that one alone', async () => {
    const log: string[] = [];
    const slots = new Slots(1);
    const abort = new AbortController();
    const first = task(slots, 'a', log);
    const second = task(slots, 'b', log, abort.signal);
    const third = task(slots, 'c', log);
    abort.abort(new Error('stop'));
    await expect(second.done).rejects.toThrow('stop');
    first.end();
    third.end();
    await Promise.all([first.done, third.done]);
    expect(log).toEqual(['a', 'c']);
    await expect(slots.within(abort.signal, () => Promise.resolve())).rejects.toThrow('stop');
  });

  test('can become more while others wait', async () => {
    const log: string[] = [];
    const slots = new Slots(1);
    const tasks = ['a', 'b', 'c'].map((name) => task(slots, name, log));
    slots.resize(3);
    await Promise.resolve();
    expect(log).toEqual(['a', 'b', 'c']);
    for (const { end } of tasks) end();
    await Promise.all(tasks.map(({ done }) => done));
  });
});
