import { expect, test } from 'vitest';
import { serviceWorld } from '../../test/support/service-world.ts';
import { PgarkError } from '../common/errors.ts';
import { systemClock } from '../common/clock.ts';
import { Turns } from './turns.ts';
import { WantedBases } from './wanted-bases.ts';

test('a base backup that is made out of turn keeps its configuration in use, and whoever asks busy', async () => {
  const { generation } = await serviceWorld({ BACKUP_FORMAT: 'physical' });
  const key = Promise.withResolvers<never>();
  const world = { ...generation.world(undefined), adapters: { sealerOf: () => key.promise } };
  const bases = new WantedBases({
    clock: systemClock,
    turns: new Turns(1),
    stopping: new AbortController().signal,
    nextRunNumber: () => 1,
  });
  bases.want('shop', generation, world);
  expect(bases.runningCount).toBe(1);
  const order: string[] = [];
  const retired = generation.retire().then(() => order.push('retired'));
  const ended = bases.ended().then(() => order.push('ended'));
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(order).toEqual([]);
  key.reject(new PgarkError('key-invalid', 'the key is none'));
  await Promise.all([retired, ended]);
  expect(bases.runningCount).toBe(0);
});
