import { appendFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Cluster } from '../support/cluster.ts';
import { fileDestination } from '../support/destinations.ts';
import { drillIn, workFolder } from '../support/drills.ts';
import { backUpServer, restoreServer, ServerFolder } from '../support/physical.ts';

/** What pg_prewarm's worker has in the log when it did its work, which it begins with the server. */
const HAS_WORKED = 'prewarmed';

let cluster: Cluster;
let disk: Awaited<ReturnType<typeof fileDestination>>;
beforeAll(async () => {
  cluster = await Cluster.start({ settings: { shared_preload_libraries: 'pg_prewarm' } });
  disk = await fileDestination('disk');
  await cluster.sql('create extension pg_prewarm');
  await cluster.sql('select autoprewarm_dump_now()');
});
afterAll(async () => {
  await disk[Symbol.asyncDispose]();
  await cluster[Symbol.asyncDispose]();
});

test('a server that is restored for a drill starts no workers of its extensions', async () => {
  await using work = await workFolder();
  await backUpServer(cluster, [disk]);
  const outcome = await drillIn(disk.store, work, {
    assertions: [
      { sql: `select current_setting('shared_preload_libraries') = 'pg_prewarm'` },
      { sql: `select pg_read_file('pgark-recovery.log') not like '%${HAS_WORKED}%' from pg_sleep(2)` },
    ],
  });
  expect(outcome).toMatchObject({ assertions: 2 });
});

test('of one that is restored to stay, libraries are named that may begin to work, before it is started', async () => {
  await using folder = await ServerFolder.make(cluster.binDir);
  await backUpServer(cluster, [disk]);
  expect((await restoreServer(disk.store, folder.join('without'))).warnings).toEqual([]);
  const settings = path.join(cluster.dataDirectory, 'postgresql.conf');
  await appendFile(settings, `shared_preload_libraries = 'pg_prewarm, pg_cron, pglogical'\n`);
  await backUpServer(cluster, [disk]);
  const { warnings } = await restoreServer(disk.store, folder.join('with'));
  expect(warnings).toEqual([expect.stringMatching(/loads pg_cron, pglogical \(.* -o '-c max_worker_processes=0'/)]);
});
