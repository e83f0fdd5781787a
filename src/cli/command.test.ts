import { writeFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { cliWorld, recordingTerminal } from '../../test/support/cli-world.ts';
import { makeTempDirectory } from '../../test/support/temp.ts';
import { runCli } from './program.ts';

test('a database that two sources have is not guessed: the typed name confirms nothing', async () => {
  await using directory = await makeTempDirectory();
  const file = directory.join('pgark.yaml');
  await writeFile(
    file,
    `version: 1
storages: { local: { type: file, path: ${directory.path} } }
databases:
  prod: { url: "postgres://u@prod.example/shop", jobs: { dump: { format: plain, to: [local] } } }
  staging: { url: "postgres://u@staging.example/shop", jobs: { dump: { format: plain, to: [local] } } }
`,
  );
  const terminal = recordingTerminal();
  const exit = await runCli(
    ['-c', file, 'restore', 'shop', 'latest', '--in-place', '--yes', 'shop'],
    cliWorld(terminal),
  );
  expect(exit).toBe(2);
  expect(terminal.stderr()).toContain('prod (prod.example:5432), staging (staging.example:5432)');
});
