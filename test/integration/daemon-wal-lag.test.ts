import { writeFile } from 'node:fs/promises';
import { expect, test, vi } from 'vitest';
import { type Clock, systemClock } from '../../src/common/clock.ts';
import { PgarkError } from '../../src/common/errors.ts';
import { systemRandom } from '../../src/common/random.ts';
import { loadConfig } from '../../src/config/load.ts';
import { healthcheckReport } from '../../src/observability/health.ts';
import { examineProtection } from '../../src/service/protection.ts';
import { Cluster } from '../support/cluster.ts';
import { configIn, startDaemonHere } from '../support/daemon-here.ts';
import { FaultyStore } from '../support/faulty-store.ts';
import { startReceiver, status } from '../support/http-receiver.ts';
import { MemoryStore } from '../support/memory-store.ts';
import { makeTempDirectory } from '../support/temp.ts';
import { load } from '../support/wal-receiving.ts';

const WAIT = { timeout: 120_000, interval: 100 };
const SIXTEEN_MINUTES_MS = 16 * 60_000;

/** What is looked at each minute, or every five, is looked at each second; and minutes pass when the test says so. */
class HurriedClock implements Clock {
  #passedMs = 0;

  now(): Date {
    return new Date(systemClock.now().getTime() + this.#passedMs);
  }

  monotonicMs(): number {
    return systemClock.monotonicMs() + this.#passedMs;
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return systemClock.sleep(ms === 60_000 || ms === 300_000 ? 1_000 : ms, signal);
  }

  pass(ms: number): void {
    this.#passedMs += ms;
  }
}

test('WAL that a storage refuses makes health bad and is told once, and both end when the storage takes it again', {
  timeout: 240_000,
}, async () => {
  await using cluster = await Cluster.start({ initdb: ['--wal-segsize=1'] });
  await using directory = await makeTempDirectory();
  await using receiver = await startReceiver([status(200)]);
  await writeFile(
    directory.join('pgark.yaml'),
    `
version: 1
server: { listen: 127.0.0.1:0, stop_grace: 1s }
storages: { local: { type: file, path: unused } }
notifications: { ops: { type: webhook, url: "${receiver.origin}/hook", on: [wal_lag, wal_slot, wal_gap, recovery] } }
defaults: { notify: [ops] }
databases:
  shop:
    url: ${cluster.url}
    wal: { flush: 1s }
`,
  );
  let refuses = false;
  const store = new FaultyStore(new MemoryStore(), {
    before: ({ method, key }) => {
      const isWal = key.startsWith('shop/') || key.includes('/wal/');
      if (refuses && method.startsWith('put') && isWal) throw new PgarkError('store-access-denied', 'the test refuses');
    },
  });
  const clock = new HurriedClock();
  const openStore = () => Promise.resolve(store);
  const daemon = startDaemonHere({ readConfig: configIn(directory.path), clock, openStore });
  const health = async (): Promise<{ readonly status: number; readonly text: string }> => {
    const response = await fetch(`http://127.0.0.1:${daemon.port()}/health`);
    return { status: response.status, text: await response.text() };
  };
  const untilHealth = async (wanted: number, words: RegExp): Promise<void> => {
    let last: unknown;
    const isSo = async (): Promise<boolean> => {
      const found = await health();
      last = found;
      return found.status === wanted && words.test(found.text);
    };
    const waiting = vi.waitUntil(isSo, WAIT);
    await waiting.catch((error: unknown) => Promise.reject(new Error(JSON.stringify(last), { cause: error })));
  };
  /** What a command finds that asks no daemon. */
  const checked = async (at: Clock): Promise<string> => {
    const config = await loadConfig({ file: 'pgark.yaml', env: {}, cwd: directory.path });
    const world = { clock: at, random: systemRandom, signal: new AbortController().signal, openStore };
    const { state } = await examineProtection(config, [...config.databases.values()], world);
    return healthcheckReport(state, state.at).text;
  };
  const told = (): readonly string[] =>
    receiver.requests.map(({ body }) => {
      const { data } = JSON.parse(body) as { readonly data: { readonly event: string; readonly of?: string } };
      return [data.event, ...(data.of === undefined ? [] : [data.of])].join(' of ');
    });
  try {
    const tooSoon = daemon.ended.then(() => Promise.reject(new Error('the daemon has ended')));
    await Promise.race([tooSoon, vi.waitUntil(() => daemon.events.includes('wal.streaming'), WAIT)]);
    tooSoon.catch(() => undefined);
    await cluster.sql(load(50));
    await untilHealth(200, /^healthy: .*WAL archived up to/);
    await vi.waitUntil(async () => /^healthy: .*WAL archived up to/.test(await checked(systemClock)), WAIT);

    refuses = true;
    await cluster.sql(load(50));
    await vi.waitUntil(() => daemon.events.includes('wal.store_failed'), WAIT);
    clock.pass(SIXTEEN_MINUTES_MS);
    const sentence =
      /WAL of shop: nothing committed since .* is known to be archived \(1[67] min .*local: the test refuses/;
    await untilHealth(503, sentence);
    expect(await checked(clock)).toMatch(/^unhealthy\n✖ WAL of shop: nothing committed since /);
    await vi.waitUntil(() => told().length > 0, WAIT);
    expect(receiver.requests[0]?.body).toMatch(
      /All that was committed until .* is archived; what came after it is on the/,
    );
    // It is looked at several times more.
    const looked = systemClock.monotonicMs() + 5_000;
    await vi.waitUntil(() => systemClock.monotonicMs() > looked, WAIT);
    expect(told()).toEqual(['wal_lag']);
    // A reload forgives nothing.
    daemon.reload();
    await vi.waitUntil(() => daemon.events.includes('daemon.reloaded'), WAIT);
    await vi.waitUntil(() => daemon.events.filter((event) => event === 'wal.streaming').length === 2, WAIT);
    await untilHealth(503, /WAL of shop: nothing committed since .* is known to be archived \(1[67] min/);

    refuses = false;
    await untilHealth(200, /^healthy: /);
    await vi.waitUntil(() => told().length > 1, WAIT);
    expect(told()).toEqual(['wal_lag', 'recovery of wal_lag']);
    await vi.waitUntil(async () => (await checked(systemClock)).startsWith('healthy: '), WAIT);
  } finally {
    await daemon.stop();
  }
});
