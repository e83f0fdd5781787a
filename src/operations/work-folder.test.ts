import { mkdir, mkdtemp, readdir, readFile, realpath, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type Logger, silentLogger } from '../common/log.ts';
import { makePrivateFolder } from '../postgres/server/private-folder.ts';
import { removeLeftFolders } from './work-folder.ts';

const PREFIX = 'pgark-tried-';
let parent: string;
let warnings: string[];
const logger: Logger = { ...silentLogger, warning: (_event, message) => void warnings.push(message) };

beforeEach(async () => {
  parent = await realpath(await mkdtemp(path.join(tmpdir(), 'pgark-left-')));
  warnings = [];
});
afterEach(async () => rm(parent, { recursive: true, force: true }));

const remove = (): Promise<void> => removeLeftFolders(parent, { prefix: PREFIX, maker: 'a restore', logger });

test('a folder stays as long as its owner lives', async () => {
  const folder = await makePrivateFolder(parent, PREFIX, undefined);
  await remove();
  expect(await readdir(parent)).toEqual([path.basename(folder.path)]);
  expect(warnings).toEqual([]);
  await folder.remove();
  expect(await readdir(parent)).toEqual([]);
});

test('a folder goes whose machine was started anew, and one of another machine stays, with a warning', async () => {
  const here = await makePrivateFolder(parent, PREFIX, undefined);
  const elsewhere = await makePrivateFolder(parent, PREFIX, undefined);
  const mark = JSON.parse(await readFile(path.join(here.path, 'owner.json'), 'utf8'));
  await writeFile(path.join(here.path, 'owner.json'), JSON.stringify({ ...mark, boot: 'before' }));
  await writeFile(path.join(elsewhere.path, 'owner.json'), JSON.stringify({ host: 'elsewhere', boot: 'another' }));
  await remove();
  expect(await readdir(parent)).toEqual([path.basename(elsewhere.path)]);
  expect(warnings).toEqual([expect.stringContaining(elsewhere.path)]);
  await elsewhere.remove();
});

test('in a folder that is not there nothing is left, and nothing is warned of', async () => {
  await removeLeftFolders(path.join(parent, 'nowhere'), { prefix: PREFIX, maker: 'a restore', logger });
  expect(warnings).toEqual([]);
});

test('what has the name and no mark stays', async () => {
  await mkdir(path.join(parent, `${PREFIX}unmarked`));
  await writeFile(path.join(parent, `${PREFIX}file`), '');
  await remove();
  expect((await readdir(parent)).toSorted()).toEqual([`${PREFIX}file`, `${PREFIX}unmarked`]);
});
