import { describe, expect, test } from 'vitest';
import {
  cloneOf,
  copy,
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
import { Secret } from '../../common/secret.ts';
import { opensslSealer } from '../../pipeline/encryption/openssl-sealer.ts';
import { type Logger, silentLogger } from '../../common/log.ts';
import { acceptSize } from '../../repository/accepted-sizes.ts';
import { commitGlobals, type GlobalsRecord } from '../../repository/globals.ts';
import { keys } from '../../repository/keys.ts';
import { type Manifest, serialiseManifest } from '../../repository/manifest.ts';
import { operationContext } from '../context.ts';
import { prune } from '../prune.ts';

function hearing(heard: string[]): Logger {
  const logger: Logger = {
    ...silentLogger,
    warning: (event, message) => void heard.push(`${event}: ${message}`),
    child: () => logger,
  };
  return logger;
}

const manifestKey = ({ source, database, id }: Manifest): string => keys.manifest(source, database.name, id);

/** All but the last go. */
const policyOf = () => ({ keep: { last: 1 }, minBackups: 1 });

function pruneAll(store: FaultyStore | MemoryStore): Promise<unknown> {
  const rest = { timezone: 'UTC', leaseTermMs: 60_000, dryRun: false, force: true };
  const walPolicyOf = () => ({ keepMs: 0 });
  return prune({ store, filter: {}, policyOf, walPolicyOf, ...rest }, operationContext());
}

const refused = (code: string, message: RegExp | string): object =>
  expect.objectContaining({ code, message: expect.stringMatching(message) as string });

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
  });

  test('of a dry run is none, and leaves nothing', async () => {
    const [near, far] = [new MemoryStore(), new MemoryStore()];
    const manifest = (await storePhysical(near)).at(-1) as Manifest;
    const outcome = await copy({ from: [near], to: far, manifest, dryRun: true });
    expect(outcome.backups.map(({ state }) => state)).toEqual(['planned', 'planned', 'planned']);
    expect(far.objects.size).toBe(0);
  });
});

