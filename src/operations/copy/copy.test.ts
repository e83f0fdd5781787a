import { describe, expect, test } from 'vitest';
import {
  cloneOf,
  copy,
  manifestKey,
  policyOf,
  pruneAll,
  refused,
  lasting,
  storePhysical,
  storePlain,
  wholeBackups,
} from '../../../test/support/copying-backups.ts';
import { flipBit } from '../../../test/support/damage.ts';
import { FaultyStore, type StoreCall } from '../../../test/support/faulty-store.ts';
import { MemoryStore } from '../../../test/support/memory-store.ts';
import { globalsRecord, makeGlobalsId } from '../../../test/support/globals.ts';
import { PgarkError } from '../../common/errors.ts';
import { type Logger, silentLogger } from '../../common/log.ts';
import { acceptSize } from '../../repository/accepted-sizes.ts';
import { commitGlobals, type GlobalsRecord } from '../../repository/globals.ts';
import { keys } from '../../repository/keys.ts';
import { type Manifest, serialiseManifest } from '../../repository/manifest.ts';

function hearing(heard: string[]): Logger {
  const logger: Logger = {
    ...silentLogger,
    warning: (event, message) => void heard.push(`${event}: ${message}`),
    child: () => logger,
  };
  return logger;
}

describe('a copy', () => {
  test('is the backup as it is stored, with what later versions wrote into its manifest, and tags of its own store', async () => {
    const [near, far] = [new MemoryStore(), new MemoryStore()];
    const manifest = await storePlain(near, { further: { ofTheFuture: { deep: [1] } } });
    const outcome = await copy({ from: [near], to: far, manifest });
    expect(outcome).toMatchObject({ backups: [{ state: 'copied', objects: 1 }], letGo: [], isPinned: false });
    expect(lasting(far)).toEqual(lasting(near));
    const [key = ''] = manifest.objects.map((object) => object.key);
    expect(far.objects.get(key)?.bytes).toEqual(near.objects.get(key)?.bytes);
    const read = (store: MemoryStore): Record<string, object[]> =>
      JSON.parse(Buffer.from(store.objects.get(manifestKey(manifest))?.bytes ?? []).toString());
    const { objects, ...rest } = read(far);
    const { objects: _objects, ...recorded } = read(near);
    expect(rest).toEqual(recorded);
    expect(objects).toMatchObject([{ etag: far.objects.get(key)?.info.etag, confirmedBy: 'md5' }]);
    expect(far.objects.get(key)?.info.metadata).toMatchObject({ 'pgark-id': manifest.id, 'pgark-database': 'shop' });
  });

  test('that is there already and the same is nothing to do, also where no other storage has it', async () => {
    const [near, far] = [new MemoryStore(), new MemoryStore()];
    const manifest = await storePlain(near);
    await copy({ from: [near], to: far, manifest });
    const before = [...far.objects.keys()];
    for (const from of [[near], []]) {
      expect(await copy({ from, to: far, manifest })).toMatchObject({ backups: [{ state: 'present' }] });
    }
    expect([...far.objects.keys()]).toEqual(before);
    // One of which something is missing is no copy.
    await far.delete(manifest.objects[0]?.key ?? '');
    await expect(copy({ from: [near], to: far, manifest })).rejects.toEqual(
      refused('corrupt', /is in far already, and is not whole there: .* is missing from/),
    );
  });

  test('replaces nothing: neither what is foreign nor another backup', async () => {
    const [near, far] = [new MemoryStore(), new MemoryStore()];
    const manifest = await storePlain(near);
    const [key = ''] = manifest.objects.map((object) => object.key);
    await far.putSmall(key, Buffer.from('of somebody else'));
    for (const dryRun of [true, false]) {
      await expect(copy({ from: [near], to: far, manifest, dryRun })).rejects.toEqual(
        refused('object-exists', /is already in .*, where the copy would lie, and is not of it/),
      );
    }
    expect(lasting(far)).toEqual([key]);
    expect(Buffer.from(far.objects.get(key)?.bytes ?? []).toString()).toBe('of somebody else');
    await far.delete(key);
    const other = { ...manifest, objects: manifest.objects.map((each) => ({ ...each, storedSha256: '1'.repeat(64) })) };
    await far.putSmall(manifestKey(manifest), serialiseManifest(other));
    await expect(copy({ from: [near], to: far, manifest })).rejects.toEqual(
      refused('object-exists', /far has another backup of the id/),
    );
    expect(lasting(far)).toEqual([manifestKey(manifest)]);
  });

  test('of what is damaged is none, and comes from another storage where that has it whole', async () => {
    const [near, far] = [new MemoryStore(), new MemoryStore()];
    const manifest = await storePlain(near, { text: 'SELECT 1;'.repeat(1_000) });
    const whole = await cloneOf(near);
    flipBit(near.objects.get(manifest.objects[0]?.key ?? '')?.bytes ?? Buffer.of(0), 4_000);
    await expect(copy({ from: [near], to: far, manifest })).rejects.toEqual(
      refused('corrupt', /cannot be copied from near: .*has not the SHA-256 that was recorded/),
    );
    expect([lasting(far), [...far.uploads]]).toEqual([[], []]);
    const heard: string[] = [];
    await copy({ from: [near, whole], to: far, manifest, logger: hearing(heard) });
    expect(heard).toEqual([expect.stringMatching(/^copy.source_failed: .* from near: .*; it is taken from another/)]);
    expect(await wholeBackups(far)).toHaveLength(1);
  });

  test('does not go where a removal of an earlier copy is not finished, which would take it along', async () => {
    const [near, far] = [new MemoryStore(), new MemoryStore()];
    const manifest = await storePlain(near);
    await far.putSmall(keys.deleted(manifest.id), serialiseManifest(manifest));
    // The prune that works there.
    const held = new FaultyStore(far, {
      before: ({ method, key }) => {
        if (method === 'delete' && key === keys.deleted(manifest.id)) throw new PgarkError('store-failed', 'held up');
      },
    });
    await expect(copy({ from: [near], to: held, manifest })).rejects.toEqual(
      refused('locked', /a prune is removing an earlier copy/),
    );
    // One that has died is finished first.
    await copy({ from: [near], to: far, manifest });
    expect(await wholeBackups(far)).toHaveLength(1);
    await pruneAll(far);
    expect(await wholeBackups(far)).toHaveLength(1);
  });

  test('is pinned, and its size accepted, as where it comes from; what retention lets go there is said otherwise', async () => {
    const [near, far] = [new MemoryStore(), new MemoryStore()];
    const retention = { policyOf, timezone: 'UTC' };
    const old = await storePlain(near, { time: new Date('2026-11-18T02:00:00Z') });
    const suspicions = [{ rule: 'min_size', message: 'it is small' }];
    const older = await storePlain(near, { time: new Date('2026-11-17T02:00:00Z'), further: { suspicions } });
    const newest = await storePlain(near);
    expect(await copy({ from: [near], to: far, manifest: newest, retention })).toMatchObject({ letGo: [] });
    expect(await copy({ from: [near], to: far, manifest: old, retention })).toMatchObject({ letGo: [old.id] });
    await near.putSmall(keys.pin(older.id), Buffer.from('a pin'));
    await acceptSize(near, older.id, { acceptedAt: new Date() });
    const pinned = await copy({ from: [near], to: far, manifest: { ...older, suspicions }, retention });
    expect(pinned).toMatchObject({ isPinned: true, letGo: [] });
    expect(lasting(far)).toEqual(expect.arrayContaining([keys.pin(older.id), keys.acceptedSize(older.id)]));
    await pruneAll(far);
    expect((await wholeBackups(far)).map(({ id }) => id).sort()).toEqual([older.id, newest.id].sort());
  });

  test('takes the roles with it that go with the backup', async () => {
    const [near, far] = [new MemoryStore(), new MemoryStore()];
    const manifest = await storePlain(near);
    const content = Buffer.from('x');
    const record: GlobalsRecord = globalsRecord(makeGlobalsId(), { storeTime: new Date('2026-11-20T02:00:05Z') });
    const sha256 = '2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881';
    const object = { ...record.object, storedSha256: sha256 };
    await near.putSmall(object.key, content);
    await commitGlobals(near, { ...record, object });
    const outcome = await copy({ from: [near], to: far, manifest });
    expect(outcome.globals).toEqual({ id: record.id, state: 'copied' });
    expect(lasting(far)).toEqual(lasting(near));
    expect((await copy({ from: [near], to: far, manifest })).globals).toEqual({ id: record.id, state: 'present' });
    // A prune that is removing them.
    await far.putSmall(keys.deleted(record.id), Buffer.from('{}'));
    await expect(copy({ from: [near], to: far, manifest })).rejects.toEqual(
      refused('locked', /a prune is removing an earlier copy/),
    );
  });

  test('has its size accepted before it is seen, and leaves nothing of that where it is not committed', async () => {
    const [near, far] = [new MemoryStore(), new MemoryStore()];
    const suspicions = [{ rule: 'min_size', message: 'it is small' }];
    const manifest = await storePlain(near, { further: { suspicions } });
    await acceptSize(near, manifest.id, { acceptedAt: new Date() });
    const isCommit = ({ method, key }: StoreCall): boolean => method === 'putSmall' && key === manifestKey(manifest);
    const failing = new FaultyStore(far, {
      before: async (call) => {
        if (call.method !== 'head' || !far.objects.has(keys.acceptedSize(manifest.id))) return;
        if (call.key.startsWith(keys.deletedPrefix)) throw new PgarkError('store-failed', 'not now');
      },
    });
    await expect(copy({ from: [near], to: failing, manifest: { ...manifest, suspicions } })).rejects.toThrow('not now');
    expect(lasting(far)).toEqual([]);
    let isCut = false;
    const cut = new FaultyStore(far, {
      before: () => {
        if (isCut) throw new PgarkError('store-unreachable', 'cut off');
      },
      after: (call) => {
        isCut ||= isCommit(call);
      },
    });
    await copy({ from: [near], to: cut, manifest: { ...manifest, suspicions } }).catch(() => undefined);
    expect(isCut).toBe(true);
    expect([...far.objects.keys()]).toEqual(
      expect.arrayContaining([manifestKey(manifest), keys.acceptedSize(manifest.id)]),
    );
  });

  test('that another one has brought since it looked is there, and the same', async () => {
    const [near, far] = [new MemoryStore(), new MemoryStore()];
    const manifest = await storePlain(near);
    let isFirst = true;
    const late = new FaultyStore(far, {
      before: async ({ method, key }) => {
        if (method !== 'putSmall' || !key.startsWith(keys.leasesPrefix) || !isFirst) return;
        isFirst = false;
        await copy({ from: [near], to: far, manifest });
      },
    });
    expect(await copy({ from: [near], to: late, manifest })).toMatchObject({ backups: [{ state: 'present' }] });
    expect(isFirst).toBe(false);
    expect(await wholeBackups(far)).toHaveLength(1);
  });

  test('of a dry run is none, and leaves nothing', async () => {
    const [near, far] = [new MemoryStore(), new MemoryStore()];
    const manifest = (await storePhysical(near)).at(-1) as Manifest;
    const outcome = await copy({ from: [near], to: far, manifest, dryRun: true });
    expect(outcome.backups.map(({ state }) => state)).toEqual(['planned', 'planned', 'planned']);
    expect(far.objects.size).toBe(0);
  });
});
