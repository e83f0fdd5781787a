import { writeFile } from 'node:fs/promises';
import { describe, expect, test, vi } from 'vitest';
import { fileStorage, filler, urlOf } from '../support/backups.ts';
import { startDaemon, type TestDaemon } from '../support/daemon.ts';
import { postgresFacts } from '../support/facts.ts';
import { createDatabase } from '../support/postgres.ts';
import { query, startPrometheus } from '../support/prometheus.ts';
import { startTcpProxy } from '../support/tcp-proxy.ts';
import { makeTempDirectory } from '../support/temp.ts';

const POLL = { timeout: 240_000, interval: 200 };

async function portOf(daemon: TestDaemon): Promise<number> {
  const [listening] = await daemon.until('http.listening');
  return Number(listening?.['port']);
}

async function scrape(daemon: TestDaemon): Promise<string> {
  return (await fetch(`http://127.0.0.1:${await portOf(daemon)}/metrics`)).text();
}

/** The value of the one series that begins so; undefined if there is none. */
function valueOf(text: string, series: string): number | undefined {
  const line = text.split('\n').find((each) => each.startsWith(series));
  return line === undefined ? undefined : Number(line.split(' ').at(-1));
}

describe.concurrent('the metrics of a daemon', () => {
  test('are scraped by Prometheus, and say what its run came to', async () => {
    await using storage = await fileStorage();
    await using database = await createDatabase({ name: 'scraped', sql: filler(1) });
    const began = Date.now();
    await using daemon = startDaemon({
      ...storage.env,
      DATABASE_URL: database.url,
      BACKUP_NAME: 'shop',
      BACKUP_INTERVAL: '1h',
    });
    await using prometheus = await startPrometheus(await portOf(daemon));
    const [success] = await query(prometheus.url, 'pgark_backup_last_success_timestamp_seconds');
    expect(success?.metric).toMatchObject({
      source: 'shop',
      database: database.name,
      format: 'plain',
      storage: 'default',
    });
    expect(Number(success?.value[1]) * 1_000).toBeGreaterThanOrEqual(began);
    const [runs] = await query(prometheus.url, 'pgark_runs_total{kind="backup",result="succeeded"} > 0');
    expect(runs?.value[1]).toBe('1');
    const [overdue] = await query(prometheus.url, 'pgark_backup_overdue');
    expect(overdue?.value[1]).toBe('0');
    const [up] = await query(prometheus.url, 'up{job="pgark"}');
    expect(up?.value[1]).toBe('1');
    await daemon.stop();
  });

  test('say how far a run is that goes on, also after the configuration was read again', async () => {
    await using folder = await makeTempDirectory();
    await using storage = await fileStorage(folder.join('backups'));
    await using database = await createDatabase({ sql: filler(8) });
    await using proxy = await startTcpProxy(postgresFacts());
    await writeFile(
      folder.join('pgark.yaml'),
      `version: 1
storages: { near: { type: file, path: backups } }
databases:
  shop: { url: ${JSON.stringify(urlOf(database.name, { port: proxy.port }))}, jobs: { often: { format: plain, schedule: 1h, compression: none } } }
`,
    );
    await using daemon = startDaemon({}, ['--config', 'pgark.yaml'], { cwd: folder.path });
    await proxy.holdAfter(4 * 2 ** 20);
    const hasRecord = async (): Promise<boolean> =>
      (await storage.keys()).some((key) => key.startsWith('.pgark/runs/'));
    await vi.waitUntil(hasRecord, POLL);
    // Storages are read again then, at once.
    await daemon.kill('SIGHUP');
    const ratio = async (): Promise<number | undefined> =>
      valueOf(await scrape(daemon), 'pgark_run_progress_ratio{kind="backup",source="shop",');
    await vi.waitUntil(async () => (await ratio()) !== undefined, POLL);
    expect(await ratio()).toBeGreaterThan(0);
    expect(await ratio()).toBeLessThanOrEqual(1);
    proxy.release();
    await daemon.until('job.succeeded');
    await vi.waitUntil(async () => (await ratio()) === undefined, POLL);
    await daemon.stop();
  });

  test('give a backup that was never made no further time because the configuration was read again', async () => {
    await using folder = await makeTempDirectory();
    const source = (name: string): string =>
      `  ${name}: { url: ${JSON.stringify(urlOf('postgres', { port: 1 }))}, expect: { max_age: 5s }, jobs: { yearly: { schedule: "0 0 1 1 *" } } }\n`;
    const configure = (names: readonly string[]): Promise<void> =>
      writeFile(
        folder.join('pgark.yaml'),
        `version: 1\nstorages: { near: { type: file, path: backups } }\ndatabases:\n${names.map(source).join('')}`,
      );
    await configure(['shop']);
    await using daemon = startDaemon({}, ['--config', 'pgark.yaml'], { cwd: folder.path });
    const overdue = (text: string, name: string): number | undefined =>
      valueOf(text, `pgark_backup_overdue{source="${name}",`);
    await vi.waitUntil(async () => overdue(await scrape(daemon), 'shop') === 1, POLL);
    await configure(['shop', 'other']);
    await daemon.kill('SIGHUP');
    let text = '';
    await vi.waitUntil(
      async () => {
        text = await scrape(daemon);
        return overdue(text, 'other') !== undefined;
      },
      { ...POLL, interval: 20 },
    );
    expect(overdue(text, 'shop')).toBe(1);
    await daemon.stop();
  });
});
