import { expect, test } from 'vitest';
import { KeptWal, range } from '../../../test/support/kept-wal.ts';
import { ManualClock } from '../../../test/support/manual-clock.ts';
import { MIB } from '../../common/bytes.ts';
import { PgarkError } from '../../common/errors.ts';
import { silentLogger } from '../../common/log.ts';
import { systemRandom } from '../../common/random.ts';
import { formatTimelineHistory, historyFileName } from '../../postgres/wal/timeline-history.ts';
import type { WalPolicy } from '../prune-archives.ts';
import { Archives } from './archives.ts';

const WEEK: WalPolicy = { keepMs: 7 * 86_400_000 };

/** Has segments of each of the last 30 days, four a day; the other one has a base backup of each day, and has pruned, and was away for a day. */
async function twoOf(): Promise<{ near: KeptWal; far: KeptWal }> {
  const [near, far] = [new KeptWal(), new KeptWal()];
  for (let day = 1; day <= 30; day += 1) {
    await near.segments(day * 4, day * 4 + 3, 30 - day);
    if (day > 29) continue;
    await far.segments(day * 4, day * 4 + 3, 30 - day);
    await far.base(30 - day, day * 4 + 1, day * 4 + 1);
  }
  await far.prune({ last: 25, keepDays: 7, force: true });
  return { near, far };
}

/** Begins while the second one is away, and lets it answer then; until nothing more is copied. */
async function catchUp(near: KeptWal, far: KeptWal, policy: WalPolicy | undefined): Promise<readonly number[]> {
  const clock = new ManualClock(new Date(near.now));
  far.store.faults = { before: () => Promise.reject(new PgarkError('store-unreachable', 'the test refuses')) };
  const archives = await Archives.open(
    [
      { name: 'near', store: near.store },
      { name: 'far', store: far.store, policy },
    ],
    { ...near.folder, segmentBytes: MIB },
    {
      clock,
      random: systemRandom,
      logger: silentLogger,
      pgarkVersion: '0.1.0',
      sealing: { sealer: undefined, keys: { identities: [], passphrases: [] } },
    },
  );
  far.store.faults = {};
  await clock.advance(31_000);
  const newest = near.numbers().at(-1) ?? 0;
  await expect.poll(() => far.numbers().at(-1)).toBe(newest);
  await archives.close();
  return far.numbers();
}

test('a storage that comes back gets what it lacks of what its base backups need, and nothing that it has pruned', async () => {
  const { near, far } = await twoOf();
  const before = far.numbers();
  expect(before).not.toEqual(range(4, 119));
  expect(await catchUp(near, far, WEEK)).toEqual([...before, ...range(120, 123)]);
  // Nor would any of it go again.
  expect((await far.prune({ last: 25, keepDays: 7 })).wal).toMatchObject([{ segments: 0 }]);
});

test('it gets what one of its base backups lacks, however old', async () => {
  const { near, far } = await twoOf();
  const before = far.numbers();
  const [oldest = 0] = before;
  for (const key of far.memory.objects.keys()) {
    if (key.endsWith(`${oldest.toString(16).padStart(8, '0').toUpperCase()}.zst`)) far.memory.objects.delete(key);
  }
  expect(far.numbers()).toEqual(before.slice(1));
  expect(await catchUp(near, far, WEEK)).toEqual([...before, ...range(120, 123)]);
});

test('it gets the way to a timeline that was begun meanwhile, behind an older base backup', async () => {
  const { near, far } = await twoOf();
  const before = far.numbers();
  const [oldest = 0] = before;
  const history = formatTimelineHistory({
    timeline: 2,
    ancestors: [{ timeline: 1, end: BigInt((oldest + 11) * MIB), reason: '' }],
  });
  await near.object(near.key(historyFileName(2)), 0, history);
  await near.segments(oldest + 11, oldest + 12, 0, { timeline: 2 });
  // The last base backup before it, long before the window, is the way to it.
  const way = [oldest + 9, oldest + 10];
  expect(await catchUp(near, far, WEEK)).toEqual([...before, ...way, ...range(120, 123)].sort((a, b) => a - b));
});

test.each([
  ['nothing of it may ever go', undefined, true],
  ['it has no base backup', WEEK, false],
] as const)('it gets all where %s', async (_, policy, hasBases) => {
  const { near, far } = hasBases ? await twoOf() : { ...(await twoOf()), far: new KeptWal() };
  expect(await catchUp(near, far, policy)).toEqual(range(4, 123));
});
