import { describe, expect, test } from 'vitest';
import { MemoryStore } from '../../test/support/memory-store.ts';
import { manifestOf } from '../../test/support/repository-place.ts';
import { systemClock } from '../common/clock.ts';
import { PgarkError } from '../common/errors.ts';
import { systemRandom } from '../common/random.ts';
import type { ListOptions } from '../storage/object-store.ts';
import { makeBackupId, makeRunId } from './ids.ts';
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

describe('what may not be looked at', () => {
  const denied = new PgarkError('store-access-denied', 'cannot list it');
  const plain = manifestOf(makeBackupId(START, 'p', systemRandom), 'shop', ['dumps/shop.sql.gz']);
  const base = {
    ...manifestOf(makeBackupId(START, 'f', systemRandom), 'shop', ['main/base/x/base.tar']),
    format: 'physical' as const,
  };
  const folder = keys.basePrefix(base.source, base.id);

  const leavingOut = async (path: string, onUnseen?: (path: string) => void): Promise<string[]> => {
    const store = new MemoryStore();
    await store.putSmall('theirs.sql', Buffer.from('x'));
    const list = store.list.bind(store);
    store.list = async function* (prefix: string, options: ListOptions) {
      if (prefix === '') {
        if (options.onUnseen === undefined) throw denied;
        options.onUnseen(path, denied);
      }
      yield* list(prefix, options);
    };
    const repository = new Repository(store, { clock: systemClock, random: systemRandom });
    const found = [];
    const options = onUnseen === undefined ? {} : { onUnseen };
    for await (const { key } of repository.unclaimedObjects([plain, base], options)) found.push(key);
    return found;
  };

  test.each(['theirs/', 'dumps/other/', 'dumps/shop.sql.gz.old', 'main/other/'])('%s is told', async (path) => {
    const unseen: string[] = [];
    expect(await leavingOut(path, (each) => void unseen.push(each))).toEqual(['theirs.sql']);
    expect(unseen).toEqual([path]);
    await expect(leavingOut(path)).rejects.toBe(denied);
  });

  test.each(['.pgark/', '.pgark/pins/', 'dumps/', 'dumps/shop.sql.gz', 'main/', 'main/base/', folder, `${folder}new/`])(
    '%s is an error, since it is a backup’s or the state',
    async (path) => {
      await expect(leavingOut(path, () => {})).rejects.toBe(denied);
    },
  );
});
