import { readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { COMMAND_AFTER_START, commandsBeforeStart } from './start-by-hand.ts';

const PAGE = new URL('../../../docs/restore-by-hand.md', import.meta.url);

test('what keeps a server that is made by hand from being the old one stands in the page, too', async () => {
  const page = (await readFile(PAGE, 'utf8')).replaceAll(/\\\n +/g, '');
  for (const command of [...commandsBeforeStart('DATA', 1), COMMAND_AFTER_START])
    expect(page).toContain(`${command}\n`);
});

test('it goes on from the timeline of its backup', () => {
  expect(commandsBeforeStart('DATA', 7).join('\n')).toContain(`"recovery_target_timeline = '7'"`);
});
