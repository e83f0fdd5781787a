import { mkdir, writeFile } from 'node:fs/promises';
import { expect, test, vi } from 'vitest';
import { systemClock } from '../../src/common/clock.ts';
import { systemRandom } from '../../src/common/random.ts';
import { listWalRecords, type WalRecord, writeWalRecord } from '../../src/repository/wal-record.ts';
import { FileStore } from '../../src/storage/file/file-store.ts';
import { expectExit } from '../support/backups.ts';
import { runPgark } from '../support/cli.ts';
import { Cluster } from '../support/cluster.ts';
import { startReceiver as startHook, status } from '../support/http-receiver.ts';
import { startReceiver } from '../support/receiver-process.ts';
import { makeTempDirectory } from '../support/temp.ts';
import { dropSlots, load } from '../support/wal-receiving.ts';

const WAIT = { timeout: 120_000, interval: 100 };
const HOUR_MS = 3_600_000;

test('without a daemon the receiver tells of WAL that is lost, and check and healthcheck of WAL that is late', {
  timeout: 300_000,
}, async () => {
  await using cluster = await Cluster.start({
    initdb: ['--wal-segsize=1'],
    settings: { max_wal_size: '2MB', min_wal_size: '2MB' },
  });
  await using directory = await makeTempDirectory();
  await using hook = await startHook([status(200)]);
  const root = directory.join('store');
  await mkdir(root);
  const file = directory.join('pgark.yaml');
  await writeFile(
    file,
    `
version: 1
storages: { near: { type: file, path: ${root} } }
notifications: { ops: { type: webhook, url: "${hook.origin}/hook" } }
defaults: { notify: [ops] }
databases:
  shop:
    url: ${cluster.url}
    wal: { flush: 1s }
    jobs: { full: { format: physical } }
`,
  );
  const env = { PGARK_CONFIG: file, BACKUP_NAME: 'shop' };
  const run = (...args: string[]) => runPgark(args, { env: { PGARK_CONFIG: file } });
  const store = new FileStore({ root, clock: systemClock, random: systemRandom });
  const head = async (): Promise<WalRecord['head']> => (await listWalRecords(store, 'shop'))[0]?.head;
  const told = () =>
    hook.requests.map(({ body }) => {
      const { data } = JSON.parse(body) as { readonly data: { event: string; error?: { code: string } } };
      return [data.event, data.error?.code];
    });

  // Nobody has received anything yet.
  const none = await run('check');
  expectExit(none, 22);
  expect(none.stdout).toMatch(/^shop +WAL +near +none .*OVERDUE$/m);
  expect(none.stdout).toContain('✖ WAL of shop: no WAL is known to be archived');

  const first = await startReceiver(env);
  await cluster.sql(load(500));
  await vi.waitUntil(async () => (await head()) !== undefined, WAIT);
  first.kill('SIGTERM');
  expectExit(await first.ended, 0);
  const fresh = await run('check');
  expectExit(fresh, 0);
  expect(fresh.stdout).toMatch(/^shop +WAL +near +\d{4}-\S+Z +\d.* s +ok$/m);
  expect((await run('check', '--nagios')).stdout).toMatch(/^PGARK OK - .*; WAL archived up to .* wal_lag=\d+s;;900;0 /);
  expectExit(await run('healthcheck', '--no-daemon'), 0);
  expect(told()).toEqual([]);

  // The slot is gone, and what the server wrote meanwhile with it.
  await dropSlots(cluster);
  await cluster.sql(load(8_000));
  await cluster.sql('checkpoint');
  const second = await startReceiver(env);
  await vi.waitUntil(() => told().length > 0, WAIT);
  expect(told()).toEqual([['wal_gap', 'wal-gap']]);
  // It looks on, and says when what follows has its base backup.
  expectExit(await run('backup'), 0);
  await vi.waitUntil(() => told().length > 1, WAIT);
  expect(told().slice(1)).toEqual([['recovery', undefined]]);
  second.kill('SIGTERM');
  expectExit(await second.ended, 0);

  // Two hours in which nobody notes what is received, which goes on.
  const [record] = await listWalRecords(store, 'shop');
  if (record?.head === undefined) throw new Error('a receiver notes how far it is');
  const before = new Date(Date.now() - 2 * HOUR_MS).toISOString();
  const old = { ...record.head, lsn: '0/1000000', serverTime: before.replace('Z', '000Z'), writtenAt: before };
  await writeWalRecord(store, { ...record, head: old });
  const guessed = await run('check', '--nagios');
  expect([guessed.exitCode, guessed.stdout]).toEqual([0, expect.stringMatching(/^PGARK OK /)]);
  const keys: string[] = [];
  for await (const { key } of store.list('shop/wal/')) keys.push(key);
  for (const key of keys) await store.delete(key);
  const late = await run('check', '--notify');
  expectExit(late, 22);
  expect(late.stderr).toContain('the WAL of 1 of 1 sources is not archived as it should be');
  expect(late.stdout).toMatch(/^✖ WAL of shop: nothing committed since \S+ is known to be archived \(2 h 00 min\)$/m);
  expectExit(await run('check', '--notify'), 22);
  expect(told().slice(2)).toEqual([['wal_lag', 'wal-lag']]);
  expect(await run('check', '--nagios')).toMatchObject({
    exitCode: 2,
    stdout: expect.stringMatching(/^PGARK CRITICAL - WAL of shop: nothing committed since /),
  });
  const unhealthy = await run('healthcheck', '--no-daemon');
  expect([unhealthy.exitCode, unhealthy.stdout]).toEqual([1, expect.stringContaining('✖ WAL of shop: ')]);
  const json = await run('-o', 'json', 'check');
  expect(JSON.parse(json.stdout)).toMatchObject({
    healthy: false,
    wal: [{ source: 'shop', overdue: true, storages: [{ storage: 'near', noted_by_receiver: true }] }],
  });

  await writeWalRecord(store, {
    ...record,
    head: { ...old, serverTime: new Date().toISOString().replace('Z', '000Z'), writtenAt: new Date().toISOString() },
  });
  expectExit(await run('check', '--notify'), 0);
  expect(told().slice(3)).toEqual([['recovery', undefined]]);
});
