import { mkdir, writeFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { cliWorld, recordingTerminal } from '../../test/support/cli-world.ts';
import { baseOfSegment } from '../../test/support/wal-scene.ts';
import { silentLogger } from '../common/log.ts';
import { Repository } from '../repository/repository.ts';
import { walKey } from '../repository/wal-keys.ts';
import { writeWalRecord } from '../repository/wal-record.ts';
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
  // A table without a row says nothing.
  expect(await run('timeline')).toEqual({ exit: 0, said: expect.stringMatching(/^no WAL is archived/) });
  expect(
    await run('wal', 'fetch', '0'.repeat(24), 'x', '--source', 'shop', '--storage', 'far', '--replay-to', '0/1'),
  ).toEqual({
    exit: 126,
    said: expect.stringContaining('--replay-from and --replay-to go with --refuse-tablespace-paths'),
  });
  // What is to be written needs to be told where.
  expect(await run('wal', 'receive', 'shop')).toMatchObject({ exit: 1, said: expect.stringContaining('wal.to') });
});

test('no moment is told that a receiver noted of WAL which is gone', async () => {
  await using folder = await makeTempDirectory();
  await writeFile(folder.join('pgark.yaml'), FILE);
  for (const name of ['near', 'far']) await mkdir(folder.join(name));
  const retry = { retriesMax: 0, delayMs: 1, delayMsMax: 1 };
  const { adapters } = cliWorld(recordingTerminal());
  const near = await adapters.openStore({ type: 'file', name: 'near', path: folder.join('near'), retry }, silentLogger);
  const server = { source: 'shop', systemIdentifier: '7380000000000000001' };
  const record = await openWalRecord(near, { ...server, segmentBytes: 2 ** 20 }, operationContext());
  const repository = new Repository(near, operationContext());
  await repository.initialise({ pgarkVersion: '0.1.0' });
  await repository.commit(baseOfSegment(1, new Date('2026-11-20T02:00:00Z')));
  const first = walKey(server, { kind: 'segment', name: '000000010000000000000001' }, '.zst');
  await near.putSmall(first, Buffer.from('wal'));
  const name = '000000010000000000000002';
  const parts = [0, 256, 512].map((from) => walKey(server, { kind: 'delta', name, from, to: from + 256 }, '.zst'));
  for (const key of parts) await near.putSmall(key, Buffer.from('wal'));
  const head = { timeline: 1, lsn: '0/200300', slot: 'pgark', host: 'tester', pid: 1 };
  const [serverTime, writtenAt] = ['2099-01-01T00:00:00.000000Z', '2099-01-01T00:00:00.000Z'];
  await writeWalRecord(near, { ...record, head: { ...head, serverTime, writtenAt } });
  const said = async (): Promise<string> => {
    const texts = [];
    for (const argv of [
      ['wal', 'status'],
      ['timeline', 'shop'],
    ]) {
      const terminal = recordingTerminal();
      await runCli([...argv, '--config', 'pgark.yaml'], cliWorld(terminal, {}, folder.path));
      texts.push(terminal.stdout());
    }
    return texts.join('');
  };
  expect((await said()).match(/2099/g)).toHaveLength(2);
  await near.delete(parts[1] ?? '');
  const holed = await said();
  expect(holed).toContain('by the server’s clock is archived, but for what is missing');
  expect(holed).toMatch(/^missing +0\/200100 to 0\/200200$/m);
  expect(holed).toContain('WAL from 0/200100 to 0/200200 is missing, and no recovery goes through that');
  // By the window that holds no base backup alone.
  expect(holed).toMatch(/no base backup +2099/);
  await near.delete(parts[2] ?? '');
  expect(await said()).not.toContain('2099');
});
