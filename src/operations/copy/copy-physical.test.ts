import { describe, expect, test } from 'vitest';
import {
  copy,
  manifestKey,
  pruneAll,
  refused,
  lasting,
  storePhysical,
  wholeBackups,
} from '../../../test/support/copying-backups.ts';
import { flipBit } from '../../../test/support/damage.ts';
import { FaultyStore, type StoreCall } from '../../../test/support/faulty-store.ts';
import { MemoryStore } from '../../../test/support/memory-store.ts';
import { PgarkError } from '../../common/errors.ts';
import { Secret } from '../../common/secret.ts';
import { opensslSealer } from '../../pipeline/encryption/openssl-sealer.ts';
import { keys } from '../../repository/keys.ts';
import type { Manifest } from '../../repository/manifest.ts';
import { operationContext } from '../context.ts';
import { prune } from '../prune.ts';

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
    const planned = await copy({ from: [near], to: far, manifest: full, dryRun: true });
    expect(planned).toMatchObject({ backups: [{ state: 'present' }], isWalMissing: true });
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

  test('leaves no WAL of a backup whose data could not be copied, and says first what WAL nobody has', async () => {
    const [near, far] = [new MemoryStore(), new MemoryStore()];
    const [full] = (await storePhysical(near, { links: 1 })) as readonly [Manifest];
    const put: string[] = [];
    const failing = new FaultyStore(far, {
      before: ({ method, key }) => {
        if (method !== 'putStream') return;
        put.push(key);
        if (key.includes(full.id)) throw new PgarkError('store-full', 'no room');
      },
    });
    await expect(copy({ from: [near], to: failing, manifest: full })).rejects.toThrow('no room');
    expect(lasting(far)).toEqual([]);
    put.length = 0;
    for (const key of near.objects.keys()) if (key.includes('/wal/')) await near.delete(key);
    await expect(copy({ from: [near], to: failing, manifest: full })).rejects.toEqual(refused('corrupt', 'the WAL of'));
    expect(put).toEqual([]);
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
    const isMidway = (key: string): boolean =>
      prefix.endsWith('wal/') ? key.startsWith(prefix) : key.endsWith(`${last.id}/base.tar`);
    const midway = new FaultyStore(far, {
      before: ({ method, key }) => void (method === 'putSmall' && put.push(key)),
      after: async ({ method, key }) => {
        if (method !== 'putStream' || !isMidway(key)) return;
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
