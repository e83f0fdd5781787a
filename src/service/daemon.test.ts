import { createServer } from 'node:net';
import { describe, expect, test } from 'vitest';
import { startDaemonHere } from '../../test/support/daemon-here.ts';
import { FaultyStore } from '../../test/support/faulty-store.ts';
import { ManualClock } from '../../test/support/manual-clock.ts';
import { MemoryStore } from '../../test/support/memory-store.ts';
import { systemRandom } from '../common/random.ts';
import { silentTracing } from '../common/tracer.ts';
import { loadConfig } from '../config/load.ts';
import type { Config } from '../config/model.ts';
import { freePort } from '../postgres/server/free-port.ts';
import { claimDue, endClaim } from './claims.ts';
import type { Throttle } from '../pipeline/throttle.ts';

/** What was opened and is still to be closed. */
class Opened {
  readonly open = new Set<object>();
  count = 0;

  add<T extends object>(thing: T): T & { close(): Promise<void> } {
    this.count += 1;
    const closing = Object.assign(thing, {
      close: () => {
        this.open.delete(closing);
        return Promise.resolve();
      },
    });
    this.open.add(closing);
    return closing;
  }
}

/** A port that somebody listens on. */
async function takenPort(host = '127.0.0.1'): Promise<{ readonly port: number } & AsyncDisposable> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, host, resolve));
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('it listens on a port');
  return {
    port: address.port,
    [Symbol.asyncDispose]: () => new Promise((resolve) => server.close(() => resolve())),
  };
}

/** A daemon's configuration of one database, by the environment. */
function configOf(env: Readonly<Record<string, string>> = {}): Promise<Config> {
  return loadConfig({
    env: {
      DATABASE_URL: 'postgres://u:p@127.0.0.1:1/shop',
      BACKUP_STORAGE: 'file:///nowhere',
      BACKUP_SCHEDULE: '0 0 29 2 *',
      PGARK_LISTEN: '127.0.0.1:0',
      ...env,
    },
    cwd: '/',
  });
}

/** A daemon that reads one configuration at its start and another at a reload, which fails, and then ends. */
async function failedReload(change: (config: Config) => Config): Promise<{ stores: Opened; tracings: Opened }> {
  const config = await configOf();
  const configs = [config, change(config)];
  const stores = new Opened();
  const tracings = new Opened();
  const daemon = startDaemonHere({
    readConfig: () => Promise.resolve(configs.shift() ?? config),
    openStore: () => Promise.resolve(stores.add(new MemoryStore())),
    openTracing: () => tracings.add({ ...silentTracing }),
  });
  daemon.reload();
  await daemon.next('daemon.reload_failed');
  await daemon.stop();
  return { stores, tracings };
}

describe('a reload that fails', () => {
  test('closes what the configuration that is not applied had opened', async () => {
    const { stores, tracings } = await failedReload((config) => ({ ...config, timezone: 'Nowhere/At_All' }));
    expect([stores.count, tracings.count]).toEqual([2, 2]);
    expect([stores.open.size, tracings.open.size]).toEqual([0, 0]);
  });

  test('over an address that is taken leaves nothing open either', async () => {
    await using taken = await takenPort();
    const listen = { host: '127.0.0.1', port: taken.port };
    const { tracings } = await failedReload((config) => ({ ...config, server: { ...config.server, listen } }));
    expect(tracings.count).toBe(2);
    expect(tracings.open.size).toBe(0);
  });
});

describe('a reload that moves what listens to another address', () => {
  /** A daemon at a port of 127.0.0.1 that is to move to another host. Gives what became of that, and who answers there and here. */
  async function move(host: string, options: { readonly isTaken?: boolean; readonly timezone?: string } = {}) {
    const taken = options.isTaken === true ? await takenPort(host) : undefined;
    const port = taken?.port ?? (await freePort());
    const config = await configOf({ PGARK_LISTEN: `127.0.0.1:${port}` });
    const { timezone = config.timezone } = options;
    const configs = [config, { ...config, timezone, server: { ...config.server, listen: { host, port } } }];
    const daemon = startDaemonHere({
      readConfig: () => Promise.resolve(configs.shift() ?? config),
      openStore: () => Promise.resolve(new MemoryStore()),
    });
    daemon.reload();
    const { event, message } = await daemon.next('daemon.reloaded', 'daemon.reload_failed');
    const answers = async (at: string): Promise<boolean> =>
      fetch(`http://${at}:${port}/healthz`).then(
        ({ ok }) => ok,
        () => false,
      );
    const answering = { here: await answers('127.0.0.1'), there: options.isTaken !== true && (await answers(host)) };
    await daemon.stop();
    await taken?.[Symbol.asyncDispose]();
    return { event, message, answering };
  }

  test('of the same port is applied', async () => {
    expect(await move('0.0.0.0')).toMatchObject({ event: 'daemon.reloaded', answering: { here: true, there: true } });
    expect(await move('127.0.0.2')).toMatchObject({
      event: 'daemon.reloaded',
      answering: { here: false, there: true },
    });
  });

  test('goes back where it was if the rest cannot be applied', async () => {
    expect(await move('127.0.0.2', { timezone: 'Nowhere/At_All' })).toMatchObject({
      event: 'daemon.reload_failed',
      answering: { here: true, there: false },
    });
  });

  test('stays where it was if the same port is another program’s there', async () => {
    const { event, message, answering } = await move('127.0.0.2', { isTaken: true });
    expect(event).toBe('daemon.reload_failed');
    expect(message).toContain('another program listens there');
    expect(answering.here).toBe(true);
  });
});

