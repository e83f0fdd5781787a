import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { afterEach, describe, expect, test } from 'vitest';
import { openFileStore } from '../../test/support/file-place.ts';
import { MemoryStore } from '../../test/support/memory-store.ts';
import { manifestOf, oneBlock } from '../../test/support/repository-place.ts';
import { seedBackups } from '../../test/support/seed.ts';
import { systemClock } from '../common/clock.ts';
import { type Logger, silentLogger } from '../common/log.ts';
import { systemRandom } from '../common/random.ts';
import { makeBackupId } from '../repository/ids.ts';
import { keys } from '../repository/keys.ts';
import { ID_METADATA } from '../repository/owned-objects.ts';
import { Repository } from '../repository/repository.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { operationContext } from './context.ts';
import { prune } from './prune.ts';

const DAY_MS = 86_400_000;
const NEWEST_KEPT = { keep: { last: 1 }, minBackups: 1 };

const cleanups: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0)) await cleanup();
});

const stores: Readonly<Record<string, () => Promise<ObjectStore>>> = {
  'an object store': async () => new MemoryStore(),
  'a store without metadata': async () => new MemoryStore({ kind: 'rclone', keepsMetadata: false }),
  'a directory': async () => {
    const { store, dispose } = await openFileStore();
    cleanups.push(dispose);
    return store;
  },
};

/** What was warned of. */
async function pruneAll(store: ObjectStore): Promise<string[]> {
  return (await pruned(store)).warnings;
}

async function pruned(store: ObjectStore): Promise<{ warnings: string[]; removedBytes: number }> {
  const warnings: string[] = [];
  const logger: Logger = {
    ...silentLogger,
    warning: (_event: string, message: string) => void warnings.push(message),
    child: () => logger,
  };
  const { removedBytes } = await prune(
    {
      store,
      filter: {},
      policyOf: () => NEWEST_KEPT,
      timezone: 'UTC',
      leaseTermMs: 60_000,
      dryRun: false,
      force: true,
    },
    operationContext({ logger }),
  );
  return { warnings, removedBytes };
}

/** Key → content of everything but pgark's state. */
async function contents(store: ObjectStore): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  for await (const { key } of store.list('')) {
    if (key.startsWith('.pgark/')) continue;
    found[key] = await textOf(store, key);
  }
  return found;
}

async function textOf(store: ObjectStore, key: string): Promise<string> {
  const { body } = await store.get(key);
  const blocks: Uint8Array[] = [];
  for await (const block of body) blocks.push(block.slice());
  return Buffer.concat(blocks).toString();
}

function daysAgo(count: number): Date[] {
  const now = Date.now();
  return Array.from({ length: count }, (_, index) => new Date(now - (count - index) * DAY_MS));
}

/** What became of a backup's object since it was made. */
const fate = fc.constantFrom('as it was', 'replaced by one byte', 'replaced by more', 'gone');
/** Names that other people's objects have: near those of backups, and near the state. */
const foreignKey = fc.oneof(
  fc.constantFrom('shop', 'shop_', 'shop.sql.gz', 'main/archive/x', '.pgark-old/x', '.pgark.txt', 'shop/x', '~'),
  fc.stringMatching(/^[a-z]{1,8}(\/[a-z_.]{1,8}[a-z])?$/),
);

