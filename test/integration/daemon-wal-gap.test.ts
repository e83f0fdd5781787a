import { writeFile } from 'node:fs/promises';
import { expect, test, vi } from 'vitest';
import { MIB } from '../../src/common/bytes.ts';
import { systemClock } from '../../src/common/clock.ts';
import { PgarkError } from '../../src/common/errors.ts';
import type { SourceConfig } from '../../src/config/model.ts';
import { putTimelineHistory } from '../../src/formats/wal/store-piece.ts';
import { operationContext } from '../../src/operations/context.ts';
import { recoveryTimelines } from '../../src/operations/wal/recovery-window.ts';
import { formatLsn } from '../../src/postgres/wal/lsn.ts';
import { Cluster } from '../support/cluster.ts';
import { configIn, startDaemonHere } from '../support/daemon-here.ts';
import { startReceiver, status } from '../support/http-receiver.ts';
import { MemoryStore } from '../support/memory-store.ts';
import { RefusingStore } from '../support/refusing-store.ts';
import { makeTempDirectory } from '../support/temp.ts';
import { flushedLsn, load, walFolder } from '../support/wal-receiving.ts';

const WAIT = { timeout: 200_000, interval: 100 };

/** Nobody waits for long here, but for what takes minutes: whatever moves nothing for so long is given up. */
const clock = {
  ...systemClock,
  sleep: (ms: number, signal?: AbortSignal) => systemClock.sleep(ms > 60_000 ? ms : Math.min(ms, 300), signal),
};

/** Less than anybody may configure, so that it is soon used up. */
function withBudget(source: SourceConfig): SourceConfig {
  return source.wal === undefined ? source : { ...source, wal: { ...source.wal, slotBudgetBytes: 4 * MIB } };
}

test('a server whose slot falls behind its budget goes on: the slot goes, the alarm is out, a new base backup follows', {
  timeout: 240_000,
}, async () => {
  await using cluster = await Cluster.start({
    initdb: ['--wal-segsize=1'],
    settings: { max_wal_size: '2MB', min_wal_size: '2MB' },
  });
  await using directory = await makeTempDirectory();
  await using receiver = await startReceiver([status(200)]);
  await writeFile(
    directory.join('pgark.yaml'),
    `
version: 1
server: { listen: 127.0.0.1:0 }
storages: { local: { type: file, path: unused } }
notifications: { ops: { type: webhook, url: "${receiver.origin}/hook", on: [wal_gap, recovery] } }
defaults: { notify: [ops] }
databases:
  shop:
    url: ${cluster.url}
    wal: { flush: 1s, slot_budget: 64MiB }
    jobs: { full: { format: physical } }
`,
  );
  const store = new RefusingStore(new MemoryStore());
  const { events, ended, ...daemon } = startDaemonHere({
    readConfig: configIn(directory.path, withBudget),
    clock,
    openStore: () => Promise.resolve(store),
  });
  /** Fails at once where the daemon does not even begin. */
  const until = async (condition: () => Promise<boolean>): Promise<void> => {
    const tooSoon = ended.then(() => Promise.reject(new Error('the daemon has ended')));
    await Promise.race([tooSoon, vi.waitUntil(condition, WAIT)]);
  };
  const windows = async () => {
    const [newest] = await recoveryTimelines({ store, source: 'shop' }, operationContext());
    return newest?.windows ?? [];
  };
  const count = (event: string): number => events.filter((each) => each === event).length;
  /** The server goes on, whatever becomes of its slot, and lets go of what nobody keeps it from. */
  const dropSlot = async (): Promise<void> => {
    const before = count('wal.slot_dropped');
    store.refuses = true;
    await until(async () => {
      await cluster.sql(`${load(2_000)}; checkpoint`);
      return count('wal.slot_dropped') > before;
    });
    await cluster.sql(`${load(6_000)}; checkpoint`);
  };
  const told = (): readonly (string | undefined)[] =>
    receiver.requests.map(({ body }) => {
      const { data } = JSON.parse(body) as {
        readonly data: { readonly event: string; readonly error?: { code: string } };
      };
      return data.error?.code ?? data.event;
    });
  try {
    await until(async () => {
      await cluster.sql(load(50));
      return (await windows()).length === 1;
    });
    // A copy of the server was promoted, and archives where this one does: what is received counts, and not the newest timeline.
    const history = Buffer.from(`1\t${formatLsn(await flushedLsn(cluster))}\tno recovery target specified\n`);
    await putTimelineHistory({ store, folder: await walFolder(cluster) }, '00000002.history', history);
    await dropSlot();
    // It makes no new one before what it has is stored: nothing is dropped again.
    expect(events).not.toContain('wal.base_wanted');
    store.refuses = false;
    await until(async () => {
      await cluster.sql(load(10));
      return (await windows()).at(-1)?.bases.length === 1;
    });
    expect(events).toContain('wal.gap');
    expect(daemon.of('wal.timelines').map(({ message }) => message)).toContainEqual(
      expect.stringMatching(/^timeline 2, the newest .*: the WAL of timeline 1 is received/),
    );
    const found = await windows();
    expect(found.map(({ bases }) => bases.length)).toEqual([0, 1]);
    const [timeline] = await recoveryTimelines({ store, source: 'shop' }, operationContext());
    expect(timeline?.wal.gaps).toEqual([{ from: found[0]?.to, to: found[1]?.from }]);
    // One will do.
    expect(count('wal.base_wanted')).toBe(1);
    await until(async () => told().includes('recovery'));
    expect(told()).toEqual(['wal-slot', 'wal-gap', 'recovery']);
    // The next time is told as the first one was.
    await dropSlot();
    store.refuses = false;
    await until(async () => told().length === 5);
    expect(told().slice(3)).toEqual(['wal-slot', 'wal-gap']);
  } finally {
    await daemon.stop();
  }
});

test('a slot is watched also while no receiver can be made, and goes before the server’s disk is full', {
  timeout: 240_000,
}, async () => {
  await using cluster = await Cluster.start({ initdb: ['--wal-segsize=1'] });
  await using directory = await makeTempDirectory();
  await writeFile(
    directory.join('pgark.yaml'),
    `
version: 1
server: { listen: 127.0.0.1:0 }
storages: { local: { type: file, path: unused } }
databases:
  shop:
    url: ${cluster.url}
    wal: { slot_budget: 64MiB }
`,
  );
  const { events, ...daemon } = startDaemonHere({
    readConfig: configIn(directory.path, withBudget),
    clock,
    openStore: () => Promise.resolve(new MemoryStore()),
    sealerOf: () => Promise.reject(new PgarkError('key-missing', 'the test has no key')),
  });
  try {
    await cluster.sql(`select pg_create_physical_replication_slot('pgark_shop', true)`);
    await cluster.sql(load(3_200));
    await vi.waitUntil(() => events.includes('wal.slot'), WAIT);
    expect(events).toContain('wal.not_begun');
    expect(events).not.toContain('wal.slot_dropped');
    await cluster.sql(load(2_000));
    await vi.waitUntil(() => events.includes('wal.slot_dropped'), WAIT);
    expect(await cluster.value('select count(*) from pg_replication_slots')).toBe('0');
    // Where the server cannot be asked, that is told.
    await cluster.stop();
    await vi.waitUntil(() => events.includes('wal.slot_unwatched'), WAIT);
    expect(daemon.of('wal.slot_unwatched')[0]?.message).toContain('pgark_shop of shop');
  } finally {
    await daemon.stop();
  }
});
