import { describe, expect, test } from 'vitest';
import { FaultyStore } from '../../../test/support/faulty-store.ts';
import { MemoryStore } from '../../../test/support/memory-store.ts';
import { manifestOf } from '../../../test/support/repository-place.ts';
import { MIB } from '../../common/bytes.ts';
import { PgarkError } from '../../common/errors.ts';
import { silentLogger } from '../../common/log.ts';
import { systemClock } from '../../common/clock.ts';
import { systemRandom } from '../../common/random.ts';
import { formatLsn } from '../../postgres/wal/lsn.ts';
import { segmentName } from '../../postgres/wal/segment.ts';
import { formatTimelineHistory, historyFileName } from '../../postgres/wal/timeline-history.ts';
import { type FormatLetter, makeBackupId } from '../../repository/ids.ts';
import { IntentLog } from '../../repository/intents.ts';
import { keys } from '../../repository/keys.ts';
import { Leases } from '../../repository/leases.ts';
import type { Manifest } from '../../repository/manifest.ts';
import { Repository } from '../../repository/repository.ts';
import { walKey } from '../../repository/wal-keys.ts';
import { operationContext } from '../context.ts';
import { prune, type PruneOutcome, type PruneRequest } from '../prune.ts';

const DAY_MS = 86_400_000;
const SYSTEM = '7380000000000000001';

