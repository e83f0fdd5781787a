import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { expect, test } from 'vitest';
import { makeTempDirectory } from '../../../test/support/temp.ts';
import { toByteString } from '../../postgres/toc/byte-string.ts';
import { inspectEmptyFolder, takeEmptyFolder } from './empty-folder.ts';
import { inspectTarget } from './restore-base.ts';
import { WITHHELD } from './restore-mark.ts';
import { TargetFolder } from './target-files.ts';

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

const MARK = '.pgark-restoring';

/** What another process leaves that was killed while it filled a folder. */
async function leaveUnfinished(folder: string): Promise<void> {
  const module = path.join(import.meta.dirname, 'empty-folder.ts');
  const script = `
    const { takeEmptyFolder } = await import(process.argv[1]);
    await takeEmptyFolder(process.argv[2]);
    console.log('taken');
    setInterval(() => {}, 1000);`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script, module, folder], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await once(child.stdout, 'data');
  // While it lives, nobody takes its folder, whatever they say.
  await expect(takeEmptyFolder(folder, { replacesUnfinished: true })).rejects.toMatchObject({
    message: expect.stringContaining('is being filled by another restore'),
  });
  child.kill('SIGKILL');
  await once(child, 'exit');
  await mkdir(`${folder}/global`);
  await writeFile(`${folder}/global/pg_control.pgark-restoring`, '');
}

test('what a killed restore has left is told as that, and replaced by who says so', async () => {
  await using directory = await makeTempDirectory();
  const folder = directory.join('data');
  await leaveUnfinished(folder);
  for (const refused of [() => takeEmptyFolder(folder), () => inspectEmptyFolder(folder, 0)]) {
    await expect(refused()).rejects.toMatchObject({
      code: 'target-not-empty',
      message: expect.stringContaining('holds an unfinished restore'),
      hint: expect.stringContaining('--replace-unfinished'),
    });
  }
  await inspectEmptyFolder(folder, 0, { replacesUnfinished: true });
  const taken = await takeEmptyFolder(folder, { replacesUnfinished: true });
  expect(await readdir(folder)).toEqual([expect.stringMatching(/^\.pgark-restoring\../)]);
  await expect(takeEmptyFolder(folder, { replacesUnfinished: true })).rejects.toMatchObject({
    message: expect.stringContaining('is being filled by another restore'),
  });
  await writeFile(`${folder}/PG_VERSION`, '17\n');
  await taken.finish();
  expect(await readdir(folder)).toEqual(['PG_VERSION']);
});

test('one that was killed at the very end is still known by what it withheld', async () => {
  await using directory = await makeTempDirectory();
  const folder = directory.join('data');
  await mkdir(`${folder}/global`, { recursive: true });
  await writeFile(`${folder}/global/pg_control.pgark-restoring`, '');
  await expect(takeEmptyFolder(folder)).rejects.toMatchObject({ message: expect.stringContaining('unfinished') });
  const taken = await takeEmptyFolder(folder, { replacesUnfinished: true });
  await taken.discard();
  expect(await readdir(folder)).toEqual([]);
});

test('of several that replace the same, one does at the most, and nothing else is ever replaced', async () => {
  await using directory = await makeTempDirectory();
  const folder = directory.join('data');
  await leaveUnfinished(folder);
  const all = Array.from({ length: 5 }, () => takeEmptyFolder(folder, { replacesUnfinished: true }));
  const settled = await Promise.allSettled(all);
  const [mine, ...others] = settled.flatMap((each) => (each.status === 'fulfilled' ? [each.value] : []));
  expect(others).toEqual([]);
  for (const each of settled) if (each.status === 'rejected') expect(each.reason.code).toBe('target-not-empty');
  await mine?.discard();

  const used = directory.join('used');
  await mkdir(used);
  await writeFile(`${used}/PG_VERSION`, '17\n');
  for (const refused of [
    () => takeEmptyFolder(used, { replacesUnfinished: true }),
    () => inspectEmptyFolder(used, 0, { replacesUnfinished: true }),
  ]) {
    await expect(refused()).rejects.toMatchObject({ message: expect.stringContaining('is not empty') });
  }
  // As earlier versions marked it, without saying who fills it.
  const earlier = directory.join('earlier');
  await mkdir(earlier);
  await writeFile(
    `${earlier}/${MARK}`,
    'pgark restores into this directory; after a restore that was killed all of it can be removed\n',
  );
  await expect(takeEmptyFolder(earlier)).rejects.toMatchObject({ message: expect.stringContaining('unfinished') });
  await (await takeEmptyFolder(earlier, { replacesUnfinished: true })).finish();
  expect(await readdir(earlier)).toEqual([]);
});

test('a file that is withheld has its name only at the end, whoever reads and writes it', async () => {
  await using directory = await makeTempDirectory();
  const folder = new TargetFolder(directory.path, undefined, WITHHELD);
  await folder.makeFolder(toByteString('global'));
  await folder.replace('global/pg_control', 'first');
  await folder.replace('global/pg_control', 'second');
  expect(await folder.read('global/pg_control')).toBe('second');
  expect(await readdir(directory.join('global'))).toEqual(['pg_control.pgark-restoring']);
  await folder.release();
  expect(await readFile(directory.join('global', 'pg_control'), 'utf8')).toBe('second');
  expect(await readdir(directory.join('global'))).toEqual(['pg_control']);
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
