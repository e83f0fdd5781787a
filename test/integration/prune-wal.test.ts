import { afterAll, beforeAll, expect, test } from 'vitest';
import { MIB } from '../../src/common/bytes.ts';
import { generateAgeIdentity } from '../../src/pipeline/encryption/age-keys.ts';
import { ageSealer } from '../../src/pipeline/encryption/age-sealer.ts';
import { operationContext } from '../../src/operations/context.ts';
import { prune, type PruneOutcome } from '../../src/operations/prune.ts';
import { judgeGaps, recoveryTimelines } from '../../src/operations/wal/recovery-window.ts';
import { parseLsn } from '../../src/postgres/wal/lsn.ts';
import type { Manifest } from '../../src/repository/manifest.ts';
import { Cluster } from '../support/cluster.ts';
import { FaultyStore } from '../support/faulty-store.ts';
import { MemoryStore } from '../support/memory-store.ts';
import { backUpServer, manifestOf, restoreServer, ServerFolder } from '../support/physical.ts';
import { Archived, flushedLsn, load, startReceiving, walFolder } from '../support/wal-receiving.ts';

let cluster: Cluster;
let folder: ServerFolder;
beforeAll(async () => {
  cluster = await Cluster.start({ initdb: ['--wal-segsize=1'] });
  folder = await ServerFolder.make(cluster.binDir);
});
afterAll(async () => {
  await folder[Symbol.asyncDispose]();
  await cluster[Symbol.asyncDispose]();
});

test('a prune leaves a server’s WAL such that every base backup that stays restores, and the window is whole', {
  timeout: 240_000,
}, async () => {
  const { identity, recipient } = await generateAgeIdentity();
  const sealer = await ageSealer({ recipients: [recipient] });
  const keys = { identities: [identity], passphrases: [] };
  const store = new FaultyStore(new MemoryStore());
  const seal = { compression: { algorithm: 'zstd', level: 1 }, sealer } as const;
  const place = { destination: { name: 'memory', store, needsDelete: false } };
  const base = async (): Promise<Manifest> =>
    manifestOf(await backUpServer(cluster, [place], { seal, source: 'shop', leaseTermMs: 60_000 }));
  const pruning = (last: number, keepMs?: number): Promise<PruneOutcome> =>
    prune(
      {
        store,
        filter: {},
        policyOf: () => ({ keep: { last }, minBackups: 1 }),
        walPolicyOf: () => ({ keepMs }),
        timezone: 'UTC',
        leaseTermMs: 60_000,
        dryRun: false,
        force: false,
      },
      operationContext(),
    );
  const restores = async ({ id }: Manifest): Promise<string> => {
    const data = folder.join(id);
    await folder.makeFolder(data);
    await restoreServer(store, data, { keys, selector: { kind: 'name', name: id } });
    const server = await folder.start(data);
    const count = await server.value('select count(*) from load');
    await folder.stop(data);
    return count;
  };
  await using receiving = startReceiving(cluster, [store], { sealer, keys });
  const bases: Manifest[] = [];
  for (let round = 0; round < 3; round += 1) {
    await cluster.sql(load(2_500));
    await receiving.archives(await flushedLsn(cluster));
    bases.push(await base());
    await cluster.sql(load(2_500));
    await receiving.archives(await flushedLsn(cluster));
  }
  const [, second, third] = bases as [Manifest, Manifest, Manifest];
  const archived = new Archived(store, await walFolder(cluster), MIB, keys);

  expect((await pruning(2)).removed).toHaveLength(1);
  const { from, to } = await archived.onlyStretch();
  const start = parseLsn(second.startLsn ?? '');
  // What was stored only when it had begun stays, too: the segment before.
  expect([from <= start, from > start - BigInt(3 * MIB)]).toEqual([true, true]);
  expect(to).toBeGreaterThanOrEqual(await flushedLsn(cluster));

  // A window that begins now: of the second base backup stays what makes it one.
  const { wal } = await pruning(2, 0);
  expect(wal[0]?.segments).toBeGreaterThan(0);
  const [timeline] = await recoveryTimelines({ store, source: 'shop' }, operationContext());
  expect(timeline?.windows.map((window) => window.bases.map(({ id }) => id))).toEqual([[second.id], [third.id]]);
  // What it made is no loss, unless somebody wants to get through it.
  expect(timeline && judgeGaps(timeline, new Date())).toMatchObject({ missing: [], letGo: timeline?.wal.gaps });
  expect(timeline && judgeGaps(timeline, undefined).missing).toHaveLength(1);
  expect(await restores(second)).toBe('7500');

  // While one is under way, nothing goes: what it starts with may be older than what was archived last.
  const held = Promise.withResolvers<void>();
  const begun = Promise.withResolvers<void>();
  store.faults = {
    before: async ({ method, key }) => {
      if (method !== 'putStream' || !key.includes('/base/')) return;
      begun.resolve();
      await held.promise;
    },
  };
  const fourth = base();
  await begun.promise;
  await cluster.sql(load(1_500));
  await receiving.archives(await flushedLsn(cluster));
  expect((await pruning(1, 0)).wal).toMatchObject([{ segments: 0, keepsAll: expect.stringContaining('under way') }]);
  held.resolve();
  const last = await fourth;
  store.faults = {};
  await pruning(1, 0);
  expect((await archived.onlyStretch()).from).toBeLessThanOrEqual(parseLsn(last.startLsn ?? ''));
  await receiving.stop();
  expect(await restores(last)).toBe('16500');
});
