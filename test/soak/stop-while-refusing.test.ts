import { setTimeout } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { formatLsn } from '../../src/postgres/wal/lsn.ts';
import { Cluster } from '../support/cluster.ts';
import { s3Facts } from '../support/facts.ts';
import { startFaultProxy } from '../support/fault-proxy.ts';
import { startReceiver } from '../support/receiver-process.ts';
import { NumberedLoad } from '../support/recovery-world.ts';
import { openS3Store } from '../support/s3-store.ts';
import { createBucket } from '../support/s3.ts';
import { Archived, flushedLsn } from '../support/wal-receiving.ts';
import { readServerFolders } from './matrix-servers.ts';

const servers = [...(await readServerFolders())];
const REFUSAL_MS = 60_000;
/** More than a busy machine takes for a stop at one time than at another; much less than a server waits for a standby. */
const NOISE_MS = 5_000;
const SEGMENT_BYTES = 16 * 2 ** 20;

test.each(servers)(
  'PostgreSQL %i stops as fast as without pgark while its store has refused for a minute, and nothing is lost',
  { timeout: 400_000 },
  async (_, binDir) => {
    await using bucket = await createBucket();
    await using proxy = await startFaultProxy(s3Facts().endpoint);
    // Whoever holds up the server’s end holds it up for ever.
    await using cluster = await Cluster.start({ binDir, settings: { wal_sender_timeout: '0' } });
    const stopMs = async (): Promise<number> => {
      const begunMs = performance.now();
      await cluster.stop('fast');
      return performance.now() - begunMs;
    };
    const loaded = async (ms: number): Promise<void> => {
      const load = await NumberedLoad.start(cluster);
      await setTimeout(ms);
      await load.stop();
    };
    await loaded(5_000);
    const withoutMs = await stopMs();
    await cluster.start();

    const env = { ...bucket.env, S3_ENDPOINT: proxy.endpoint, DATABASE_URL: cluster.url, BACKUP_NAME: 'main' };
    const receiver = await startReceiver(env);
    let refused = 0;
    proxy.setFaults(({ operation }) => {
      if (operation !== 'PutObject') return undefined;
      refused += 1;
      return { kind: 'answer', status: 503, code: 'SlowDown' };
    });
    await loaded(REFUSAL_MS);
    expect(refused).toBeGreaterThan(0);
    const end = await flushedLsn(cluster);
    const withMs = await stopMs();
    expect(withMs).toBeLessThan(withoutMs + NOISE_MS);
    await cluster.start();
    proxy.setFaults(() => undefined);
    await cluster.until(
      `exists (select from pg_stat_replication where application_name = 'pgark_main' and flush_lsn >= '${formatLsn(end)}')`,
    );
    receiver.kill('SIGTERM');
    expect(await receiver.ended).toMatchObject({ exitCode: 0 });
    const store = openS3Store(bucket.name, { prefix: 'postgres-backups' });
    const systemIdentifier = await cluster.value('select system_identifier from pg_control_system()');
    const { to } = await new Archived(store, { source: 'main', systemIdentifier }, SEGMENT_BYTES).onlyStretch();
    expect(to).toBeGreaterThanOrEqual(end);
    await store.close();
  },
);
