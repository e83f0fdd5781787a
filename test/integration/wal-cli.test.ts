import { chmod, mkdir, readFile } from 'node:fs/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { MIB } from '../../src/common/bytes.ts';
import { systemClock } from '../../src/common/clock.ts';
import { systemRandom } from '../../src/common/random.ts';
import { putTimelineHistory } from '../../src/formats/wal/store-piece.ts';
import { formatLsn } from '../../src/postgres/wal/lsn.ts';
import { FileStore } from '../../src/storage/file/file-store.ts';
import { pgarkPath, type RunResult, runPgark } from '../support/cli.ts';
import { Cluster } from '../support/cluster.ts';
import { startReceiver } from '../support/receiver-process.ts';
import { makeTempDirectory, type TempDirectory } from '../support/temp.ts';
import { Archived, flushedLsn, load, walFolder } from '../support/wal-receiving.ts';

let cluster: Cluster;
let directory: TempDirectory;
let env: Readonly<Record<string, string>>;
beforeAll(async () => {
  cluster = await Cluster.start({ initdb: ['--wal-segsize=1'] });
  directory = await makeTempDirectory();
  await mkdir(directory.join('store'));
  env = { DATABASE_URL: cluster.url, BACKUP_NAME: 'shop', BACKUP_STORAGE: `file://${directory.join('store')}` };
});
afterAll(async () => {
  await cluster[Symbol.asyncDispose]();
  await directory[Symbol.asyncDispose]();
});

