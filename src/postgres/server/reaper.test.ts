import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readdir, realpath, rename, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { reap } from './reaper.ts';

let parent: string;
/** The folder to be removed. */
let directory: string;

beforeEach(async () => {
  parent = await realpath(await mkdtemp(path.join(tmpdir(), 'pgark-reaped-')));
  directory = path.join(parent, 'left');
  await folderWith(directory, ['file', '.hidden', '..hidden', 'owner.json']);
});
afterEach(async () => rm(parent, { recursive: true, force: true }));

async function folderWith(folder: string, names: readonly string[]): Promise<void> {
  await mkdir(path.join(folder, 'deeper'), { recursive: true });
  for (const name of names) await writeFile(path.join(folder, name), '');
}

async function inodeOf(folder: string): Promise<bigint> {
  return (await stat(folder, { bigint: true })).ino;
}

const remove = (inode: bigint, pidFiles: readonly string[] = []): Promise<void> =>
  reap({ directory, inode, pidFiles, signal: 'KILL' });

test('a directory goes with all that it holds', async () => {
  await remove(await inodeOf(directory));
  expect(await readdir(parent)).toEqual([]);
});

test('a pipe that nobody writes into is no number of a process, and is not waited for', async () => {
  const pipe = path.join(directory, 'pid');
  await promisify(execFile)('mkfifo', [pipe]);
  await remove(await inodeOf(directory), [pipe]);
  expect(await readdir(parent)).toEqual([]);
});

test.each(['a link to it', 'itself'])('somebody’s directory stays that was put in its place: %s', async (how) => {
  const inode = await inodeOf(directory);
  const theirs = path.join(parent, 'theirs');
  await rename(directory, path.join(parent, 'moved'));
  await folderWith(theirs, ['precious', 'owner.json']);
  await (how === 'itself' ? rename(theirs, directory) : symlink(theirs, directory));
  await remove(inode);
  expect((await readdir(directory)).toSorted()).toEqual(['deeper', 'owner.json', 'precious']);
  // Nor where the link leads to a directory that bears the number on another disk.
  if (how !== 'itself') await remove(await inodeOf(theirs));
  expect((await readdir(directory)).toSorted()).toEqual(['deeper', 'owner.json', 'precious']);
});
