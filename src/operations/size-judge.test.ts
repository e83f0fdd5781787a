import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { MIB } from '../common/bytes.ts';
import { FaultyStore } from '../../test/support/faulty-store.ts';
import { ManualClock } from '../../test/support/manual-clock.ts';
import { MemoryStore } from '../../test/support/memory-store.ts';
import { manifestOf } from '../../test/support/repository-place.ts';
import { PgarkError } from '../common/errors.ts';
import { systemRandom } from '../common/random.ts';
import { acceptSize } from '../repository/accepted-sizes.ts';
import { type FormatLetter, makeBackupId } from '../repository/ids.ts';
import { keys } from '../repository/keys.ts';
import type { Manifest } from '../repository/manifest.ts';
import { Repository } from '../repository/repository.ts';
import { type EarlierSize, judgeSize, SizeJudge } from './size-judge.ts';

const { signal } = new AbortController();
const known = (plainBytes: number): EarlierSize => ({ kind: 'known', id: '20261119T020000Z-pabcdef', plainBytes });
const rulesOf = (...args: Parameters<typeof judgeSize>): readonly string[] =>
  judgeSize(...args).map(({ rule }) => rule);

describe('a size', () => {
  test.each<[string, number, EarlierSize, Parameters<typeof judgeSize>[2], readonly string[]]>([
    ['of which nothing is expected', 1, known(100), {}, []],
    ['as small as may be', 50, known(100), { minBytes: 50 }, []],
    ['smaller than that', 49, known(100), { minBytes: 50 }, ['min_size']],
    ['with nothing before it', 1, { kind: 'none' }, { changeRatioMax: 0.4 }, []],
    ['that shrank as far as may be', 60, known(100), { changeRatioMax: 0.4 }, []],
    ['that shrank further', 59, known(100), { changeRatioMax: 0.4 }, ['size_change']],
    ['that grew as far as may be', 140, known(100), { changeRatioMax: 0.4 }, []],
    ['that grew further', 141, known(100), { changeRatioMax: 0.4 }, ['size_change']],
    ['that must not change', 100, known(100), { changeRatioMax: 0 }, []],
    ['that is wrong by both rules', 10, known(100), { minBytes: 20, changeRatioMax: 0.4 }, ['min_size', 'size_change']],
    ['that cannot be compared', 100, { kind: 'unread', why: 'no' }, { changeRatioMax: 9 }, ['size_change']],
  ])('%s', (_, plainBytes, earlier, expected, rules) => {
    expect(rulesOf(plainBytes, earlier, expected)).toEqual(rules);
  });

  test('says which size it is, how much was there before, and what is allowed', () => {
    const [one] = judgeSize(3 * MIB, known(12 * MIB), { changeRatioMax: 0.4 });
    expect(one?.message).toBe(
      '3.0 MiB before compression and encryption is 75% less than the 12.0 MiB of 20261119T020000Z-pabcdef, and expect.size_change allows 40%',
    );
  });

  test('that is as it was is never suspicious, and a suspicious one no less the further it is away', () => {
    const bytes = fc.integer({ min: 0, max: 2 ** 40 });
    fc.assert(
      fc.property(bytes, bytes, bytes, fc.double({ min: 0, max: 20, noNaN: true }), (before, size, further, ratio) => {
        const expected = { changeRatioMax: ratio };
        expect(rulesOf(before, known(before), expected)).toEqual([]);
        const beyond = size < before ? Math.max(0, size - further) : size + further;
        const isSuspicious = rulesOf(size, known(before), expected).length > 0;
        if (isSuspicious) expect(rulesOf(beyond, known(before), expected)).toEqual(['size_change']);
      }),
    );
  });
});

/** A repository whose backups say how large they are. */
class Sizes {
  readonly clock: ManualClock;
  readonly store: FaultyStore;
  readonly repository: Repository;

  /** What time it is for this machine, and for the store. */
  constructor(here = '2026-11-20T02:00:00Z', there = here) {
    this.clock = new ManualClock(new Date(here));
    this.store = new FaultyStore(new MemoryStore({ clock: new ManualClock(new Date(there)) }));
    this.repository = new Repository(this.store, { clock: this.clock, random: systemRandom });
  }

  async commit(
    day: number,
    plainBytes: number,
    said: Partial<Manifest> & { letter?: FormatLetter } = {},
  ): Promise<Manifest> {
    const { letter = 'p', ...rest } = said;
    const id = makeBackupId(new Date(Date.UTC(2026, 10, day)), letter, systemRandom);
    const plain = manifestOf(id, 'shop', [`${id}.sql`]);
    const totals = { objects: 1, storedBytes: 1, plainBytes };
    const manifest = { ...plain, source: 'shop', totals, ...rest };
    await this.repository.commit(manifest);
    return manifest;
  }

