import { mkdir, readdir, stat, writeFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { makeTempDirectory } from '../../../test/support/temp.ts';
import { takeEmptyFolder } from './empty-folder.ts';
import { inspectTarget } from './restore-base.ts';

test('a folder is filled by one alone, and another who wants it removes nothing', async () => {
  await using directory = await makeTempDirectory();
  const there = directory.join('there');
  await mkdir(there);
  for (const folder of [there, directory.join('new')]) {
    const taken = await Promise.allSettled([takeEmptyFolder(folder), takeEmptyFolder(folder)]);
    const [mine, ...others] = taken.flatMap((each) => (each.status === 'fulfilled' ? [each.value] : []));
    expect(others).toEqual([]);
    expect(taken.find(({ status }) => status === 'rejected')).toMatchObject({ reason: { code: 'target-not-empty' } });
    await writeFile(`${folder}/PG_VERSION`, '17\n');
    await expect(takeEmptyFolder(folder)).rejects.toMatchObject({
      code: 'target-not-empty',
      message: expect.stringContaining('another restore'),
    });
    await mine?.finish();
    expect(await readdir(folder)).toEqual(['PG_VERSION']);
    await expect(takeEmptyFolder(folder)).rejects.toMatchObject({ message: expect.stringContaining('is not empty') });
    await mine?.discard();
  }
  expect(await readdir(there)).toEqual([]);
  const above = directory.join('above');
  await (await takeEmptyFolder(`${above}/data`)).discard();
  await expect(stat(above)).rejects.toThrow('ENOENT');
});

test('a directory has to have room for the files, and for the WAL beside them', async () => {
  await using directory = await makeTempDirectory();
  const target = { directory: directory.join('data'), tablespaces: [] };
  const objects = { manifest: {}, archives: () => [] } as unknown as Parameters<typeof inspectTarget>[0];
  await inspectTarget(objects, target, 0);
  await expect(inspectTarget(objects, target, 2 ** 60)).rejects.toMatchObject({
    code: 'restore-failed',
    message: expect.stringContaining('would take about'),
  });
});
