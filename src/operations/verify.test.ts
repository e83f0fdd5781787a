import { describe, expect, test } from 'vitest';
import { FaultyStore, type StoreCall, type StoreFaults } from '../../test/support/faulty-store.ts';
import { MemoryStore } from '../../test/support/memory-store.ts';
import { oneBlock } from '../../test/support/repository-place.ts';
import { seedBackups } from '../../test/support/seed.ts';
import { addWholeBackup } from '../../test/support/whole-backup.ts';
import { systemClock } from '../common/clock.ts';
import { PgarkError } from '../common/errors.ts';
import type { Secret } from '../common/secret.ts';
import { generateAgeIdentity } from '../pipeline/encryption/age-keys.ts';
import { ageSealer } from '../pipeline/encryption/age-sealer.ts';
import { keys } from '../repository/keys.ts';
import type { Manifest } from '../repository/manifest.ts';
import { listRunRecords } from '../runs/list-run-records.ts';
import { operationContext } from './context.ts';
import { newestProofs, provenAt } from './proofs.ts';
import { verify } from './verify.ts';

test('an object that is missing or has another length failed by that, not after all of it was read', async () => {
  for (const replaced of [false, true]) {
    const store = new MemoryStore();
    const times = [new Date('2026-11-18T02:00:00Z')];
    const [backup] = await seedBackups(store, { source: 'main', database: 'shop', times, withData: true });
    const key = backup?.objects[0]?.key ?? '';
    await store.delete(key);
    if (replaced) await store.putStream(key, oneBlock('much longer than it was'.repeat(100)));
    const { backups } = await verify(
      { store, filter: {}, selector: undefined, deep: true, keys: { identities: [], passphrases: [] } },
      operationContext(),
    );
    expect(backups).toMatchObject([{ depth: 'present', failure: { code: 'corrupt' } }]);
  }
});

test('leaves a run that tells how it went, and failed where a backup did; of nothing it leaves nothing', async () => {
  const store = new MemoryStore();
  const request = { store, filter: {}, selector: undefined, deep: true, keys: { identities: [], passphrases: [] } };
  await verify(request, operationContext());
  expect(store.objects.size).toBe(0);
  const times = [new Date('2026-11-18T02:00:00Z'), new Date('2026-11-19T02:00:00Z')];
  await addWholeBackup(store, 'shop', times[0] ?? new Date());
  await verify(request, operationContext());
  await seedBackups(store, { source: 'main', database: 'shop', times: times.slice(1) });
  await verify(request, operationContext());
  const runs = await listRunRecords(store, { since: new Date(0) });
  expect(runs.map(({ kind }) => kind)).toEqual(['verify', 'verify']);
  expect(Object.fromEntries(runs.map(({ state, result, error }) => [state, error?.code ?? result]))).toEqual({
    failed: 'corrupt',
    succeeded: { verified: 1, failed: 0 },
  });
  expect(runs.find(({ error }) => error)?.error?.message).toMatch(/^1 of 2 backups: .* is missing/);
});

test('a backup that retention deletes meanwhile is none that is damaged, and gets no proof', async () => {
  const store = new MemoryStore();
  const times = [new Date('2026-11-18T02:00:00Z'), new Date('2026-11-19T02:00:00Z')];
  const [dying, kept] = await seedBackups(store, { source: 'main', database: 'shop', times, withData: true });
  if (dying === undefined || kept === undefined) throw new Error('there are no such backups');
  const manifest = keys.manifest('main', 'shop', dying.id);
  const data = dying.objects[0]?.key ?? '';
  const whole = [manifest, data].map((key) => [key, store.objects.get(key)] as const);
  const pruned = new FaultyStore(store, {
    before: async ({ key }) => {
      if (key === data) for (const each of [manifest, data]) await store.delete(each);
    },
  });
  const request = { store: pruned, filter: {}, deep: true, keys: { identities: [], passphrases: [] } };
  const { backups } = await verify({ ...request, selector: undefined }, operationContext());
  expect(backups.map(({ manifest: { id } }) => id)).toEqual([kept.id]);
  for (const [key, entry] of whole) if (entry !== undefined) store.objects.set(key, entry);
  const named = verify({ ...request, selector: { kind: 'name', name: dying.id } }, operationContext());
  await expect(named).rejects.toMatchObject({ code: 'backup-not-found', exitCode: 10 });
  const proofs = [...store.objects.keys()].filter((key) => key.startsWith(keys.proofsPrefix));
  expect(proofs).toEqual([expect.stringContaining(kept.id)]);
});

