import { appendFile, writeFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { makeTempDirectory } from '../../../test/support/temp.ts';
import { LogTail } from './log-tail.ts';

test('a log shows what was written since, also in two pieces, and once only', async () => {
  await using folder = await makeTempDirectory();
  const file = folder.join('log');
  await writeFile(file, 'it has paused\n');
  const tail = await LogTail.behind(file);
  expect(await tail.shows(/has paused/)).toBe(false);
  await appendFile(file, 'other\nit has pau');
  expect(await tail.shows(/has paused/)).toBe(false);
  await appendFile(file, 'sed\n');
  expect(await tail.shows(/has paused/)).toBe(true);
  expect(await tail.shows(/has paused/)).toBe(false);
});