describe('a storage that comes back after the start', () => {
  /**
   * Host and storage lost their power before the job's time and have it back after: the host at ten past, the storage two
   * minutes later. Gives what is said of a missed run, and when, if anything is within another two.
   */
  async function afterPowerCut(said: { readonly reloads?: boolean }) {
    const at = (minute: number): Date => new Date(Date.UTC(2026, 10, 20, 2, minute));
    const clock = new ManualClock(at(10));
    const memory = new MemoryStore({ clock });
    const night = { source: 'shop', job: 'backup', dueAt: new Date('2026-11-19T02:00:00Z'), now: clock.now() };
    const who = { host: 'tester', pid: 1, random: systemRandom };
    const claim = await claimDue(memory, { ...night, ...who, spacingMs: 1, resumes: false });
    if (claim.kind === 'claimed') await endClaim(memory, { ...night, token: claim.token });
    const store = new FaultyStore(memory, {
      before: () => (clock.now() < at(12) ? Promise.reject(new Error('no route')) : undefined),
    });
    const config = await configOf({ BACKUP_SCHEDULE: '0 2 * * *' });
    const daemon = startDaemonHere({
      readConfig: () => Promise.resolve(config),
      openStore: () => Promise.resolve(Object.assign(store, { close: () => Promise.resolve() })),
      clock,
    });
    await daemon.next('schedule.next');
    if (said.reloads === true) {
      daemon.reload();
      await daemon.next('daemon.reloaded');
    }
    const found = () => daemon.of('schedule.late')[0];
    while (found() === undefined && clock.now() < at(14)) await clock.advance(10_000);
    const seen = found();
    await daemon.stop();
    return seen && { ...seen, at: clock.now() };
  }

  test.each([
    ['has the missed run made up for', {}],
    ['has it so over a reload meanwhile', { reloads: true }],
  ])('%s', async (_what, said) => {
    const late = await afterPowerCut(said);
    expect(late?.fields).toMatchObject({ job: 'shop/backup', dueAt: '2026-11-20T02:00:00.000Z' });
    expect(late?.at.getTime()).toBeLessThanOrEqual(Date.UTC(2026, 10, 20, 2, 13, 10));
  });
});

test('a limit of bandwidth is one for the process: configurations that follow one another share it, and it changes with them', async () => {
  const config = await configOf();
  const rates = [1_000, 2_000, undefined];
  const throttles: (Throttle | undefined)[] = [];
  const clock = new ManualClock(new Date('2026-11-20T02:00:00Z'));
  const daemon = startDaemonHere({
    readConfig: () => {
      const rate = rates.shift();
      return Promise.resolve({ ...config, ...(rate === undefined ? {} : { bandwidthBytesPerSecond: rate }) });
    },
    openStore: (_storage, _logger, throttle) => {
      if (throttles.at(-1) !== throttle || throttles.length === 0) throttles.push(throttle);
      return Promise.resolve(new MemoryStore({ clock }));
    },
    clock,
  });
  const reloaded = async (): Promise<void> => {
    daemon.reload();
    await daemon.next('daemon.reloaded');
    await clock.advance(1_000);
  };
  await daemon.next('schedule.next');
  await clock.advance(1_000);
  const [throttle] = throttles;
  let hasPassed = false;
  const passing = throttle?.pass(4_000).then(() => (hasPassed = true));
  await clock.advance(1_000);
  await reloaded();
  expect(hasPassed).toBe(false);
  await clock.advance(500);
  await passing;
  expect(throttles).toEqual([throttle]);
  const another = throttle?.pass(1_000_000);
  await reloaded();
  await another;
  expect(throttles).toEqual([throttle, undefined]);
  await daemon.stop();
});
