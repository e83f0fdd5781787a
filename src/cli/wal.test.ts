import { mkdir, writeFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { cliWorld, recordingTerminal } from '../../test/support/cli-world.ts';
import { silentLogger } from '../common/log.ts';
import { openWalRecord } from '../operations/wal/open-wal-record.ts';
import { operationContext } from '../operations/context.ts';
import { makeTempDirectory } from '../../test/support/temp.ts';
import { runCli } from './program.ts';

const FILE = `version: 1
storages: { near: { type: file, path: near }, far: { type: file, path: far } }
databases:
  shop: { url: "postgres://app@127.0.0.1:1/shop" }
  orders: { url: "postgres://app@127.0.0.1:1/orders", wal: { to: [near] } }
`;

test('WAL is looked for in all storages where the configuration does not say in which', async () => {
  await using folder = await makeTempDirectory();
  await writeFile(folder.join('pgark.yaml'), FILE);
  for (const name of ['near', 'far']) await mkdir(folder.join(name));
  const retry = { retriesMax: 0, delayMs: 1, delayMsMax: 1 };
  const { adapters } = cliWorld(recordingTerminal());
  const far = await adapters.openStore({ type: 'file', name: 'far', path: folder.join('far'), retry }, silentLogger);
  await openWalRecord(far, { source: 'shop', systemIdentifier: '7', segmentBytes: 2 ** 24 }, operationContext());
  const run = async (...argv: string[]) => {
    const terminal = recordingTerminal();
    const exit = await runCli([...argv, '--config', 'pgark.yaml'], cliWorld(terminal, {}, folder.path));
    return { exit, said: terminal.stdout() + terminal.stderr() };
  };
  expect(await run('wal', 'status')).toMatchObject({ exit: 0, said: expect.stringMatching(/shop[^]*far[^]*nothing/) });
  expect((await run('wal', 'status', 'orders')).said).toContain(
    'no WAL is archived but what each physical backup keeps',
  );
  expect(
    await run('wal', 'fetch', '0'.repeat(24), 'x', '--source', 'shop', '--storage', 'far', '--replay-to', '0/1'),
  ).toEqual({
    exit: 126,
    said: expect.stringContaining('--replay-from and --replay-to go with --refuse-tablespace-paths'),
  });
  // What is to be written needs to be told where.
  expect(await run('wal', 'receive', 'shop')).toMatchObject({ exit: 1, said: expect.stringContaining('wal.to') });
});
