import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { makeTempDirectory } from '../test/support/temp.ts';

const HINT = 'change into one that does (cd), then run the command again';
const MESSAGE = 'the current directory does not exist any more';

test('a working directory that was deleted is one clear error', { timeout: 300_000 }, async () => {
  expect(await inDeletedDirectory({})).toEqual({ code: 2, stderr: `error  ${MESSAGE}\n  hint ${HINT}\n` });
  const { code, stderr } = await inDeletedDirectory({ LOG_FORMAT: 'json' });
  expect({ code, line: JSON.parse(stderr) as unknown }).toMatchObject({
    code: 2,
    line: { level: 'ERROR', event: 'command.failed', code: 'usage', message: MESSAGE, hint: HINT, exit_code: 2 },
  });
});

async function inDeletedDirectory(
  environment: Readonly<Record<string, string>>,
): Promise<{ readonly code: unknown; readonly stderr: string }> {
  await using folder = await makeTempDirectory();
  const main = fileURLToPath(new URL('main.ts', import.meta.url));
  const script = 'mkdir "$0/gone" && cd "$0/gone" && rmdir "$0/gone" && exec "$1" "$2" list';
  const env = { PATH: process.env['PATH'], ...environment };
  return await new Promise((resolve) => {
    execFile('sh', ['-c', script, folder.path, process.execPath, main], { env }, (error, _stdout, stderr) =>
      resolve({ code: error?.code, stderr }),
    );
  });
}
