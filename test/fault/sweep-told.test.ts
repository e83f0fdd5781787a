import { expect, test, vi } from 'vitest';
import { type FaultCase, sweep, type Swept } from './sweep/sweep.ts';

/** An operation of so many requests, in which the faults at these positions happen. */
function sweptOf(positions: number, reached: readonly number[]): { readonly swept: Swept; readonly ran: FaultCase[] } {
  const cases = Array.from({ length: positions }, (_, position) => {
    return { position, what: `request ${position}`, kind: 'cut', retriesMax: 0 };
  });
  const ran: FaultCase[] = [];
  const lane = {
    cases: async () => cases,
    async run(fault: FaultCase) {
      ran.push(fault);
      return reached.includes(fault.position) ? 'done' : 'unreached';
    },
    async [Symbol.asyncDispose]() {},
  };
  return { swept: { name: 'something', openLane: async () => lane }, ran };
}

function written(): () => string {
  const spy = vi.spyOn(process.stdout, 'write').mockReturnValue(true);
  return () => {
    const text = spy.mock.calls.map(([chunk]) => String(chunk)).join('');
    spy.mockRestore();
    return text;
  };
}

test('a sweep in which no fault happened fails', async () => {
  const text = written();
  const outcome = await Promise.allSettled([sweep(sweptOf(5, []).swept)]);
  expect(text()).toContain('5 cases; 5 tried');
  expect(outcome).toMatchObject([{ reason: { message: expect.stringMatching(/^something: no fault happened/) } }]);
});

test('a sweep tells how many cases were tried, and how many of them were reached', async () => {
  const text = written();
  await sweep(sweptOf(5, [1, 3]).swept);
  expect(text()).toMatch(/5 cases; 5 tried \(TEST_SEED=\d+\), 2 reached: 2 done\n$/);
});

test('a case of a sample that was not reached has another one tried in its place, once', async () => {
  const text = written();
  const { swept, ran } = sweptOf(9, []);
  await expect(sweep(swept, { sample: 2, lanes: 2 })).rejects.toThrow('each of the 4 runs was over before');
  text();
  expect(new Set(ran).size).toBe(4);
});
