import fc from 'fast-check';
import { afterEach, describe, expect, test } from 'vitest';
import { MemoryStore } from '../../test/support/memory-store.ts';
import { Place } from '../../test/support/repository-place.ts';
import { PgarkError } from '../common/errors.ts';
import { silentLogger } from '../common/log.ts';
import { keys } from '../repository/keys.ts';
import { walHistoryDigestKey, walKey } from '../repository/wal-keys.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { isKey } from '../storage/keys.ts';
import { operationContext } from './context.ts';
import { type StorageUsage, storageUsage } from './storage-usage.ts';

const FOLDER = { source: 'main', systemIdentifier: '7380000000000000001' };
const places: Place[] = [];

afterEach(() => {
  for (const place of places.splice(0)) place.end();
});

function makePlace(): Place {
  const place = new Place(new MemoryStore());
  places.push(place);
  return place;
}

function usageOf(store: ObjectStore): Promise<StorageUsage> {
  return storageUsage(store, operationContext({ logger: silentLogger }));
}

function countsOf({ rows }: StorageUsage): Record<string, number> {
  return Object.fromEntries(rows.map(({ kind, objects }) => [kind, objects]));
}

async function put(store: ObjectStore, ...names: readonly string[]): Promise<void> {
  for (const name of names) await store.putSmall(name, Buffer.from('12345'));
}

describe('what lies in a storage', () => {
  test('is told apart: a backup, what a run has begun, WAL, and what is not pgark’s', async () => {
    const { store, begin } = withRuns(makePlace());
    const run = await begin('shop.sql.gz', 'shop');
    await run.upload();
    await run.commit();
    const dead = await begin('other.sql.gz', 'other');
    await dead.upload();
    const hanging = await begin('third.sql.gz', 'third');
    await hanging.hang();
    const segment = { kind: 'segment', name: '000000010000000000000001' } as const;
    await put(
      store,
      walKey(FOLDER, segment, '.zst'),
      walKey(FOLDER, { kind: 'history', name: '00000002.history' }, ''),
    );
    await put(store, walHistoryDigestKey(FOLDER, '00000002.history'), 'main/wal/7380000000000000001/notes.txt');
    await put(store, 'main/archive/20261120T020000Z-daaaaaa/toc.dat', 'main/globals/20261120T020000Z-gaaaaaa.sql.gz');
    await put(store, 'main/archive/notes.txt', 'main/globals/old.sql.gz', 'dump.sql');

    const usage = await usageOf(store);
    expect(countsOf(usage)).toMatchObject({ plain: 1, wal: 3, unfinished: 3, foreign: 4 });
    expect(usage).toMatchObject({ backups: 1, unfinishedUploads: 1, foreign: { objects: 4, bytes: 20 } });
    expect(usage.rows.find(({ kind }) => kind === 'plain')).toMatchObject({
      source: 'main',
      database: 'shop',
      backups: 1,
      oldest: new Date('2026-11-20T02:00:00Z'),
    });
  });

  test('counts data of a backup that is being deleted as unfinished, not as foreign', async () => {
    const place = makePlace();
    const { store, begin } = withRuns(place);
    const run = await begin('shop.sql.gz', 'shop');
    await run.upload();
    await run.commit();
    const manifest = keys.manifest('main', 'shop', run.id);
    const { body } = await store.get(manifest);
    const blocks: Uint8Array[] = [];
    for await (const block of body) blocks.push(block);
    await store.putSmall(keys.deleted(run.id), Buffer.concat(blocks));
    await store.delete(manifest);
    expect(countsOf(await usageOf(store))).toEqual({ unfinished: 1, records: 2 });
  });

  test('says which manifest cannot be read, whose data then counts as foreign', async () => {
    const { store, begin } = withRuns(makePlace());
    const run = await begin('shop.sql.gz', 'shop');
    await run.upload();
    await run.commit();
    const manifest = keys.manifest('main', 'shop', run.id);
    await put(store, manifest);
    const usage = await usageOf(store);
    expect(usage).toMatchObject({ backups: 1, damaged: [manifest], foreign: { objects: 1 } });
  });

  test('leaves unfinished uploads unknown where they may not be listed', async () => {
    const store = new MemoryStore();
    store.listUploads = () => {
      throw new PgarkError('store-access-denied', 'no');
    };
    expect(await usageOf(store)).toMatchObject({ unfinishedUploads: undefined, rows: [] });
  });

  test('is whole: whatever lies there is counted once, and what nobody of pgark’s names is foreign', async () => {
    const part = fc.constantFrom(
      'main',
      'wal',
      'archive',
      'base',
      'globals',
      '.pgark',
      'a',
      '7380000000000000001',
      'x.sql',
    );
    const names = fc.uniqueArray(fc.array(part, { minLength: 1, maxLength: 5 }).map((parts) => parts.join('/')));
    await fc.assert(
      fc.asyncProperty(names, async (all) => {
        const store = new MemoryStore();
        const valid = all.filter((name) => isKey(name));
        await put(store, ...valid);
        const { own, foreign, rows } = await usageOf(store);
        const state = valid.filter((name) => name.startsWith('.pgark/'));
        expect(own.objects).toBe(state.length);
        expect(foreign.bytes).toBe(5 * (valid.length - state.length));
        expect(rows.reduce((sum, { objects }) => sum + objects, 0)).toBe(valid.length);
      }),
      { numRuns: 50 },
    );
  });
});

function withRuns(place: Place): Pick<Place, 'store' | 'begin'> {
  return { store: place.store, begin: place.begin.bind(place) };
}
