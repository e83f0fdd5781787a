import { chmod } from 'node:fs/promises';
import { describe, expect, test, vi } from 'vitest';
import { MIB } from '../../src/common/bytes.ts';
import { Cluster } from '../support/cluster.ts';
import { MemoryStore } from '../support/memory-store.ts';
import { RefusingStore } from '../support/refusing-store.ts';
import { makeTempDirectory } from '../support/temp.ts';
import { Archived, flushedLsn, load, startReceiving, walFolder } from '../support/wal-receiving.ts';
import { readMatrixFolders } from './matrix-servers.ts';

const WAIT = { timeout: 60_000, interval: 20 };
const folders = await readMatrixFolders();
const newest = [...folders.clients.values()].at(-1);

describe.each([...folders.servers])('WAL of PostgreSQL %i', { timeout: 180_000 }, (_major, binDir) => {
  test('is what an archive_command is given, is no burden at a shutdown, and goes on after a promotion', async () => {
    await using witness = await makeTempDirectory();
    await chmod(witness.path, 0o777);
    await using cluster = await Cluster.start({
      binDir,
      ...(newest && { clientDir: newest.binDir }),
      initdb: ['--wal-segsize=1'],
      settings: { archive_mode: 'on', archive_command: `cp %p ${witness.path}/%f`, jit: 'off' },
    });
    const store = new RefusingStore(new MemoryStore());
    const archived = new Archived(store, await walFolder(cluster), MIB);
    await using receiving = startReceiving(cluster, [store]);
    await receiving.streams();
    await cluster.sql(load(3_000));
    await cluster.sql('select pg_switch_wal()');
    await cluster.sql(load(50));
    await receiving.archives(await flushedLsn(cluster));
    await vi.waitUntil(async () => (await archived.expectAsWitness(witness.path)) >= 3, WAIT);
    store.refuses = true;
    await cluster.sql(load(50_000));
    await vi.waitUntil(() => receiving.receiver.state().failingStores.size > 0, WAIT);
    const begun = performance.now();
    await cluster.stop('fast');
    expect(performance.now() - begun).toBeLessThan(10_000);
    await cluster.start();
    store.refuses = false;
    await using standby = await cluster.standby({ archive_mode: 'off' });
    await receiving.archives(await flushedLsn(cluster));
    await archived.onlyStretch();
    await receiving.stop();
    // Another receiver takes the standby, which is promoted under it.
    await using second = startReceiving(standby, [store], { slot: 'second' });
    await second.streams();
    await cluster.sql(load(100));
    await second.archives(await flushedLsn(cluster));
    await standby.promote();
    await standby.sql(load(1_200));
    const end = await flushedLsn(standby);
    await second.archives(end);
    expect((await archived.onlyStretch(2)).to).toBeGreaterThanOrEqual(end);
  });
});
