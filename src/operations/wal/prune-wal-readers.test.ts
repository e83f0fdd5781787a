import { describe, expect, test } from 'vitest';
import { KeptWal, range } from '../../../test/support/kept-wal.ts';

describe('a prune', () => {
  test('while a base backup is read that stays, leaves all WAL of its source, which the recovery may need', async () => {
    const scene = new KeptWal();
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
    const scene = new KeptWal();
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
    const scene = new KeptWal();
    const full = await scene.base(9, 1, 2);
    const read = await scene.base(8, 5, 6, { parents: [full] });
    await scene.base(1, 20, 21);
    await scene.reads(read);
    expect((await scene.prune({ last: 1, force: true })).removed).toEqual([]);
    await scene.ended();
    expect((await scene.prune({ last: 1, force: true })).removed).toHaveLength(2);
  });

  test('stops before the next batch when a restore of a base backup has begun', async () => {
    const scene = new KeptWal();
    const base = await scene.base(3, 1_900, 1_901);
    await scene.segments(0, 1_910, 9);
    scene.whenDeleted(100, () => scene.reads(base));
    const { wal } = await scene.prune();
    expect(wal).toMatchObject([{ segments: 500, keepsAll: expect.stringContaining('is being restored') }]);
    expect(scene.numbers()).toEqual(range(500, 1_910));
  });
});
