import { mkdir, writeFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { cliWorld, recordingTerminal } from '../../test/support/cli-world.ts';
import { makeTempDirectory } from '../../test/support/temp.ts';
import { silentLogger } from '../common/log.ts';
import { systemRandom } from '../common/random.ts';
import { makeRunId } from '../repository/ids.ts';
import { keys } from '../repository/keys.ts';
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
  const retry = { retriesMax: 0, delayMs: 1, delayMsMax: 1 };
  const { adapters } = cliWorld(recordingTerminal());
  const near = await adapters.openStore({ type: 'file', name: 'near', path: folder.join('near'), retry }, silentLogger);
  return {
    near,
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

test('the log of a run is printed from the other storage, and not said to be nowhere', async () => {
  await using scene = await setScene();
  const startedAt = new Date('2026-11-20T02:00:00Z');
  const id = makeRunId(startedAt, systemRandom);
  const times = { startedAt: startedAt.toISOString(), endedAt: startedAt.toISOString() };
  const process = { host: 'tester', pid: 1, pgarkVersion: '0.0.0' };
  const record = JSON.stringify({ layout: 1, id, kind: 'prune', state: 'succeeded', ...times, ...process });
  const { near } = scene;
  await near.putSmall(keys.run(startedAt, id), Buffer.from(record));
  const passedOver = expect.stringMatching(/WARNING storage far is passed over: .*lost\.pem/);
  expect(await scene.run('logs', id)).toMatchObject({
    exit: 1,
    stderr: expect.stringMatching(/^error {2}no storage that answers has the log of \S+; far: .*lost\.pem/m),
  });
  await near.putSmall(keys.runLog(startedAt, id), Buffer.from('{"event":"run.ended","message":"it is over"}\n'));
  for (const args of [[], ['-f']]) {
    expect(await scene.run('logs', id, ...args)).toEqual({ exit: 0, stdout: 'it is over\n', stderr: passedOver });
  }
  expect(await scene.run('logs', makeRunId(startedAt, systemRandom))).toMatchObject({
    exit: 1,
    stderr: expect.stringMatching(/^error {2}no storage that answers has a run \S+; far: .*lost\.pem/m),
  });
});

test('a probe says so of it, and what it found of the other one', async () => {
  await using scene = await setScene();
  expect(await scene.run('storage', 'probe')).toMatchObject({
    exit: 1,
    stdout: expect.stringMatching(
      /^far {2}s3:\/\/spare\/pg\n[^]*^open +no\n[^]*✖ open: .*lost\.pem[^]*^near {2}file:[^]*^write +yes$/m,
    ),
    stderr: expect.stringContaining('lost.pem'),
  });
});