/** A repository whose objects were stored so many days ago. */
class Scene {
  readonly now = Date.now();
  #daysAgo = 0;
  readonly memory = new MemoryStore({ clock: { now: () => new Date(this.now - this.#daysAgo * DAY_MS) } });
  readonly store = new FaultyStore(this.memory);
  readonly #repository = new Repository(this.store, { clock: systemClock, random: systemRandom });

  async #then<T>(daysAgo: number, work: () => Promise<T>): Promise<T> {
    this.#daysAgo = daysAgo;
    try {
      return await work();
    } finally {
      this.#daysAgo = 0;
    }
  }

  /** Whole segments of 1 MiB, by their numbers from the first to the last one. */
  async segments(
    first: number,
    last: number,
    daysAgo: number,
    { timeline = 1, endings = '.zst', source = 'shop' } = {},
  ) {
    await this.#then(daysAgo, async () => {
      for (let number = first; number <= last; number += 1) {
        const name = nameOf(number, timeline);
        const key = walKey({ source, systemIdentifier: SYSTEM }, { kind: 'segment', name }, endings);
        await this.store.putSmall(key, Buffer.from('wal'));
      }
    });
  }

  async object(key: string, daysAgo: number, content = 'x'): Promise<void> {
    await this.#then(daysAgo, () => this.store.putSmall(key, Buffer.from(content)));
  }

  key(file: string): string {
    return `shop/wal/${SYSTEM}/${file}`;
  }

  /** A base backup of these segments, whole ones but the ends. */
  async base(
    daysAgo: number,
    first: number,
    last: number,
    said: { timeline?: number; source?: string; parents?: readonly Manifest[] } = {},
  ) {
    const { timeline = 1, source = 'shop', parents = [] } = said;
    const letter = parents.length === 0 ? 'f' : 'i';
    const id = makeBackupId(new Date(this.now - daysAgo * DAY_MS), letter, systemRandom);
    const at = new Date(this.now - daysAgo * DAY_MS).toISOString();
    const plain = manifestOf(id, 'shop', [`${keys.basePrefix(source, id)}base.tar.zst`]);
    const manifest: Manifest = {
      ...plain,
      format: 'physical',
      source,
      server: { ...plain.server, systemIdentifier: SYSTEM },
      startedAt: at,
      endedAt: at,
      storeTime: at,
      parents: parents.map((parent) => parent.id),
      timeline,
      startLsn: formatLsn(BigInt(first * MIB + 0x28)),
      stopLsn: formatLsn(BigInt(last * MIB + 0x100)),
      walNeeded: { from: nameOf(first, timeline), to: nameOf(last, timeline), segmentBytes: MIB },
    };
    await this.#repository.initialise({ pgarkVersion: '0.1.0' });
    await this.#repository.commit(manifest);
    return manifest;
  }

  /** The trace of a backup that goes on. */
  async underWay(letter: FormatLetter, source = 'shop'): Promise<void> {
    const id = makeBackupId(new Date(), letter, systemRandom);
    const holder = { host: 'h', pid: 1, runId: 'r', command: 'pgark backup' };
    const options = { clock: systemClock, random: systemRandom, logger: silentLogger, termMs: 60_000, holder };
    const lease = await new Leases(this.memory, options).acquire(`${source}/shop`);
    const plan = { id, runId: 'r', lease, source, database: 'shop', startedAt: new Date() };
    await new IntentLog(this.memory).begin(plan);
  }

  /** A hold of somebody who restores it. */
  async reads({ id }: Manifest): Promise<void> {
    const until = new Date(this.now + DAY_MS).toISOString();
    const holder = { host: 'h', pid: 1, command: 'pgark restore' };
    await this.memory.putSmall(
      keys.reading(id, 'token'),
      Buffer.from(JSON.stringify({ layout: 1, id, holder, since: until, until })),
    );
  }

  async ended(): Promise<void> {
    for await (const { key } of this.memory.list(keys.readingPrefix)) await this.memory.delete(key);
  }

  prune(changes: Partial<PruneRequest> & { keepDays?: number; last?: number } = {}): Promise<PruneOutcome> {
    const { keepDays, last = 100, ...request } = changes;
    const keepMs = keepDays === undefined ? undefined : keepDays * DAY_MS;
    return prune(
      {
        store: this.store,
        filter: {},
        policyOf: () => ({ keep: { last }, minBackups: 1 }),
        walPolicyOf: () => ({ keepMs }),
        timezone: 'UTC',
        leaseTermMs: 60_000,
        dryRun: false,
        force: false,
        ...request,
      },
      operationContext(),
    );
  }

  /** Of the newest run. */
  record(): unknown {
    const key = [...this.memory.objects.keys()]
      .filter((each) => each.startsWith(keys.runsPrefix))
      .sort()
      .at(-1);
    return JSON.parse(Buffer.from(this.memory.objects.get(key ?? '')?.bytes ?? []).toString());
  }

  /** Numbers of the segments that are there. */
  numbers(timeline = 1, source = 'shop'): readonly number[] {
    const prefix = `${source}/wal/${SYSTEM}/${String(timeline).padStart(8, '0')}/`;
    const names = [...this.memory.objects.keys()].filter((key) => key.startsWith(prefix) && !key.includes('delta'));
    return [
      ...new Set(names.map((key) => Number.parseInt(key.slice(prefix.length + 16, prefix.length + 24), 16))),
    ].sort((a, b) => a - b);
  }
}

function nameOf(number: number, timeline = 1): string {
  return segmentName({ timeline, number: BigInt(number) }, MIB);
}

function range(first: number, last: number): readonly number[] {
  return Array.from({ length: last - first + 1 }, (_, index) => first + index);
}

describe('a prune', () => {
  test('removes the WAL before the oldest base backup that stays, of encrypted archives too, and records it', async () => {
    const scene = new Scene();
    await scene.base(9, 5, 6);
    await scene.base(3, 20, 21);
    await scene.base(1, 30, 31);
    await scene.segments(1, 25, 4, { endings: '.zst.age' });
    await scene.segments(26, 40, 0, { endings: '.zst.age' });
    const planned = await scene.prune({ last: 2, dryRun: true });
    expect(planned.wal).toMatchObject([{ source: 'shop', segments: 19, bytes: 57, refused: undefined }]);
    expect(scene.numbers()).toEqual(range(1, 40));
    const done = await scene.prune({ last: 2 });
    expect(done.wal).toEqual(planned.wal);
    expect(scene.numbers()).toEqual(range(20, 40));
    expect(scene.record()).toMatchObject({ result: { removed: 1, walSegmentsRemoved: 19, walBytesRemoved: 57 } });
    expect((await scene.prune({ last: 2 })).wal).toMatchObject([{ segments: 0 }]);
  });

  test('keeps of older WAL than the window what makes each base backup one', async () => {
    const scene = new Scene();
    for (const [daysAgo, first] of [
      [30, 5],
      [20, 15],
      [12, 25],
      [2, 35],
    ] as const) {
      await scene.base(daysAgo, first, first + 1);
    }
    await scene.segments(1, 24, 13);
    await scene.segments(25, 50, 1);
    await scene.prune({ keepDays: 10 });
    expect(scene.numbers()).toEqual([5, 6, 15, 16, ...range(25, 50)]);
  });

  test('leaves sources without a policy, foreign objects, histories and what no server’s archive is', async () => {
    const scene = new Scene();
    await scene.base(3, 10, 11);
    await scene.base(3, 10, 11, { source: 'crm' });
    await scene.segments(1, 12, 9);
    await scene.segments(1, 12, 9, { source: 'crm' });
    const history = formatTimelineHistory({
      timeline: 2,
      ancestors: [{ timeline: 1, end: BigInt(4 * MIB), reason: '' }],
    });
    const foreign = [
      scene.key(`00000001/${nameOf(1)}.gz`),
      scene.key('notes.txt'),
      `shop/wal/x/00000001/${nameOf(1)}.zst`,
    ];
    for (const key of [scene.key(historyFileName(2)), ...foreign]) await scene.object(key, 9, history);
    const label = scene.key(`00000001/${nameOf(2)}.00000028.backup.zst`);
    await scene.object(label, 9);
    await scene.prune({ walPolicyOf: (source) => (source === 'shop' ? { keepMs: undefined } : undefined) });
    expect(scene.numbers()).toEqual([1, ...range(10, 12)]);
    expect(scene.numbers(1, 'crm')).toEqual(range(1, 12));
    const left = new Set(scene.memory.objects.keys());
    for (const key of [scene.key(historyFileName(2)), ...foreign]) expect(left.has(key)).toBe(true);
    expect(left.has(label)).toBe(false);
    // Nor is any of it touched by a prune of what is logical, or by one that knows no policy.
    await scene.segments(1, 5, 9);
    await scene.prune({ filter: { kind: 'logical' } });
    await scene.prune({ walPolicyOf: undefined });
    expect(scene.numbers()).toEqual([...range(1, 5), ...range(10, 12)]);
  });

  test('goes by the timelines’ histories, and keeps all where one is not to be read', async () => {
    const scene = new Scene();
    await scene.base(9, 10, 11);
    await scene.base(2, 35, 36, { timeline: 2 });
    await scene.segments(1, 40, 10);
    await scene.segments(30, 50, 10, { timeline: 2 });
    expect((await scene.prune()).wal).toMatchObject([
      { segments: 0, keepsAll: expect.stringContaining('00000002.history') },
    ]);
    const history = formatTimelineHistory({
      timeline: 2,
      ancestors: [{ timeline: 1, end: BigInt(30 * MIB + 5), reason: '' }],
    });
    await scene.object(scene.key(historyFileName(2)), 9, history);
    await scene.prune();
    expect([scene.numbers(1), scene.numbers(2)]).toEqual([range(10, 40), range(30, 50)]);
    await scene.prune({ last: 1, keepDays: 1, force: true });
    expect([scene.numbers(1), scene.numbers(2)]).toEqual([[], range(35, 50)]);
  });

  test('lets go of no WAL while a physical backup of the source is under way, and of other sources it does', async () => {
    const scene = new Scene();
    await scene.base(3, 10, 11);
    await scene.base(3, 10, 11, { source: 'crm' });
    await scene.segments(1, 12, 9);
    await scene.segments(1, 12, 9, { source: 'crm' });
    await scene.underWay('p');
    await scene.underWay('i', 'crm');
    const { wal } = await scene.prune();
    expect(wal).toMatchObject([
      { source: 'crm', segments: 0, keepsAll: expect.stringContaining('under way') },
      { source: 'shop', segments: 9 },
    ]);
    expect([scene.numbers(), scene.numbers(1, 'crm')]).toEqual([range(10, 12), range(1, 12)]);
  });

  test('stops before the next batch when a physical backup has begun, and goes on later where it was cut off', async () => {
    const scene = new Scene();
    await scene.base(3, 1_900, 1_901);
    await scene.segments(0, 1_910, 9);
    let deleted = 0;
    scene.store.faults = {
      after: async ({ method, key }) => {
        if (method !== 'delete' || !key.includes('/wal/')) return;
        deleted += 1;
        if (deleted === 100) await scene.underWay('f');
      },
    };
    const { wal } = await scene.prune();
    expect(wal).toMatchObject([{ segments: 500, keepsAll: expect.stringContaining('under way') }]);
    expect(scene.numbers()).toEqual(range(500, 1_910));
    scene.store.faults = {};
    for (const key of scene.memory.objects.keys())
      if (key.startsWith('.pgark/intents/')) scene.memory.objects.delete(key);
    scene.store.faults = {
      before: ({ method, key }) => {
        if (method === 'delete' && key.endsWith(`${nameOf(700)}.zst`))
          throw new PgarkError('store-failed', 'the test says no');
      },
    };
    await expect(scene.prune()).rejects.toMatchObject({ code: 'store-failed' });
    // The oldest go first: what is left of one that was cut off is a stretch without a gap, but for those at work.
    expect(scene.numbers().filter((number) => number >= 710)).toEqual(range(710, 1_910));
    scene.store.faults = {};
    expect((await scene.prune()).wal).toMatchObject([{ keepsAll: undefined }]);
    expect(scene.numbers()).toEqual(range(1_900, 1_910));
  });

  test('while a base backup is read that stays, leaves all WAL of its source, which the recovery may need', async () => {
    const scene = new Scene();
    const read = await scene.base(9, 5, 6);
    await scene.base(9, 5, 6, { source: 'crm' });
    await scene.segments(1, 10, 9.5);
    await scene.segments(1, 10, 9.5, { source: 'crm' });
    await scene.reads(read);
    const planned = await scene.prune({ dryRun: true });
    const { wal } = await scene.prune();
    expect(planned.wal).toEqual(wal);
    expect(wal).toMatchObject([
      { source: 'crm', segments: 4, keepsAll: undefined },
      { source: 'shop', segments: 0, keepsAll: expect.stringContaining('is being restored') },
    ]);
    expect([scene.numbers(), scene.numbers(1, 'crm')]).toEqual([range(1, 10), range(5, 10)]);
  });

  test('a base backup that is read keeps itself and its WAL, and the older ones of its source, behind a plan that lets them go', async () => {
    const scene = new Scene();
    await scene.base(9, 1, 2);
    const read = await scene.base(8, 5, 6);
    await scene.base(1, 20, 21);
    await scene.segments(1, 30, 8);
    await scene.reads(read);
    const { plan, removed } = await scene.prune({ last: 1, force: true });
    expect([plan.remove.length, removed.map(({ id }) => id)]).toEqual([2, [expect.not.stringContaining(read.id)]]);
    expect(scene.numbers()).toEqual(range(1, 30));
    await scene.ended();
    expect((await scene.prune({ last: 1, force: true })).removed.map(({ id }) => id)).toEqual([read.id]);
    expect(scene.numbers()).toEqual(range(20, 30));
  });

  test('an incremental backup that is read keeps those below it, whether they are held or not', async () => {
    const scene = new Scene();
    const full = await scene.base(9, 1, 2);
    const read = await scene.base(8, 5, 6, { parents: [full] });
    await scene.base(1, 20, 21);
    await scene.reads(read);
    expect((await scene.prune({ last: 1, force: true })).removed).toEqual([]);
    await scene.ended();
    expect((await scene.prune({ last: 1, force: true })).removed).toHaveLength(2);
  });

  test('stops before the next batch when a restore of a base backup has begun', async () => {
    const scene = new Scene();
    const base = await scene.base(3, 1_900, 1_901);
    await scene.segments(0, 1_910, 9);
    let deleted = 0;
    scene.store.faults = {
      after: async ({ method, key }) => {
        if (method !== 'delete' || !key.includes('/wal/')) return;
        deleted += 1;
        if (deleted === 100) await scene.reads(base);
      },
    };
    const { wal } = await scene.prune();
    expect(wal).toMatchObject([{ segments: 500, keepsAll: expect.stringContaining('is being restored') }]);
    expect(scene.numbers()).toEqual(range(500, 1_910));
  });

  test('refuses to let most base backups lose the WAL that follows them, without force', async () => {
    const scene = new Scene();
    for (const daysAgo of [9, 8, 7, 6]) await scene.base(daysAgo, 100 - daysAgo * 10, 101 - daysAgo * 10);
    await scene.segments(1, 120, 9.5);
    const says = 'the WAL that follows 3 of 4 base backups of shop, more than half; none of them was deleted';
    await expect(scene.prune({ keepDays: 5 })).rejects.toMatchObject({
      code: 'prune-refused',
      message: `the retention policy would delete ${says}`,
      outcome: { wal: [{ segments: 0, refused: { lostCount: 3, totalCount: 4 } }] },
    });
    expect(scene.numbers()).toEqual(range(1, 120));
    expect((await scene.prune({ keepDays: 5, dryRun: true })).wal[0]?.refused).toEqual({ lostCount: 3, totalCount: 4 });
    await scene.prune({ keepDays: 5, force: true });
    expect(scene.numbers()).toEqual([10, 11, 20, 21, 30, 31, ...range(40, 120)]);
    // One in, one out is no cause for alarm.
    const other = new Scene();
    await other.base(9, 10, 11);
    await other.base(1, 50, 51);
    await other.segments(1, 51, 9.5);
    await other.prune({ last: 1 });
    expect(other.numbers()).toEqual([50, 51]);
  });

  test('removes deltas of segments that are whole, and uploads that a killed receiver left', async () => {
    const scene = new Scene();
    await scene.base(3, 10, 11);
    await scene.segments(10, 12, 2);
    const delta = (number: number): string => scene.key(`00000001/${nameOf(number)}.000000-000400.delta.zst`);
    await scene.object(delta(12), 2);
    await scene.object(delta(13), 2);
    await scene.object(delta(8), 4);
    const upload = (number: number, uploadId: string): void => {
      scene.memory.uploads.set(uploadId, { key: scene.key(`00000001/${nameOf(number)}.zst`), uploadId });
    };
    upload(12, 'left');
    upload(4, 'not needed');
    upload(14, 'at work');
    scene.memory.uploads.set('foreign', { key: scene.key('00000001/readme.zst'), uploadId: 'foreign' });
    const dry = await scene.prune({ dryRun: true });
    expect([...scene.memory.uploads.keys()]).toHaveLength(4);
    const { wal } = await scene.prune();
    expect(wal).toEqual(dry.wal);
    expect(wal).toMatchObject([{ segments: 0, otherObjects: 2, uploads: 2 }]);
    expect([...scene.memory.uploads.keys()]).toEqual(['at work', 'foreign']);
    expect([12, 13, 8].map((number) => scene.memory.objects.has(delta(number)))).toEqual([false, true, false]);
    // One whose object has only just come may be of somebody who puts the same.
    await scene.segments(14, 14, 0);
    await scene.prune();
    expect(scene.memory.uploads.has('at work')).toBe(true);
  });

  test('keeps all WAL while an incremental backup is there without the full one that it needs', async () => {
    const scene = new Scene();
    await scene.base(30, 10, 11);
    const lost = await scene.base(20, 50, 51);
    const first = await scene.base(15, 60, 61, { parents: [lost] });
    await scene.base(5, 80, 81, { parents: [first, lost] });
    await scene.segments(1, 75, 19);
    await scene.segments(76, 100, 4);
    const manifest = keys.manifest('shop', 'shop', lost.id);
    const bytes = Buffer.from(scene.memory.objects.get(manifest)?.bytes ?? []).toString();
    await scene.store.delete(manifest);
    // By the first incremental one the window would begin, and nothing but the WAL from the oldest full one on leads there.
    const says = `${first.id} cannot be restored without ${lost.id}, which is not there`;
    expect((await scene.prune({ keepDays: 10 })).wal).toMatchObject([{ segments: 0, keepsAll: says }]);
    expect(scene.numbers()).toEqual(range(1, 100));
    await scene.object(manifest, 0, bytes);
    expect((await scene.prune({ keepDays: 10, force: true })).wal).toMatchObject([{ keepsAll: undefined }]);
    expect(scene.numbers()).toEqual([10, 11, 50, 51, ...range(60, 100)]);
  });

  test('plans nothing over a manifest that cannot be read', async () => {
    const scene = new Scene();
    await scene.base(3, 10, 11);
    const damaged = await scene.base(2, 20, 21);
    await scene.segments(1, 30, 9);
    await scene.object(keys.manifest('shop', 'shop', damaged.id), 2, '{');
    await expect(scene.prune()).rejects.toMatchObject({ code: 'repository-damaged' });
    expect(scene.numbers()).toEqual(range(1, 30));
  });
});
