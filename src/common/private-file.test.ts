import { execFileSync } from 'node:child_process';
import { readFileSync, statSync } from 'node:fs';
import { expect, test } from 'vitest';
import { makePrivateFile } from './private-file.ts';

test('a private file can be read by another program, several times, and by no other user', async () => {
  await using file = await makePrivateFile(Buffer.from('the content'));
  expect(execFileSync('cat', [file.path, file.path]).toString()).toBe('the contentthe content');
  expect(statSync(file.path).mode & 0o777).toBe(0o600);
});

test('a private file is gone when it is not needed any more', async () => {
  let path = '';
  {
    await using file = await makePrivateFile(Buffer.from('the content'));
    path = file.path;
  }
  expect(() => readFileSync(path)).toThrow(/ENOENT/);
});