test('the newest, which is read whole, is the last that the store was given, whatever a clock that was ahead has named', async () => {
  const store = new MemoryStore();
  const of = { source: 'main', database: 'shop', withData: true };
  const [ahead] = await seedBackups(store, {
    ...of,
    times: [new Date('2027-02-18T02:00:00Z')],
    storeTime: new Date('2026-11-18T02:00:00Z'),
  });
  const [, newest] = await seedBackups(store, {
    ...of,
    times: [19, 20].map((day) => new Date(`2026-11-${day}T02:00:00Z`)),
  });
  const request = { store, filter: {}, selector: undefined, deep: false, keys: { identities: [], passphrases: [] } };
  const { backups } = await verify(request, operationContext());
  expect(backups.map(({ manifest: { id } }) => id)).toContain(ahead?.id);
  expect(backups.filter(({ depth }) => depth !== 'present').map(({ manifest: { id } }) => id)).toEqual([newest?.id]);
});

test('a sample takes the newest and, of the others, those that nobody has read for the longest', async () => {
  const store = new MemoryStore();
  const times = [11, 12, 13, 14, 15, 16].map((day) => new Date(`2026-11-${day}T02:00:00Z`));
  const backups = await seedBackups(store, { source: 'main', database: 'shop', times, withData: true });
  const readBy = async (sampleRatio: number): Promise<readonly number[]> => {
    const request = { store, filter: {}, selector: undefined, deep: false, keys: { identities: [], passphrases: [] } };
    const { backups: looked } = await verify({ ...request, sampleRatio }, operationContext());
    const read = looked.filter(({ depth }) => depth !== 'present').map(({ manifest }) => manifest.id);
    return backups.flatMap(({ id }, index) => (read.includes(id) ? [index] : []));
  };
  expect(await readBy(0)).toEqual([5]);
  // Each takes a sixth of the bytes, and the newest is read besides.
  expect(await readBy(0.5)).toEqual([0, 1, 2, 5]);
  expect(await readBy(0.5)).toEqual([0, 3, 4, 5]);
  // However small the share, every one has its turn.
  for (const next of [1, 2, 0, 3, 4]) expect(await readBy(0.1)).toEqual([next, 5]);
  expect(await readBy(1)).toEqual([0, 1, 2, 3, 4, 5]);
});

describe('a backup that the store does not give', () => {
  const days = [11, 12, 13, 14, 15, 16, 17, 18, 19, 20].map((day) => new Date(`2026-11-${day}T02:00:00Z`));
  const request = { filter: {}, selector: undefined, deep: true, keys: { identities: [], passphrases: [] } };
  const refusal = (key: string) => new PgarkError('store-access-denied', `the store does not give ${key}`);

  async function tenWith(faultsOf: (second: Manifest) => StoreFaults) {
    const inner = new MemoryStore();
    const backups: Manifest[] = [];
    for (const day of days) backups.push(await addWholeBackup(inner, 'shop', day));
    const [, second] = backups;
    if (second === undefined) throw new Error('there is no such backup');
    const store = new FaultyStore(inner, faultsOf(second));
    const proofs = async () => newestProofs(inner, backups, { clock: systemClock });
    return { store, second, proofs };
  }

  /** Does not give the data of a backup so many times. */
  const unread =
    (times: number) =>
    ({ objects }: Manifest): StoreFaults => {
      let left = times;
      const before = ({ method, key }: StoreCall): void => {
        if (method !== 'get' || key !== objects[0]?.key || left === 0) return;
        left -= 1;
        throw refusal(key);
      };
      return { before };
    };

  test('has failed, is not proven any more, and keeps none of the others from being read', async () => {
    const { store, second, proofs } = await tenWith(() => ({}));
    await verify({ ...request, store }, operationContext());
    expect(provenAt((await proofs()).get(second.id) ?? {})).toBeDefined();
    store.faults = unread(Number.POSITIVE_INFINITY)(second);
    const { backups } = await verify({ ...request, store }, operationContext());
    expect(backups).toHaveLength(10);
    expect(backups.filter(({ failure }) => failure !== undefined)).toMatchObject([
      { manifest: { id: second.id }, failure: { code: 'store-access-denied' } },
    ]);
    expect(provenAt((await proofs()).get(second.id) ?? {})).toBeUndefined();
    expect([...(await proofs()).values()].filter((each) => provenAt(each) !== undefined)).toHaveLength(9);
  });

  test('is told to be damaged only until all of it is read again, also without a key that opens it', async () => {
    const inner = new MemoryStore();
    const { recipient, identity } = await generateAgeIdentity();
    const sealer = await ageSealer({ recipients: [recipient] });
    const backup = await addWholeBackup(inner, 'shop', days[0] ?? new Date(), sealer);
    const key = backup.objects[0]?.key ?? '';
    const stored = inner.objects.get(key);
    const store = new FaultyStore(inner, {});
    const look = async (keysHere: readonly Secret[] = []) => {
      const verification = { ...request, store, keys: { identities: keysHere, passphrases: [] } };
      const [verified] = (await verify(verification, operationContext())).backups;
      const proofs = (await newestProofs(inner, [backup], { clock: systemClock })).get(backup.id) ?? {};
      const isProven = provenAt(proofs) !== undefined;
      return [verified?.depth, verified?.failure?.code, { isProven, isIll: proofs.verify?.passed === false }];
    };
    expect(await look([identity])).toEqual(['read', undefined, { isProven: true, isIll: false }]);
    // Where nothing was wrong it says nothing: the proof stands.
    expect(await look()).toEqual(['stored', undefined, { isProven: true, isIll: false }]);
    store.faults = unread(2)(backup);
    expect(await look()).toEqual(['read', 'store-access-denied', { isProven: false, isIll: true }]);
    expect(await look()).toEqual(['stored', undefined, { isProven: false, isIll: false }]);
    inner.objects.delete(key);
    expect(await look()).toEqual(['present', 'corrupt', { isProven: false, isIll: true }]);
    if (stored !== undefined) inner.objects.set(key, stored);
    expect(await look()).toEqual(['stored', undefined, { isProven: false, isIll: false }]);
    expect(await look([identity])).toEqual(['read', undefined, { isProven: true, isIll: false }]);
  });

  test('is read once more before that is said of it', async () => {
    const { store, proofs } = await tenWith(unread(1));
    const { backups } = await verify({ ...request, store }, operationContext());
    expect(backups.filter(({ failure }) => failure !== undefined)).toEqual([]);
    expect([...(await proofs()).values()].filter((each) => provenAt(each) !== undefined)).toHaveLength(10);
  });

  test('has not failed where the store gives nothing any more', async () => {
    let isAway = false;
    const { store, proofs } = await tenWith(({ objects }) => ({
      before: ({ method, key }) => {
        isAway ||= method === 'get' && key === objects[0]?.key;
        if (isAway) throw refusal(key);
      },
    }));
    await expect(verify({ ...request, store }, operationContext())).rejects.toMatchObject({
      code: 'store-access-denied',
    });
    expect((await proofs()).size).toBe(1);
  });
});

