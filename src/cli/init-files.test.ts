import { chmod, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { makeTempDirectory } from '../../test/support/temp.ts';
import { PgarkError } from '../common/errors.ts';
import { NewFiles } from './init-files.ts';

test('a file that is there is replaced by one that may, and by no other, as a whole', async () => {
  await using folder = await makeTempDirectory();
  const path = folder.join('a');
  await writeFile(path, 'old', { mode: 0o644 });
  await chmod(path, 0o644);
  const files = new NewFiles();
  await expect(files.write(path, 'new', { replaces: false })).rejects.toThrow(/there is a file of that name/);
  const check = async (draft: string): Promise<void> => {
    expect(await readFile(draft, 'utf8')).toBe('new');
    throw new PgarkError('config-invalid', 'it is not right');
  };
  await expect(files.write(path, 'new', { replaces: true, check })).rejects.toThrow('it is not right');
  expect(await readFile(path, 'utf8')).toBe('old');
  await files.write(path, 'new', { replaces: true });
  await files.finish();
  expect(await readFile(path, 'utf8')).toBe('new');
  expect((await stat(path)).mode & 0o777).toBe(0o600);
  expect(await readdir(folder.path)).toEqual(['a']);
});

test('all of it is undone: what was made goes, and what was replaced is there again, as it was', async () => {
  await using folder = await makeTempDirectory();
  await writeFile(folder.join('there'), 'old', { mode: 0o640 });
  const { mode } = await stat(folder.join('there'));
  const files = new NewFiles();
  await files.write(folder.join('there'), 'new', { replaces: true });
  await files.write(folder.join('there'), 'newer', { replaces: true });
  await files.write(folder.join('made'), 'new', { replaces: false });
  await files.write(folder.join('made too'), 'new', { replaces: true });
  await files.undo();
  expect(await readdir(folder.path)).toEqual(['there']);
  expect(await readFile(folder.join('there'), 'utf8')).toBe('old');
  expect((await stat(folder.join('there'))).mode).toBe(mode);
});