  /** What a backup of today is judged to be. */
  async rules(
    plainBytes: number,
    { format = 'plain' }: { format?: Manifest['format'] } = {},
  ): Promise<readonly string[]> {
    const judge = new SizeJudge({ changeRatioMax: 0.4 }, { source: 'shop', database: 'shop', format });
    await judge.recall('near', this.repository, { signal });
    const id = makeBackupId(
      this.clock.now(),
      { plain: 'p', directory: 'd', physical: 'f' }[format] as 'p',
      systemRandom,
    );
    return judge.judge('near', id, plainBytes).map(({ rule }) => rule);
  }
}

const SUSPICIOUS = { suspicions: [{ rule: 'size_change', message: 'much less' }] };

describe('a new backup', () => {
  test('is compared with the newest of its form that is not suspicious, until another one is accepted', async () => {
    const sizes = new Sizes();
    await sizes.commit(10, 1_000);
    await sizes.commit(11, 100);
    const small = await sizes.commit(12, 500, SUSPICIOUS);
    await sizes.commit(13, 9_000, { letter: 'd', format: 'directory' });
    expect(await sizes.rules(100)).toEqual([]);
    expect(await sizes.rules(500)).toEqual(['size_change']);
    expect(await sizes.rules(9_000, { format: 'directory' })).toEqual([]);
    expect(await sizes.rules(1, { format: 'physical' })).toEqual([]);
    await acceptSize(sizes.store, small.id, { acceptedAt: sizes.clock.now() });
    expect(await sizes.rules(500)).toEqual([]);
    expect(await sizes.rules(100)).toEqual(['size_change']);
  });

  test('is not compared with incremental ones, ones of a clock that was ahead, or ones that cannot be read; nor is an incremental one', async () => {
    const sizes = new Sizes();
    const physical = { format: 'physical' } as const;
    const full = await sizes.commit(10, 1_000, { letter: 'f', ...physical });
    await sizes.commit(11, 10, { letter: 'i', ...physical, parents: [full.id] });
    await sizes.commit(29, 10, { letter: 'f', ...physical });
    const broken = makeBackupId(new Date(Date.UTC(2026, 10, 12)), 'f', systemRandom);
    await sizes.store.putSmall(keys.manifest('shop', 'shop', broken), new TextEncoder().encode('{'));
    expect(await sizes.rules(1_000, physical)).toEqual([]);
    expect(await sizes.rules(10, physical)).toEqual(['size_change']);
    const judge = new SizeJudge({ minBytes: MIB }, { source: 'shop', database: 'shop', format: 'physical' });
    expect(judge.judge('near', makeBackupId(sizes.clock.now(), 'i', systemRandom), 1)).toEqual([]);
  });

  test('is compared by the time of the store, where the clock of this machine is behind', async () => {
    const sizes = new Sizes('2026-11-01T02:00:00Z', '2026-11-20T02:00:00Z');
    await sizes.commit(9, 500);
    await sizes.commit(10, 1_000);
    expect(await sizes.rules(1_000)).toEqual([]);
    expect(await sizes.rules(10)).toEqual(['size_change']);
  });

  test('is suspicious where all there is lies in the future by both clocks, and none of another form', async () => {
    const sizes = new Sizes('2026-11-01T02:00:00Z');
    expect(await sizes.rules(1_000)).toEqual([]);
    await sizes.commit(10, 1_000);
    expect(await sizes.rules(1_000)).toEqual(['size_change']);
    expect(await sizes.rules(1_000, { format: 'directory' })).toEqual([]);
  });

  test('is suspicious where what is there cannot be read, and ends with its run where that is aborted', async () => {
    const sizes = new Sizes();
    await sizes.commit(10, 1_000);
    sizes.store.faults = {
      before: async ({ method }) => {
        if (method === 'list') throw new PgarkError('store-unreachable', 'nobody answers');
      },
    };
    expect(await sizes.rules(1_000)).toEqual(['size_change']);
    const judge = new SizeJudge({ changeRatioMax: 0.4 }, { source: 'shop', database: 'shop', format: 'plain' });
    const aborted = AbortSignal.abort(new Error('enough'));
    const recalled = judge.recall('near', sizes.repository, { signal: aborted });
    await expect(recalled).rejects.toThrow('enough');
  });
});