test('a proof says whether its backup was the newest when the verification began, also where it is not any more', async () => {
  const inner = new MemoryStore();
  const times = [new Date('2026-11-18T02:00:00Z'), new Date('2026-11-19T02:00:00Z')];
  const [first, second] = await seedBackups(inner, { source: 'main', database: 'shop', times, withData: true });
  let isLater = false;
  const store = new FaultyStore(inner, {
    before: async ({ method }) => {
      if (method !== 'putSmall' || isLater) return;
      isLater = true;
      await seedBackups(inner, { source: 'main', database: 'shop', times: [new Date('2026-11-20T02:00:00Z')] });
    },
  });
  const request = { store, filter: {}, selector: undefined, deep: true, keys: { identities: [], passphrases: [] } };
  await verify(request, operationContext());
  const said = [...inner.objects].flatMap(([key, { bytes }]) =>
    key.startsWith(keys.proofsPrefix) ? [JSON.parse(new TextDecoder().decode(bytes)) as unknown] : [],
  );
  expect(said).toMatchObject([
    { backupId: first?.id, wasNewest: false },
    { backupId: second?.id, wasNewest: true },
  ]);
});

test('keys that do not open the newest backup fail, which they need not for an older one; without any key none fails', async () => {
  const store = new MemoryStore();
  const [old, fresh] = [await generateAgeIdentity(), await generateAgeIdentity()];
  const sealedFor = ({ recipient }: typeof old) => ageSealer({ recipients: [recipient] });
  const { id: older } = await addWholeBackup(store, 'shop', new Date('2026-11-18T02:00:00Z'), await sealedFor(old));
  await addWholeBackup(store, 'shop', new Date('2026-11-19T02:00:00Z'), await sealedFor(fresh));
  const look = async (identities: readonly Secret[], name?: string, ownSources?: ReadonlySet<string>) => {
    const selector = name === undefined ? undefined : ({ kind: 'name', name } as const);
    const request = { store, filter: {}, selector, deep: true, keys: { identities, passphrases: [] }, ownSources };
    const { backups } = await verify(request, operationContext());
    return backups.map(({ depth, failure }) => [depth, failure?.code]);
  };
  expect(await look([old.identity])).toEqual([
    ['read', undefined],
    ['stored', 'wrong-key'],
  ]);
  expect(await look([fresh.identity])).toEqual([
    ['stored', undefined],
    ['read', undefined],
  ]);
  expect(await look([fresh.identity], older)).toEqual([['stored', 'wrong-key']]);
  expect(await look([old.identity], undefined, new Set(['another']))).toEqual([
    ['read', undefined],
    ['stored', undefined],
  ]);
  expect(await look([])).toEqual([
    ['stored', undefined],
    ['stored', undefined],
  ]);
});
