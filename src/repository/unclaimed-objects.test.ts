import { describe, expect, test } from 'vitest';
import { MemoryStore } from '../../test/support/memory-store.ts';
import { systemClock } from '../common/clock.ts';
import { systemRandom } from '../common/random.ts';
import { makeRunId } from './ids.ts';
import { keys } from './keys.ts';
import { Repository } from './repository.ts';

const START = new Date('2026-11-20T00:00:00Z');

async function unclaimed(foreign: readonly string[], runCount: number) {
  const store = new MemoryStore();
  for (const key of foreign) await store.putSmall(key, Buffer.from('x'));
  for (let n = 0; n < runCount; n += 1) {
    await store.putSmall(keys.run(START, makeRunId(START, systemRandom)), Buffer.from('{}'));
  }
  const list = store.list.bind(store);
  let listed = 0;
  store.list = async function* (prefix, options) {
    for await (const info of list(prefix, options)) {
      listed += 1;
      yield info;
    }
  };
  const repository = new Repository(store, { clock: systemClock, random: systemRandom });
  const found: string[] = [];
  for await (const { key } of repository.unclaimedObjects([])) found.push(key);
  return { found, listed };
}

describe('objects that no backup claims', () => {
  const foreign = [
    '!first.sql',
    '-dump.sql',
    '.pgar',
    '.pgark',
    '.pgark-old.sql',
    '.pgark.sql',
    '.pgark0',
    'shop.sql',
    '大.sql',
  ];

  test('are found before and after the state in the order of keys', async () => {
    expect((await unclaimed(foreign, 3)).found).toEqual(foreign);
    expect((await unclaimed(foreign, 0)).found).toEqual(foreign);
    expect((await unclaimed([], 3)).found).toEqual([]);
  });

  test('are found without reading past a history of many runs', async () => {
    expect((await unclaimed(foreign, 1_000)).listed).toBeLessThan(foreign.length + 5);
  });
});