test('a receiver that is killed in the midst of it loses nothing, and one that is told to ends in good order', async () => {
  const first = await startReceiver(env);
  await cluster.sql(load(2_500));
  first.kill('SIGKILL');
  expect((await first.ended).signal).toBe('SIGKILL');
  await cluster.sql(load(1_500));
  const second = await startReceiver(env);
  await cluster.sql(load(700));
  const end = await flushedLsn(cluster);
  await cluster.until(
    `exists (select from pg_stat_replication where application_name = 'pgark_shop' and sent_lsn >= '${formatLsn(end)}')`,
  );
  second.kill('SIGTERM');
  const result = await second.ended;
  expect([result.exitCode, result.stdout]).toEqual([0, '']);
  const store = new FileStore({ root: directory.join('store'), clock: systemClock, random: systemRandom });
  const stretch = await new Archived(store, await walFolder(cluster), MIB).onlyStretch();
  expect(stretch.to).toBeGreaterThanOrEqual(end);
  // It is all there, as anybody can see.
  const status = await runPgark(['-o', 'json', 'wal', 'status'], { env });
  const [archive] = (JSON.parse(status.stdout) as { archives: Record<string, unknown>[] }).archives;
  expect(archive).toMatchObject({ source: 'shop', timeline: 1, gaps: [], receiver: { slot: 'pgark_shop' } });
  const shown = await runPgark(['wal', 'status'], { env });
  expect(shown.stdout).toMatch(/archived +0\/\w+ to 0\/\w+ without a gap/);
  // And comes back, or surely is not there.
  const fetched = directory.join('fetched');
  const fetch = (name: string, target = fetched): Promise<RunResult> =>
    runPgark(['wal', 'fetch', name, target], { env, cwd: cluster.dataDirectory });
  const name = await cluster.value('select pg_walfile_name(pg_current_wal_lsn())');
  expect(await fetch(name)).toMatchObject({ exitCode: 0, stdout: '' });
  expect((await readFile(fetched)).length).toBe(MIB);
  expect((await fetch('00000002.history')).exitCode).toBe(1);
  expect((await fetch('0000000100000000000000FF')).exitCode).toBe(1);
  expect((await fetch('0000000100000000000000FF', directory.join('no', 'where'))).exitCode).toBe(1);
  expect((await fetch(name, directory.join('no', 'where'))).exitCode).toBe(126);
  expect((await fetch('PG_VERSION')).exitCode).toBe(126);
  const elsewhere = await runPgark(['wal', 'fetch', name, fetched], { env, cwd: directory.path });
  expect(elsewhere.exitCode).toBe(0);
  const missing = { ...env, BACKUP_STORAGE: `file://${directory.join('nothing')}` };
  expect((await runPgark(['wal', 'fetch', name, fetched], { env: missing, cwd: cluster.dataDirectory })).exitCode).toBe(
    126,
  );
  // What Node.js itself ends with when it does not start, PostgreSQL would take for the end of what is archived.
  const notStarted = await runPgark(['wal', 'fetch', name, fetched], { env: { ...env, NODE_OPTIONS: '--nonsense' } });
  expect(notStarted.exitCode).toBe(126);
  const id = await runPgark(['wal', 'fetch', name, fetched, '--system-id', '../x'], { env, cwd: directory.path });
  expect([id.exitCode, id.stderr]).toEqual([126, expect.stringContaining('--system-id ../x is no system identifier')]);
  expect((await runPgark(['wal', 'receive', '--slot', 'Not-One'], { env })).exitCode).toBe(2);
  const refused = await runPgark(['wal', 'receive'], {
    env: { ...env, DATABASE_URL: cluster.url.replace('postgres:unused', 'nobody:x') },
  });
  expect([refused.exitCode, refused.stderr]).toEqual([1, expect.stringContaining('nobody')]);

  // A copy that was promoted has archived how its timeline began.
  const history = Buffer.from(`1\t${formatLsn(stretch.from + 8n)}\tno recovery target specified\n`);
  await putTimelineHistory({ store, folder: await walFolder(cluster) }, '00000002.history', history);
  const words = /WAL of timeline 1 was stored later than that of timeline 2/;
  expect((await runPgark(['wal', 'status'], { env })).stdout).toMatch(new RegExp(`beside it +${words.source}`));
  expect((await runPgark(['timeline'], { env })).stdout).toMatch(new RegExp(`shop, \\w+: ${words.source}`));
  const told = { warnings: [expect.stringMatching(words)] };
  const json = async (args: readonly string[]): Promise<unknown> =>
    JSON.parse((await runPgark(['-o', 'json', ...args], { env })).stdout);
  expect(await json(['timeline'])).toMatchObject(told);
  expect(await json(['wal', 'status'])).toMatchObject({ archives: [told] });
  const kinds = async (args: readonly string[]): Promise<readonly unknown[]> =>
    (await runPgark(['-o', 'ndjson', ...args], { env })).stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as unknown);
  expect(await kinds(['wal', 'status'])).toEqual([expect.objectContaining({ kind: 'archive', ...told })]);
  expect(await kinds(['timeline'])).toContainEqual({
    schema_version: 1,
    kind: 'warning',
    message: expect.stringMatching(words),
  });
});

test('an archive_command archives what the server has written', async () => {
  await mkdir(directory.join('pushed'));
  await chmod(directory.join('pushed'), 0o777);
  await chmod(directory.path, 0o755);
  const pushed = `BACKUP_NAME=shop BACKUP_STORAGE=file://${directory.join('pushed')} DATABASE_URL=postgres://x@localhost/x`;
  await using server = await Cluster.start({
    initdb: ['--wal-segsize=1'],
    settings: { archive_mode: 'on', archive_command: `${pushed} ${pgarkPath} wal push %p` },
  });
  const name = await server.value('select pg_walfile_name(pg_switch_wal())');
  await server.until(`select last_archived_wal >= '${name}' from pg_stat_archiver`);
  const store = new FileStore({ root: directory.join('pushed'), clock: systemClock, random: systemRandom });
  const found = new Archived(store, await walFolder(server), MIB);
  expect((await found.segment(name)).equals(await readFile(`${server.dataDirectory}/pg_wal/${name}`))).toBe(true);
  expect(await server.value('select failed_count from pg_stat_archiver')).toBe('0');
});
