import { expect, test } from 'vitest';
import { cliWorld, recordingTerminal } from '../../test/support/cli-world.ts';
import { runCli } from './program.ts';

test.each(['', ' '])('an assertion without a query is refused before anything is restored: %j', async (sql) => {
  const terminal = recordingTerminal();
  const exit = await runCli(['drill', '--assert', 'select true', '--assert', sql], cliWorld(terminal));
  expect({ exit, said: terminal.stderr() }).toEqual({
    exit: 2,
    said: expect.stringContaining('--assert needs a query'),
  });
});
