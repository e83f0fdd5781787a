import { expect, test } from 'vitest';
import { KeptWal, nameOf, range } from '../../../test/support/kept-wal.ts';

test('leaves locked segments, counts them, and lets go of them when their lock is over; parts are never locked', async () => {
  const scene = new KeptWal();
  await scene.base(3, 20, 21);
  await scene.segments(1, 4, 7);
  await scene.segments(5, 9, 6);
  await scene.object(scene.key(`00000001/${nameOf(10)}.000000-000100.delta.zst`), 6);
  const planned = await scene.prune({ lockedDays: 7, dryRun: true });
  expect(planned.wal).toMatchObject([{ segments: 4, otherObjects: 1, locked: 5 }]);
  expect((await scene.prune({ lockedDays: 7, force: true })).wal).toEqual(planned.wal);
  expect(scene.numbers()).toEqual(range(5, 9));
  expect([...scene.memory.objects.keys()].filter((key) => key.includes('delta'))).toEqual([]);
  expect((await scene.prune({ lockedDays: 6 })).wal).toMatchObject([{ segments: 5, locked: 0 }]);
  expect(scene.numbers()).toEqual([]);
});

test('is refused on no day while a lock lasts longer than the window, and what is there levels off', async () => {
  const scene = new KeptWal();
  const [days, perDay, keepDays, lockedDays] = [50, 4, 7, 30];
  const counts: number[] = [];
  for (let day = 1; day <= days; day += 1) {
    const daysAgo = days - day;
    await scene.base(daysAgo, day * perDay, day * perDay, { lockedDays });
    await scene.segments(day * perDay, (day + 1) * perDay - 1, daysAgo);
    const { wal } = await scene.prune({ last: 3, keepDays, lockedDays, daysAgo });
    expect(wal, `day ${day}`).toMatchObject([{ refused: undefined, keepsAll: undefined }]);
    counts.push(scene.numbers().length);
  }
  expect(new Set(counts.slice(35)).size).toBe(1);
  expect(counts.at(-1)).toBeLessThanOrEqual((lockedDays + 1) * perDay);
});

test('refuses a window by which most base backups lose the WAL that no lock keeps, however many others are locked', async () => {
  const scene = new KeptWal();
  for (let daysAgo = 59; daysAgo >= 0; daysAgo -= 1) {
    await scene.base(daysAgo, (60 - daysAgo) * 4, (60 - daysAgo) * 4);
    await scene.segments((60 - daysAgo) * 4, (60 - daysAgo) * 4 + 3, daysAgo);
  }
  expect((await scene.prune({ keepDays: 60, lockedDays: 30 })).wal).toMatchObject([
    { segments: 0, refused: undefined },
  ]);
  await expect(scene.prune({ keepDays: 3, lockedDays: 30 })).rejects.toMatchObject({ code: 'prune-refused' });
});

test('goes by the time at which the WAL itself was stored: what came later than its base backups stays locked', async () => {
  const scene = new KeptWal();
  for (const daysAgo of [29, 28, 27, 26]) await scene.base(daysAgo, 300 - daysAgo * 10, 301 - daysAgo * 10);
  await scene.base(1, 100, 101);
  await scene.segments(1, 110, 20);
  const prune = (lockedDays: number): Promise<unknown> => scene.prune({ keepDays: 1, lockedDays });
  expect(await prune(21)).toMatchObject({ wal: [{ segments: 0, refused: undefined }] });
  await expect(prune(20)).rejects.toMatchObject({ code: 'prune-refused' });
});

test('counts a base backup as losing its WAL only if no object of the segment behind it stays', async () => {
  const scene = new KeptWal();
  for (const daysAgo of [29, 28]) await scene.base(daysAgo, 300 - daysAgo * 10, 301 - daysAgo * 10);
  await scene.base(1, 100, 101);
  await scene.segments(1, 110, 25);
  await scene.segments(12, 12, 5, { endings: '.zst.age' });
  await scene.segments(22, 22, 5, { endings: '.zst.age' });
  expect((await scene.prune({ keepDays: 1, lockedDays: 10 })).wal).toMatchObject([{ refused: undefined, locked: 2 }]);
});
