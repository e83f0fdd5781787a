import { expect, test } from 'vitest';
import { storeChain } from '../../test/support/base-chain.ts';
import { FaultyStore } from '../../test/support/faulty-store.ts';
import { MemoryStore } from '../../test/support/memory-store.ts';
import { systemClock } from '../common/clock.ts';
import { type Logger, silentLogger } from '../common/log.ts';
import { systemRandom } from '../common/random.ts';
import { type FormatLetter, makeBackupId } from '../repository/ids.ts';
import { IntentLog } from '../repository/intents.ts';
import { keys } from '../repository/keys.ts';
import { Leases } from '../repository/leases.ts';
import { type Manifest, serialiseManifest } from '../repository/manifest.ts';
import { Repository } from '../repository/repository.ts';
import { operationContext } from './context.ts';
import { prune } from './prune.ts';

/** After the days of the chains. */
const NOW = new Date('2026-12-20T00:00:00Z');

/** A full backup and two increments, and a later full one that lets them all go: the newest first. */
async function scene() {
  const memory = new MemoryStore({ clock: { now: () => NOW } });
  const store = new FaultyStore(memory);
  await new Repository(memory, { clock: systemClock, random: systemRandom }).initialise({ pgarkVersion: '0.1.0' });
  const link = { files: [] };
  const [newest, middle, full] = (await storeChain(memory, [link, link, link])).map(({ manifest }) => manifest);
  await storeChain(memory, [link], { firstDay: 5 });
  if (newest === undefined || middle === undefined || full === undefined) throw new Error('there are three');
  const warnings: string[] = [];
  const logger: Logger = {
    ...silentLogger,
    warning: (_event, message) => void warnings.push(message),
    child: () => logger,
  };
  const isThere = ({ id }: Manifest): boolean => memory.objects.has(keys.manifest('main', 'postgres', id));
  return {
    memory,
    store,
    chain: { newest, middle, full },
    warnings,
    left: () => [newest, middle, full].filter(isThere).map(({ id }) => id),
    /** Done once the newest of the chain is no backup any more. */
    whileRemoving: (work: () => Promise<void>): void => {
      const key = keys.manifest('main', 'postgres', newest.id);
      store.faults = { after: (call) => (call.method === 'delete' && call.key === key ? work() : undefined) };
    },
    begin: async (letter: FormatLetter, source = 'main') => {
      const id = makeBackupId(NOW, letter, systemRandom);
      const holder = { host: 'h', pid: 1, runId: 'r', command: 'pgark backup' };
      const options = { clock: systemClock, random: systemRandom, logger: silentLogger, termMs: 60_000, holder };
      const lease = await new Leases(memory, options).acquire(`base:${source}`);
      const intents = new IntentLog(memory);
      await intents.begin({ id, runId: 'r', lease, source, database: 'postgres', startedAt: NOW });
      return async (parents?: readonly Manifest[]) => {
        if (parents !== undefined) {
          const manifest = { ...middle, id, parents: parents.map((parent) => parent.id) };
          await memory.putSmall(keys.manifest(source, 'postgres', id), serialiseManifest(manifest));
        }
        await intents.remove(id);
        await lease.release();
      };
    },
    run: async () => {
      const policyOf = () => ({ keep: { last: 1 }, minBackups: 1 });
      const request = { store, filter: {}, policyOf, timezone: 'UTC', leaseTermMs: 60_000, dryRun: false, force: true };
      return (await prune(request, { ...operationContext(), logger })).removed.map(({ id }) => id);
    },
  };
}

test('a prune stops removing a chain when an incremental backup of the source begins, and goes on when it has failed', async () => {
  const { chain, warnings, left, whileRemoving, begin, run } = await scene();
  let end: (() => Promise<void>) | undefined;
  whileRemoving(async () => {
    end = await begin('i');
  });
  expect(await run()).toEqual([chain.newest.id]);
  expect(left()).toEqual([chain.middle.id, chain.full.id]);
  expect(warnings).toEqual([
    expect.stringContaining(`no more physical backups of main are removed, from ${chain.middle.id}`),
  ]);
  expect(await run()).toEqual([]);
  await end?.();
  expect(await run()).toEqual([chain.middle.id, chain.full.id]);
  expect(left()).toEqual([]);
});

test('an incremental backup that begins and ends while a prune removes others keeps its chain', async () => {
  const { chain, warnings, left, whileRemoving, begin, run } = await scene();
  whileRemoving(async () => {
    const end = await begin('i');
    await end([chain.middle, chain.full]);
  });
  expect(await run()).toEqual([chain.newest.id]);
  expect(left()).toEqual([chain.middle.id, chain.full.id]);
  expect(warnings).toHaveLength(1);
});

test('backups under way that need no other, or are of other sources, stop no prune', async () => {
  const { chain, warnings, left, whileRemoving, begin, run } = await scene();
  whileRemoving(async () => {
    await begin('f');
    await begin('i', 'crm');
  });
  expect(await run()).toEqual([chain.newest.id, chain.middle.id, chain.full.id]);
  expect([left(), warnings]).toEqual([[], []]);
});
