import { writeFile } from 'node:fs/promises';
import { expect, test, vi } from 'vitest';
import { MIB } from '../../src/common/bytes.ts';
import { systemClock } from '../../src/common/clock.ts';
import { systemRandom } from '../../src/common/random.ts';
import { FileStore } from '../../src/storage/file/file-store.ts';
import { Cluster } from '../support/cluster.ts';
import { startDaemon } from '../support/daemon.ts';
import { makeTempDirectory } from '../support/temp.ts';
import { Archived, flushedLsn, load, walFolder } from '../support/wal-receiving.ts';

const POLL = { timeout: 200_000, interval: 100 };

test('a daemon receives WAL as configured, says how far it is, and goes on after a reload', async () => {
  await using cluster = await Cluster.start({ initdb: ['--wal-segsize=1'] });
  await using directory = await makeTempDirectory();
  const file = directory.join('pgark.yaml');
  const configuration = (flush: string): string => `
version: 1
server: { listen: 127.0.0.1:0 }
storages: { local: { type: file, path: ${directory.join('store')} } }
databases:
  shop:
    url: ${cluster.url}
    wal: { flush: ${flush} }
`;
  await writeFile(file, configuration('1s'));
  await using daemon = startDaemon({ PGARK_CONFIG: file });
  await daemon.until('wal.streaming');
  await cluster.sql(load(2_500));
  const [listening] = await daemon.until('http.listening');
  const scrape = async (): Promise<string> =>
    (await fetch(`http://127.0.0.1:${Number(listening?.['port'])}/metrics`)).text();
  const store = new FileStore({ root: directory.join('store'), clock: systemClock, random: systemRandom });
  const archived = new Archived(store, await walFolder(cluster), MIB);
  const reaches = async (end: bigint): Promise<boolean> => {
    const ranges = (await archived.index()).ranges.get(1) ?? [];
    return (ranges.at(-1)?.to ?? 0n) >= end;
  };
  const end = await flushedLsn(cluster);
  await vi.waitUntil(() => reaches(end), POLL);
  let metrics = '';
  const told = [
    /^pgark_wal_lag_seconds\{source="shop"\} \d/m,
    /^pgark_pitr_latest_timestamp_seconds\{source="shop"\} \d{10}/m,
    /^pgark_wal_gaps\{source="shop"\} 0$/m,
    /^pgark_slot_retained_bytes\{source="shop"\} \d+$/m,
  ];
  await vi.waitUntil(async () => {
    metrics = await scrape();
    return told.every((line) => line.test(metrics));
  }, POLL);
  // No base backup: nothing can be recovered yet, and it does not say so.
  expect(metrics).not.toContain('pgark_pitr_earliest_timestamp_seconds{');
  await writeFile(file, configuration('2s'));
  await daemon.kill('SIGHUP');
  await daemon.until('daemon.reloaded');
  await cluster.sql(load(500));
  const later = await flushedLsn(cluster);
  await vi.waitUntil(() => reaches(later), POLL);
  await daemon.stop();
  await archived.onlyStretch();
});
