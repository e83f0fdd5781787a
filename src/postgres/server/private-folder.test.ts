import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readFile, realpath, rename, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { findLeftFolders, makePrivateFolder } from './private-folder.ts';

const PREFIX = 'pgark-tried-';
const OWN_USER = process.getuid?.() ?? 0;
let parent: string;
/** The mark of a folder whose owner went down with the machine. */
let mark: string;

beforeEach(async () => {
  parent = await realpath(await mkdtemp(path.join(tmpdir(), 'pgark-private-')));
  const folder = await makePrivateFolder(parent, PREFIX, undefined);
  mark = JSON.stringify({
    ...JSON.parse(await readFile(path.join(folder.path, 'owner.json'), 'utf8')),
    boot: 'before',
  });
  await folder.remove();
});
afterEach(async () => rm(parent, { recursive: true, force: true }));

async function leftFolder(): Promise<{ readonly folder: string; readonly file: string }> {
  const folder = path.join(parent, `${PREFIX}left`);
  await mkdir(folder);
  const file = path.join(folder, 'owner.json');
  await writeFile(file, mark);
  return { folder, file };
}

test('what a dead owner has left is found, of the users that are asked for and of no other', async () => {
  const { folder } = await leftFolder();
  expect(await findLeftFolders(parent, PREFIX, [OWN_USER])).toMatchObject({ left: [{ path: folder }], unclear: [] });
  expect(await findLeftFolders(parent, PREFIX, [OWN_USER + 1])).toEqual({ left: [], unclear: [] });
});

test.each<[string, (file: string) => Promise<void>]>([
  [
    'is a pipe that nobody writes into',
    async (file) => {
      await rm(file);
      await promisify(execFile)('mkfifo', [file]);
    },
  ],
  [
    'is a link',
    async (file) => {
      await rename(file, path.join(parent, 'elsewhere'));
      await symlink(path.join(parent, 'elsewhere'), file);
    },
  ],
  [
    'is larger than any mark',
    async (file) => {
      await writeFile(file, mark.padEnd(5_000));
    },
  ],
  ['is empty', (file) => truncate(file)],
])('a folder is left alone whose mark %s', async (_, change) => {
  const { file } = await leftFolder();
  await change(file);
  expect(await findLeftFolders(parent, PREFIX, [OWN_USER])).toEqual({ left: [], unclear: [] });
});