describe.each(Object.keys(stores))('a prune of %s', (name) => {
  const open = async (): Promise<ObjectStore> => {
    const store = await stores[name]?.();
    if (store === undefined) throw new Error(`there is no ${name}`);
    return store;
  };

  test('removes nothing that is somebody else’s, whatever lies there, and all that is its own', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fate, { minLength: 1, maxLength: 5 }), fc.array(foreignKey), async (fates, others) => {
        const store = await open();
        const seeds = { source: 'main', database: 'shop', times: daysAgo(fates.length + 1), withData: true };
        const backups = await seedBackups(store, seeds);
        const expected: Record<string, string> = { [backups.at(-1)?.objects[0]?.key ?? '']: 'x' };
        const put = async (key: string, text: string): Promise<void> => {
          await store.putSmall(key, Buffer.from(text));
          expected[key] = text;
        };
        for (const [index, what] of fates.entries()) {
          const key = backups[index]?.objects[0]?.key ?? '';
          if (what === 'gone') await store.delete(key);
          if (what === 'replaced by one byte') await put(key, 'y');
          if (what === 'replaced by more') await put(key, 'a note of somebody’s');
        }
        for (const key of others) {
          // A directory has no file and folder of one name.
          await put(key, 'somebody’s').catch(() => {});
        }
        const { warnings, removedBytes } = await pruned(store);
        expect(await contents(store)).toEqual(expected);
        expect(warnings).toHaveLength(fates.filter((what) => what.startsWith('replaced')).length);
        // Each was one byte; what was replaced is kept, and what was gone took no room.
        expect(removedBytes).toBe(fates.filter((what) => what === 'as it was').length);
        const manifests: string[] = [];
        for await (const { key } of store.list(keys.manifestsPrefix)) manifests.push(key);
        expect(manifests).toHaveLength(1);
      }),
      { numRuns: name === 'a directory' ? 10 : 50 },
    );
  });

  test('says which file it keeps', async () => {
    const store = await open();
    const [old] = await seedBackups(store, { source: 'main', database: 'shop', times: daysAgo(2), withData: true });
    const key = old?.objects[0]?.key ?? '';
    await store.putSmall(key, Buffer.from('the notes of somebody'));
    expect(await pruneAll(store)).toEqual([
      `${key} is not what backup ${old?.id} stored there: it was replaced by somebody, and stays`,
    ]);
    expect(await textOf(store, key)).toBe('the notes of somebody');
  });

  test('leaves an object to a later backup that took its name, though it holds the same bytes', async () => {
    const store = await open();
    const [old, newest] = await seedBackups(store, {
      source: 'main',
      database: 'shop',
      times: daysAgo(2),
      withData: true,
    });
    const key = old?.objects[0]?.key ?? '';
    const at = new Date();
    const later = makeBackupId(at, 'p', systemRandom);
    await store.delete(key);
    const { etag } = await store.putStream(key, oneBlock('x'), { metadata: { [ID_METADATA]: later } });
    const time = at.toISOString();
    const manifest = { ...manifestOf(later, 'shop', [key], etag), startedAt: time, endedAt: time, storeTime: time };
    await new Repository(store, { clock: systemClock, random: systemRandom }).commit(manifest);
    expect(await pruneAll(store)).toHaveLength(1);
    expect(await contents(store)).toEqual({ [key]: 'x' });
    expect(await store.head(newest?.objects[0]?.key ?? '')).toBeUndefined();
  });
});

test('a prune knows the objects of a repository that was copied elsewhere by their bytes, since their tags are others', async () => {
  const store = new MemoryStore({ kind: 'file', keepsMetadata: false });
  const times = daysAgo(3);
  const repository = new Repository(store, { clock: systemClock, random: systemRandom });
  await repository.initialise({ pgarkVersion: '0.1.0' });
  for (const [index, time] of times.entries()) {
    const at = time.toISOString();
    const plain = manifestOf(makeBackupId(time, 'p', systemRandom), 'shop', [`${index}.sql.gz`], 'of another store');
    const storedSha256 = createHash('sha256').update('x').digest('hex');
    const objects = plain.objects.map((object) => ({ ...object, storedSha256 }));
    await store.putSmall(`${index}.sql.gz`, Buffer.from(index === 1 ? 'y' : 'x'));
    await repository.commit({ ...plain, objects, startedAt: at, endedAt: at, storeTime: at });
  }
  await pruneAll(store);
  expect(await contents(store)).toEqual({ '1.sql.gz': 'y', '2.sql.gz': 'x' });
});
