import { setTimeout } from 'node:timers/promises';
import { expect, test, vi } from 'vitest';
import { systemRandom } from '../../src/common/random.ts';
import { targetAt } from '../../src/operations/recovery/recovery-target.ts';
import { parseLsn } from '../../src/postgres/wal/lsn.ts';
import { serverTimeOfDate } from '../../src/postgres/wal/server-time.ts';
import { runPgark } from '../support/cli.ts';
import { Cluster } from '../support/cluster.ts';
import { backUpServer, ServerFolder } from '../support/physical.ts';
import { NumberedLoad, restoreTo } from '../support/recovery-world.ts';
import { openS3Store } from '../support/s3-store.ts';
import { createBucket } from '../support/s3.ts';
import { flushedLsn, startReceiving, WAIT } from '../support/wal-receiving.ts';
import { readServerFolders } from './matrix-servers.ts';

const servers = [...(await readServerFolders())];
const IDLE_SECONDS = 90;
const ASKED_EVERY_SECONDS = 3;
/** Something that is no transaction comes into the log so often: a message, the end of a segment, a checkpoint. */
const STIRRED_EVERY_SECONDS = 20;

test.each(servers)(
  'PostgreSQL %i is brought back to any moment at which nothing was written, while that lasts and behind it',
  { timeout: 900_000 },
  async (_, binDir) => {
    await using bucket = await createBucket();
    const store = openS3Store(bucket.name, { prefix: 'postgres-backups' });
    await using cluster = await Cluster.start({ binDir, initdb: ['--wal-segsize=1'] });
    await using folder = await ServerFolder.make(binDir);
    await using receiving = startReceiving(cluster, [store], { source: 'main', slot: 'main', flushMs: 10_000 });
    await receiving.streams();
    const before = await NumberedLoad.start(cluster);
    await before.more(20);
    await backUpServer(cluster, [{ destination: { name: 's3', store, needsDelete: false } }]);
    await before.more(20);
    const last = (await before.stop()).at(-1);

    const moments: string[] = [];
    for (let second = 1; second <= IDLE_SECONDS; second += 1) {
      await setTimeout(1_000);
      const now = `to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`;
      if (second % ASKED_EVERY_SECONDS === 0) moments.push(await cluster.value(`select ${now}`));
      if (second % STIRRED_EVERY_SECONDS !== 0) continue;
      await cluster.sql(`select pg_logical_emit_message(false, 'idle', 'nothing')`);
      await cluster.sql('select pg_switch_wal()');
      await cluster.sql('checkpoint');
    }
    const planned = async (moment: string): Promise<bigint> => {
      const target = targetAt(new Date(moment), Number(moment.slice(23, 26)));
      const data = folder.join('planned');
      const { recovery } = await restoreTo(store, data, target, bucket.env, { planOnly: true });
      return recovery?.stop.lsn ?? 0n;
    };
    const end = serverTimeOfDate(new Date(moments.at(-1) ?? ''));
    await vi.waitUntil(() => (receiving.receiver.state().coveredUntil ?? 0n) > end, WAIT);
    // The note of it is in the storage a little later.
    await vi.waitUntil(() => planned(moments.at(-1) ?? '').then(Boolean, () => false), WAIT);
    for (const moment of moments) expect(await planned(moment)).toBeGreaterThanOrEqual(parseLsn(last?.lsn ?? ''));

    const after = await NumberedLoad.start(cluster);
    await after.more(20);
    const next = (await after.stop())[0];
    await receiving.archives(await flushedLsn(cluster));
    await receiving.stop();
    for (const moment of moments) {
      const lsn = await planned(moment);
      expect(lsn).toBeGreaterThanOrEqual(parseLsn(last?.lsn ?? ''));
      expect(lsn).toBeLessThan(parseLsn(next?.lsn ?? ''));
    }
    for (const name of ['one', 'another']) {
      const moment = moments[Math.floor(systemRandom.fraction() * moments.length)] ?? '';
      const data = folder.join(name);
      const result = await runPgark(['restore', '--to-dir', data, '--at', moment], { env: bucket.env });
      expect([moment, result.exitCode, result.stderr]).toEqual([moment, 0, expect.not.stringContaining('error')]);
      const server = await folder.start(data);
      const rows = await server.value('select count(*) || $$ $$ || max(n) from numbered');
      expect([moment, rows]).toEqual([moment, `${last?.n} ${last?.n}`]);
      await folder.stop(data);
    }
    await store.close();
  },
);
