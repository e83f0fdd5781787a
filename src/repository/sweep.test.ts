import { afterEach, describe, expect, test } from 'vitest';
import { MemoryStore } from '../../test/support/memory-store.ts';
import { manifestOf, oneBlock, Place, startedAt, TERM_MS } from '../../test/support/repository-place.ts';
import { openFileStore } from '../../test/support/file-place.ts';
import { systemRandom } from '../common/random.ts';
import { type BackupId, makeBackupId } from './ids.ts';
import { keys } from './keys.ts';
import { ID_METADATA } from './owned-objects.ts';

const cleanups: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0)) await cleanup();
});

const places = {
  'an object store': async () => new Place(new MemoryStore()),
  'a store without metadata': async () => new Place(new MemoryStore({ kind: 'rclone', keepsMetadata: false })),
  'a directory': async () => {
    const { store, dispose } = await openFileStore();
    cleanups.push(dispose);
    return new Place(store);
  },
};

async function openPlace(name: keyof typeof places): Promise<Place> {
  const place = await places[name]();
  cleanups.unshift(async () => place.end());
  return place;
}

const placeNames = Object.keys(places) as (keyof typeof places)[];

describe.each(placeNames)('a sweep of %s', (name) => {
  test('removes what a dead run left: objects, open uploads, its intent; and nothing else', async () => {
    const place = await openPlace(name);
    const whole = await place.begin('shop_1.sql.gz');
    await whole.upload();
    await whole.commit();
    const dead = await place.begin('shop_2.sql.gz', 'shop', (id) => [`main/archive/${id}/`]);
    await dead.upload();
    const piece = `main/archive/${dead.id}/3347.dat.zst`;
    await place.store.putStream(piece, oneBlock('x'), { metadata: { [ID_METADATA]: dead.id } });
    await place.store.putSmall(`main/archive/${dead.id}/toc.dat`, Buffer.from('small objects carry no metadata'));
    const hung = await place.begin('eu_1.sql.gz', 'shop-eu');
    await hung.hang();
    const foreign = ['eu_1.sql.gz.md5', 'shop_2.sql', 'readme.txt', 'main/archive/other/toc.dat', '.pgark/pins/x.json'];
    for (const key of foreign) await place.store.putSmall(key, Buffer.from('somebody’s'));
    await place.hang('eu_1.sql.gz.md5sums');
    place.die();
    const report = await place.sweep();
    expect(report).toMatchObject({ orphans: expect.arrayContaining([dead.id, hung.id]), failures: [], foreign: [] });
    expect(report).toMatchObject({ objectsDeleted: 3, uploadsAborted: expect.any(Number) });
    const left = [...foreign, 'shop_1.sql.gz', keys.manifest('main', 'shop', whole.id)];
    expect((await place.keys()).toSorted()).toEqual(left.toSorted());
    expect(await place.uploads()).toEqual(['eu_1.sql.gz.md5sums']);
    expect(await place.sweep()).toMatchObject({ orphans: [], objectsDeleted: 0, uploadsAborted: 0 });
  });

  test('leaves a live run alone, however long it runs, and one that has just ended well', async () => {
    const place = await openPlace(name);
    const run = await place.begin('shop_1.sql.gz');
    for (let hour = 0; hour < 50; hour += 1) {
      place.clock.stopFor(TERM_MS / 2);
      await run.lease.confirm();
    }
    expect(await place.sweep()).toMatchObject({ busy: [run.id], orphans: [] });
    await run.upload();
    expect(await place.sweep()).toMatchObject({ busy: [run.id], orphans: [] });
    await run.commit();
    expect(await place.sweep()).toMatchObject({ busy: [], orphans: [], committed: [] });
    expect(await place.keys()).toEqual([keys.manifest('main', 'shop', run.id), 'shop_1.sql.gz']);
  });

  test('by the successor removes the dead run’s traces, not its own', async () => {
    const place = await openPlace(name);
    const dead = await place.begin('shop_1.sql.gz');
    await dead.upload();
    place.die();
    const next = await place.begin('shop_2.sql.gz');
    await next.upload();
    // Anybody else leaves both to the one who holds the lease.
    expect((await place.sweep()).busy.toSorted()).toEqual([dead.id, next.id].toSorted());
    expect(await place.sweep([next.lease])).toMatchObject({ orphans: [dead.id], busy: [] });
    expect(await place.keys()).toEqual([keys.intent(next.id), 'shop_2.sql.gz']);
    await next.commit();
  });

  test('only removes the intent of a backup that was committed', async () => {
    const place = await openPlace(name);
    const run = await place.begin('shop_1.sql.gz');
    await run.upload();
    await place.repository.commit(manifestOf(run.id, 'shop', ['shop_1.sql.gz']));
    place.die();
    expect(await place.sweep()).toMatchObject({ committed: [run.id], orphans: [], objectsDeleted: 0 });
    expect(await place.keys()).toEqual([keys.manifest('main', 'shop', run.id), 'shop_1.sql.gz']);
  });

  test('finishes deletions that were begun, proofs and all', async () => {
    const place = await openPlace(name);
    const run = await place.begin('shop_1.sql.gz');
    await run.upload();
    await run.commit();
    const manifest = manifestOf(
      run.id,
      'shop',
      ['shop_1.sql.gz', 'never-there.sql.gz'],
      await place.etagOf('shop_1.sql.gz'),
    );
    await place.store.putSmall(keys.deleted(run.id), Buffer.from(JSON.stringify(manifest)));
    const proofOf = (id: BackupId): string => keys.proof('main', 'shop', id, startedAt, 'drill');
    const another = proofOf(makeBackupId(startedAt, 'p', systemRandom));
    for (const key of [proofOf(run.id), another]) await place.store.putSmall(key, Buffer.from('{}'));
    expect(await place.sweep()).toMatchObject({ deletions: [run.id], objectsDeleted: 1, foreign: [] });
    expect(await place.keys()).toEqual([another]);
  });

  test('does not finish a deletion on a later backup that bears the same object name', async () => {
    const place = await openPlace(name);
    const old = makeBackupId(startedAt, 'p', systemRandom);
    const run = await place.begin('shop.sql.gz');
    await run.upload();
    await run.commit();
    for (const etag of [undefined, 'another', await place.etagOf('shop.sql.gz')]) {
      const manifest = manifestOf(old, 'shop', ['shop.sql.gz'], etag);
      await place.store.putSmall(keys.deleted(old), Buffer.from(JSON.stringify(manifest)));
      expect(await place.sweep()).toMatchObject({ deletions: [old], foreign: ['shop.sql.gz'] });
    }
    expect(await place.keys()).toEqual([keys.manifest('main', 'shop', run.id), 'shop.sql.gz']);
  });

  test('goes on past records that cannot be read, and says which they are', async () => {
    const place = await openPlace(name);
    const dead = await place.begin('shop_1.sql.gz');
    await dead.upload();
    place.die();
    const broken = ['.pgark/deleted/broken.json', '.pgark/intents/0broken.json'];
    for (const key of broken) await place.store.putSmall(key, Buffer.from('{'));
    // Where nothing proves whose an object is, it and its intent stay as long as an unread record may claim it.
    const proven = name === 'an object store';
    const unproven = proven ? [] : [keys.intent(dead.id)];
    const report = await place.sweep();
    expect(report.failures.map((failure) => failure.key).toSorted()).toEqual([...broken, ...unproven].toSorted());
    expect(report).toMatchObject({ orphans: proven ? [dead.id] : [], foreign: [] });
    expect(await place.keys()).toEqual(proven ? broken : [...broken, ...unproven, 'shop_1.sql.gz']);
    await place.store.delete('.pgark/intents/0broken.json');
    await place.store.putSmall('.pgark/backups/main/shop/broken.json', Buffer.from('{'));
    expect((await place.sweep()).orphans).toEqual([]);
    await place.store.delete('.pgark/backups/main/shop/broken.json');
    place.die();
    expect((await place.sweep()).orphans).toEqual(proven ? [] : [dead.id]);
    expect(await place.keys()).toEqual(['.pgark/deleted/broken.json']);
  });

  test('does not finish a deletion on somebody’s file that took the object’s place', async () => {
    const place = await openPlace(name);
    const old = makeBackupId(startedAt, 'p', systemRandom);
    await place.store.putSmall('shop.sql.gz', Buffer.from('somebody’s'));
    const manifest = manifestOf(old, 'shop', ['shop.sql.gz'], 'another');
    await place.store.putSmall(keys.deleted(old), Buffer.from(JSON.stringify(manifest)));
    expect(await place.sweep()).toMatchObject({ deletions: [old], foreign: ['shop.sql.gz'] });
    expect(await place.keys()).toEqual(['shop.sql.gz']);
  });

  test('does not act on an intent that its run took back between the listing and the lease', async () => {
    const place = await openPlace(name);
    const run = await place.begin('shop.sql.gz');
    place.die();
    place.store.faults = {
      before: async ({ key }) => {
        if (key !== keys.lease('shop')) return;
        place.store.faults = {};
        await run.intent.finish();
        await place.store.putSmall('shop.sql.gz', Buffer.from('somebody’s'));
      },
    };
    expect(await place.sweep()).toMatchObject({ orphans: [], committed: [], objectsDeleted: 0, foreign: [] });
    expect(await place.keys()).toEqual(['shop.sql.gz']);
  });

  test('withdraws a commit that came in its middle from a run that had lost its lease', async () => {
    const place = await openPlace(name);
    const dead = await place.begin('shop_1.sql.gz');
    await dead.upload();
    place.die();
    place.store.faults = {
      after: async ({ method, key }) => {
        if (method !== 'delete' || key !== 'shop_1.sql.gz') return;
        place.store.faults = {};
        await place.repository.commit(manifestOf(dead.id, 'shop', ['shop_1.sql.gz']));
      },
    };
    expect(await place.sweep()).toMatchObject({ orphans: [dead.id] });
    expect(await place.keys()).toEqual([]);
  });
});

describe('in an object store', () => {
  test.each([{ [ID_METADATA]: '20261120T020000Z-pzzzzzz' }, {}])(
    'an object at a planned key that says it is not the dead run’s (%j) is never touched',
    async (metadata) => {
      const place = await openPlace('an object store');
      const dead = await place.begin('shop.sql.gz');
      await place.store.putStream('shop.sql.gz', oneBlock('somebody’s'), { metadata });
      place.die();
      expect(await place.sweep()).toMatchObject({ orphans: [dead.id], foreign: ['shop.sql.gz'], objectsDeleted: 0 });
      expect(await place.keys()).toEqual(['shop.sql.gz']);
    },
  );
});
