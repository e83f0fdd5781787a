import { describe, expect, test } from 'vitest';
import { MemoryStore } from '../../test/support/memory-store.ts';
import { systemClock } from '../common/clock.ts';
import { systemRandom } from '../common/random.ts';
import { makeRunId } from './ids.ts';
import { keys } from './keys.ts';
import { Repository } from './repository.ts';
import { walKey } from './wal-keys.ts';

const START = new Date('2026-11-20T00:00:00Z');

async function unclaimed(foreign: readonly string[], runCount: number, walCount = 0) {
  const store = new MemoryStore();
  const folder = { source: 'shop', systemIdentifier: '7380000000000000001' };
  for (let n = 0; n < walCount; n += 1) {
    const name = `0000000100000000${n.toString(16).toUpperCase().padStart(8, '0')}`;
    await store.putSmall(walKey(folder, { kind: 'segment', name }, '.zst.age'), Buffer.from('x'));
  }
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

  test('are found before and after the WAL of a server, which is not read past', async () => {
    const around = ['shop/wal', 'shop/wal/1.sql', 'shop/wal.sql', 'shop/wax.sql', ...foreign].sort();
    const { found, listed } = await unclaimed(around, 1, 1_000);
    expect(found).toEqual(around);
    expect(listed).toBeLessThan(around.length + 5);
  });
});
