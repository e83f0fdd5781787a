import { createServer } from 'node:net';
import { describe, expect, test } from 'vitest';
import { MemoryStore } from '../../test/support/memory-store.ts';
import { type Logger, silentLogger } from '../common/log.ts';
import { silentTracing } from '../common/tracer.ts';
import { loadConfig } from '../config/load.ts';
import type { Config } from '../config/model.ts';
import { operationContext } from '../operations/context.ts';
import { runDaemon } from './daemon.ts';

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
async function takenPort(): Promise<{ readonly port: number } & AsyncDisposable> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('it listens on a port');
  return {
    port: address.port,
    [Symbol.asyncDispose]: () => new Promise((resolve) => server.close(() => resolve())),
  };
}

/** A daemon that reads one configuration at its start and another at a reload, which fails, and then ends. */
async function failedReload(change: (config: Config) => Config): Promise<{ stores: Opened; tracings: Opened }> {
  const config = await loadConfig({
    env: {
      DATABASE_URL: 'postgres://u:p@127.0.0.1:1/shop',
      BACKUP_STORAGE: 'file:///nowhere',
      BACKUP_SCHEDULE: '0 0 29 2 *',
      PGARK_LISTEN: '127.0.0.1:0',
    },
    cwd: '/',
  });
  const configs = [config, change(config)];
  const stores = new Opened();
  const tracings = new Opened();
  const stop = new AbortController();
  const failed = Promise.withResolvers<void>();
  const logger: Logger = {
    ...silentLogger,
    error: (event) => {
      if (event === 'daemon.reload_failed') failed.resolve();
    },
    child: () => logger,
  };
  const running = runDaemon({
    readConfig: () => Promise.resolve(configs.shift() ?? config),
    adapters: {
      openStore: () => Promise.resolve(stores.add(new MemoryStore())),
      sealerOf: () => Promise.resolve(undefined),
      openTracing: () => tracings.add({ ...silentTracing }),
    },
    contextOf: (_, signal) => operationContext({ logger, signal }),
    signal: stop.signal,
    onReload: (listener) => {
      listener();
      return () => {};
    },
    environment: {},
  });
  await failed.promise;
  stop.abort();
  await running;
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
