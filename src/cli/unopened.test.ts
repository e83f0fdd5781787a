import { mkdir, writeFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { cliWorld, recordingTerminal } from '../../test/support/cli-world.ts';
import { makeTempDirectory } from '../../test/support/temp.ts';
import { runCli } from './program.ts';

const FILE = `version: 1
storages:
  far:
    type: s3
    endpoint: https://s3.example.com
    bucket: spare
    prefix: pg
    access_key_id: far
    secret_access_key: "0123456789abcdef"
    ca_file: lost.pem
  near: { type: file, path: near }
databases:
  shop: { url: "postgres://app@127.0.0.1:1/shop" }
`;

/** A disk, and before it a bucket that cannot be opened, since the file with its authority is lost; runs commands there. */
async function setScene() {
  const folder = await makeTempDirectory();
  await writeFile(folder.join('pgark.yaml'), FILE);
  await mkdir(folder.join('near'));
  return {
    async run(...argv: string[]) {
      const terminal = recordingTerminal();
      const exit = await runCli([...argv, '--config', 'pgark.yaml'], cliWorld(terminal, {}, folder.path));
      return { exit, stdout: terminal.stdout(), stderr: terminal.stderr() };
    },
    [Symbol.asyncDispose]: () => folder[Symbol.asyncDispose](),
  };
}

test('a recovery kit says how a storage is got at that cannot even be opened', async () => {
  await using scene = await setScene();
  const text = await scene.run('key', 'recovery-kit');
  expect(text).toMatchObject({
    exit: 4,
    stdout: expect.stringMatching(
      /^storage +far: s3:\/\/spare\/pg\n[^]*is not known[^]*lost\.pem[^]*^storage +near: file:/m,
    ),
    stderr: expect.stringMatching(/^storage far: error .*lost\.pem/m),
  });
  const json = await scene.run('key', 'recovery-kit', '-o', 'json');
  expect(json.exit).toBe(4);
  expect(JSON.parse(json.stdout)).toMatchObject({
    storages: [
      { name: 'far', location: 's3://spare/pg', access: { bucket: 'spare' }, error: { code: 'config-unreadable' } },
      { name: 'near', backups: [] },
    ],
    failures: [{ storage: 'far', error: { code: 'config-unreadable' } }],
  });
});
