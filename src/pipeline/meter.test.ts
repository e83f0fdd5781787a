import { expect, test } from 'vitest';
import { bytesOf, noise, WatchedSource } from '../../test/support/streams.ts';
import { meter } from './meter.ts';

test('meter tells the bytes so far with every block and changes nothing', async () => {
  const totals: number[] = [];
  const source = new WatchedSource([noise(3), noise(0), noise(4)]);
  expect(await bytesOf(meter((total) => totals.push(total))(source))).toEqual(Buffer.concat([noise(3), noise(4)]));
  expect(totals).toEqual([3, 3, 7]);
});

test('meter passes an error of the source unchanged and closes the source when it is left', async () => {
  const failure = new Error('the source failed');
  const pass = meter(() => undefined);
  await expect(bytesOf(pass(new WatchedSource([noise(3)], failure)))).rejects.toBe(failure);
  const source = new WatchedSource([noise(3), noise(3)]);
  for await (const block of pass(source)) if (block.length > 0) break;
  expect(source.closed).toBe(true);
});
