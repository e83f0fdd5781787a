import { describe, expect, test } from 'vitest';
import { serviceWorld } from '../../test/support/service-world.ts';
import type { Job } from './jobs.ts';
import { Turns } from './turns.ts';

const never = new AbortController().signal;

async function jobOf(host: string): Promise<Job> {
  const { generation } = await serviceWorld({ DATABASE_URL: `postgres://u:p@${host}/shop` });
  const [job] = generation.jobs;
  if (job === undefined) throw new Error('there is one job');
  return job;
}

describe('turns', () => {
  test('keep two jobs of one database apart, and let those of others pass them', async () => {
    const [shop, orders] = [await jobOf('one'), await jobOf('two')];
    const turns = new Turns(2);
    const order: string[] = [];
    const { promise, resolve } = Promise.withResolvers<void>();
    const work = (name: string) => async () => {
      order.push(name);
      if (name === 'shop 1') await promise;
    };
    const first = turns.within(shop, never, work('shop 1'));
    const second = turns.within(shop, never, work('shop 2'));
    await turns.within(orders, never, work('orders'));
    expect(order).toEqual(['shop 1', 'orders']);
    resolve();
    await Promise.all([first, second]);
    expect(order).toEqual(['shop 1', 'orders', 'shop 2']);
  });
});