describe('a copy of an incremental backup', () => {
  test('brings what it needs, oldest first, and the WAL of each', async () => {
    const [near, far] = [new MemoryStore(), new MemoryStore()];
    const [full, ...others] = (await storePhysical(near)) as readonly [Manifest, ...Manifest[]];
    const manifest = others.at(-1) as Manifest;
    await copy({ from: [near], to: far, manifest: full });
    const committed: string[] = [];
    const told = new FaultyStore(far, {
      after: ({ method, key }) => void (method === 'putSmall' && committed.push(key)),
    });
    const outcome = await copy({ from: [near], to: told, manifest });
    expect(outcome.backups.map(({ state }) => state)).toEqual(['present', 'copied', 'copied']);
    expect(outcome.wal).toMatchObject({ objects: 2 });
    expect(lasting(far)).toEqual(lasting(near));
    expect(await wholeBackups(far)).toHaveLength(3);
    expect(committed.filter((key) => key.startsWith(keys.manifestsPrefix))).toEqual(others.map(manifestKey));
    // What it needs, and that was removed there by hand.
    await far.delete(manifestKey(full));
    for (const { key } of full.objects) await far.delete(key);
    const again = await copy({ from: [near], to: far, manifest });
    expect(again.backups.map(({ state }) => state)).toEqual(['copied', 'present', 'present']);
    await near.delete(manifestKey(full));
    await far.delete(manifestKey(full));
    await expect(copy({ from: [near], to: far, manifest })).rejects.toEqual(
      refused('backup-not-found', /is neither in near nor in far, and .* needs it/),
    );
  });

  test('compares WAL that is there, copies what is missing of it, and replaces none of another server', async () => {
    const [near, far] = [new MemoryStore(), new MemoryStore()];
    const [full] = (await storePhysical(near, { links: 1 })) as readonly [Manifest];
    const isWal = (key: string): boolean => key.includes('/wal/');
    const [segment = ''] = [...near.objects.keys()].filter(isWal);
    await copy({ from: [near], to: far, manifest: full });
    await far.delete(segment);
    const again = await copy({ from: [near], to: far, manifest: full });
    expect(again).toMatchObject({ backups: [{ state: 'present' }], wal: { objects: 1 } });
    const other = new MemoryStore();
    await storePhysical(other, { links: 1, fill: 'o' });
    for (const key of other.objects.keys()) if (!isWal(key)) await other.delete(key);
    const before = lasting(other);
    await expect(copy({ from: [near], to: other, manifest: full })).rejects.toEqual(
      refused('wal-conflict', /is in .* already, with another content/),
    );
    expect(lasting(other)).toEqual(before);
    flipBit(near.objects.get(segment)?.bytes ?? Buffer.of(0), 600);
    const untouched = new MemoryStore();
    await expect(copy({ from: [near], to: untouched, manifest: full })).rejects.toEqual(
      refused('corrupt', 'the WAL of'),
    );
    expect(lasting(untouched)).toEqual([]);
  });

  test('brings the histories that lead to its timeline', async () => {
    const [near, far] = [new MemoryStore(), new MemoryStore()];
    const [full] = (await storePhysical(near, { links: 1, timeline: 3 })) as readonly [Manifest];
    await copy({ from: [near], to: far, manifest: full });
    expect(lasting(far).filter((key) => key.includes('.history'))).toHaveLength(4);
    expect(lasting(far)).toEqual(lasting(near));
  });

  test('copies WAL that no key opens, and compares what is there by what it says of itself, or by its length', async () => {
    const passphrase = new Secret('correct horse battery staple of thirty-two');
    const sealer = await opensslSealer({ passphrase });
    const [near, far] = [new MemoryStore(), new MemoryStore()];
    const [full] = (await storePhysical(near, { links: 1, sealer })) as readonly [Manifest];
    expect((await copy({ from: [near], to: far, manifest: full })).wal).toMatchObject({ objects: 1 });
    expect(lasting(far)).toEqual(lasting(near));
    const keysOfAll = { identities: [], passphrases: [passphrase] };
    for (const keepsMetadata of [true, false]) {
      for (const opening of [undefined, keysOfAll]) {
        const same = await walAlone({ keepsMetadata, sealer });
        expect((await copy({ from: [near], to: same, manifest: full, keys: opening })).wal).toMatchObject({
          objects: 0,
        });
        const other = await walAlone({ keepsMetadata, sealer, fill: 'of another server' });
        const copying = copy({ from: [near], to: other, manifest: full, keys: opening });
        await expect(copying).rejects.toEqual(refused('wal-conflict', /with another content/));
      }
    }
  });

  test('keeps prunes on both sides from what it reads, and from what it needs', async () => {
    const [near, far] = [new MemoryStore(), new MemoryStore()];
    const [full, middle, last] = (await storePhysical(near)) as readonly [Manifest, Manifest, Manifest];
    await copy({ from: [near], to: far, manifest: full });
    // For a newer one retention lets the chain go, with its WAL.
    for (const store of [near, far]) await storePhysical(store, { links: 1, firstDay: 3 });
    const expected = lasting(near);
    let prunes = 0;
    const pruneBoth = async (): Promise<void> => {
      prunes += 1;
      await pruneAll(near);
      await pruneAll(far);
    };
    const midway = new FaultyStore(far, {
      before: async ({ method, key }) => {
        if (method === 'putStream' && key.endsWith(`${last.id}/base.tar`)) await pruneBoth();
      },
      // One of those that it needs is there, and nobody else needs it yet.
      after: async ({ method, key }) => {
        if (method === 'delete' && key === keys.intent(middle.id)) await pruneBoth();
      },
    });
    await copy({ from: [near], to: midway, manifest: last });
    expect(prunes).toBe(2);
    expect(lasting(near)).toEqual(expected);
    expect(lasting(far)).toEqual(expected);
    expect((await wholeBackups(far)).map(({ id }) => id)).toEqual(
      expect.arrayContaining([full.id, middle.id, last.id]),
    );
    await pruneAll(far);
    expect(await wholeBackups(far)).toHaveLength(1);
  });

  test.each([
    ['what it needs is removed', 'backup-not-found', keys.manifestsPrefix],
    ['its WAL is removed', 'corrupt', 'main/wal/'],
    ['its lease is another’s', 'lease-lost', keys.leasesPrefix],
  ])('commits nothing where %s while it goes on', async (_what, code, prefix) => {
    const [near, far] = [new MemoryStore(), new MemoryStore()];
    const [full, last] = (await storePhysical(near, { links: 2 })) as readonly [Manifest, Manifest];
    await copy({ from: [near], to: far, manifest: full });
    const put: string[] = [];
    const midway = new FaultyStore(far, {
      before: async ({ method, key }) => {
        if (method === 'putSmall') put.push(key);
        if (method !== 'putStream' || !key.endsWith(`${last.id}/base.tar`)) return;
        for (const each of far.objects.keys()) if (each.startsWith(prefix)) await far.delete(each);
      },
    });
    await expect(copy({ from: [near], to: midway, manifest: last })).rejects.toMatchObject({ code });
    expect(put).not.toContain(manifestKey(last));
    if (code !== 'lease-lost') expect(lasting(far).filter((key) => key.includes(last.id))).toEqual([]);
  });

  test.each([
    ['goes to', 'before'],
    ['goes to', 'after'],
    ['comes from', 'before'],
  ] as const)(
    'that is cut off at any call of the store it %s, %s it took effect, leaves whole backups and, after the next runs, nothing else',
    async (where, when) => {
      const near = new MemoryStore();
      const manifest = (await storePhysical(near, { links: 2 })).at(-1) as Manifest;
      const expected = lasting(near);
      let calls = 1;
      for (let isCut = true; isCut; calls += 1) {
        isCut = false;
        const far = new MemoryStore();
        const cut = ({ number }: StoreCall): void => {
          // From then on nothing works: the program was killed, or the line cut.
          if (number < calls) return;
          isCut = true;
          throw new PgarkError('store-unreachable', 'cut off');
        };
        const faulty = (store: MemoryStore): FaultyStore => new FaultyStore(store, { [when]: cut });
        const [from, to] = where === 'goes to' ? [near, faulty(far)] : [faulty(near), far];
        await copy({ from: [from], to, manifest }).catch((error: unknown) => expect(error).toBeInstanceOf(PgarkError));
        await wholeBackups(far);
        await expire(near);
        await expire(far);
        await copy({ from: [near], to: far, manifest });
        await sweepUp(far);
        expect([lasting(far), [...far.uploads]]).toEqual([expected, []]);
      }
      expect(calls).toBeGreaterThan(10);
    },
    120_000,
  );
});

/** A store into which a receiver of the same server, or of another one, has put what the backup needs. */
async function walAlone({
  keepsMetadata,
  ...of
}: { readonly keepsMetadata: boolean } & Parameters<typeof storePhysical>[1]): Promise<MemoryStore> {
  const store = new MemoryStore({ keepsMetadata });
  await storePhysical(store, { links: 1, ...of });
  for (const key of store.objects.keys()) if (!key.includes('/wal/')) await store.delete(key);
  return store;
}

/** Leases of who was cut off end with their term, and so do holds. */
async function expire(store: MemoryStore): Promise<void> {
  for (const key of store.objects.keys()) {
    if (key.startsWith(keys.leasesPrefix) || key.startsWith(keys.readingPrefix)) await store.delete(key);
  }
}

/** As every backup and every prune does. */
async function sweepUp(store: MemoryStore): Promise<void> {
  const rest = { timezone: 'UTC', leaseTermMs: 60_000, dryRun: false, force: false };
  await prune({ store, filter: {}, policyOf: () => undefined, ...rest }, operationContext());
}
