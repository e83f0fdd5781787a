import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { makeTempDirectory } from '../test/support/temp.ts';

test('a working directory that was deleted is one clear error', { timeout: 300_000 }, async () => {
  await using folder = await makeTempDirectory();
  const main = fileURLToPath(new URL('main.ts', import.meta.url));
  const script = 'mkdir "$0/gone" && cd "$0/gone" && rmdir "$0/gone" && exec "$1" "$2" list';
  const { code, stderr } = await new Promise<{ code: unknown; stderr: string }>((resolve) => {
    execFile('sh', ['-c', script, folder.path, process.execPath, main], (error, _stdout, text) =>
      resolve({ code: error?.code, stderr: text }),
    );
  });
  expect(stderr).toMatch(/^error {2}the current directory does not exist any more\n {2}hint [^\n]*\n$/);
  expect(code).toBe(2);
});
