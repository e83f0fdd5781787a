import { expect, test } from 'vitest';
import { temporaryFolder } from './temporary-folder.ts';

test.each([
  ['/var/tmp', '/var/tmp'],
  ['', '/tmp'],
  [undefined, '/tmp'],
])('TMPDIR %j means %s', (given, folder) => {
  expect(temporaryFolder({ TMPDIR: given })).toBe(folder);
});
