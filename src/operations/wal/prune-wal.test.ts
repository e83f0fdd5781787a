import { describe, expect, test } from 'vitest';
import { KeptWal, nameOf, range } from '../../../test/support/kept-wal.ts';
import { MIB } from '../../common/bytes.ts';
import { PgarkError } from '../../common/errors.ts';
import { formatTimelineHistory, historyFileName } from '../../postgres/wal/timeline-history.ts';
import { keys } from '../../repository/keys.ts';

describe('a prune', () => {
  test('removes the WAL before the oldest base backup that stays, of encrypted archives too, and records it', async () => {
    const scene = new KeptWal();
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
    const scene = new KeptWal();
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
    const scene = new KeptWal();
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
    const scene = new KeptWal();
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
    const scene = new KeptWal();
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
    const scene = new KeptWal();
    await scene.base(3, 1_900, 1_901);
    await scene.segments(0, 1_910, 9);
    scene.whenDeleted(100, () => scene.underWay('f'));
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

  test('refuses to let most base backups lose the WAL that follows them, without force', async () => {
    const scene = new KeptWal();
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
    const other = new KeptWal();
    await other.base(9, 10, 11);
    await other.base(1, 50, 51);
    await other.segments(1, 51, 9.5);
    await other.prune({ last: 1 });
    expect(other.numbers()).toEqual([50, 51]);
  });

  test('removes deltas of segments that are whole, and uploads that a killed receiver left', async () => {
    const scene = new KeptWal();
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
    const scene = new KeptWal();
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
    const scene = new KeptWal();
    await scene.base(3, 10, 11);
    const damaged = await scene.base(2, 20, 21);
    await scene.segments(1, 30, 9);
    await scene.object(keys.manifest('shop', 'shop', damaged.id), 2, '{');
    await expect(scene.prune()).rejects.toMatchObject({ code: 'repository-damaged' });
    expect(scene.numbers()).toEqual(range(1, 30));
  });
});
