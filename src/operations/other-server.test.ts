import { describe, expect, test } from 'vitest';
import { ManualClock } from '../../test/support/manual-clock.ts';
import { MemoryStore } from '../../test/support/memory-store.ts';
import { seedBackups } from '../../test/support/seed.ts';
import { systemClock } from '../common/clock.ts';
import { type LogFields, silentLogger } from '../common/log.ts';
import { systemRandom } from '../common/random.ts';
import { keys } from '../repository/keys.ts';
import { Repository } from '../repository/repository.ts';
import { areOtherServers, warnOfOtherServer } from './other-server.ts';

const times = ['2026-11-18T02:00:00Z', '2026-11-20T02:00:00Z', '2026-11-19T02:00:00Z'].map((time) => new Date(time));
const shop = { source: 'shop', database: 'shop' };
const here = { host: 'prod', port: 5433, systemIdentifier: '2' };

/** What is warned of before a backup of `here` into a storage with backups of the servers given. */
async function warnings(
  seeds: readonly { readonly database?: string; readonly systemIdentifier?: string }[],
  damage?: (store: MemoryStore, newestKey: string) => Promise<unknown>,
): Promise<{ event: string; message: string; fields: LogFields | undefined }[]> {
  const store = new MemoryStore();
  for (const [index, { database = 'shop', systemIdentifier }] of seeds.entries()) {
    const server = { host: `host-${index}`, ...(systemIdentifier === undefined ? {} : { systemIdentifier }) };
    const seeded = await seedBackups(store, {
      source: database,
      database,
      times: times.slice(index, index + 1),
      server,
    });
    for (const { id } of seeded) await damage?.(store, keys.manifest(database, database, id));
  }
  const said: { event: string; message: string; fields: LogFields | undefined }[] = [];
  const logger = {
    ...silentLogger,
    warning: (event: string, message: string, fields?: LogFields) => void said.push({ event, message, fields }),
  };
  const repository = new Repository(store, { clock: systemClock, random: systemRandom });
  const { signal } = new AbortController();
  await warnOfOtherServer(repository, { ...shop, server: here }, { logger, signal });
  return said;
}

describe('a backup whose newest predecessor', () => {
  test('is of another server is warned of, with both servers and what to do', async () => {
    const [warning, ...more] = await warnings([
      { systemIdentifier: '2' },
      { systemIdentifier: '1' },
      { systemIdentifier: '2', database: 'shop-eu' },
    ]);
    expect(more).toEqual([]);
    expect(warning).toMatchObject({
      event: 'source.other_server',
      fields: { other: { host: 'host-1', systemIdentifier: '1' }, server: here },
    });
    for (const words of ['host-1:', 'prod:5433', 'BACKUP_NAME', 'pg_upgrade'])
      expect(warning?.message).toContain(words);
  });

  test.each([
    ['does not exist', []],
    ['is of the same server, whatever came before', [{ systemIdentifier: '1' }, { systemIdentifier: '2' }]],
    ['is of a server that said no identifier', [{ systemIdentifier: '1' }, {}]],
    ['is one of another database', [{ systemIdentifier: '1', database: 'shop-eu' }]],
  ])('%s says nothing', async (_what, seeds) => {
    expect(await warnings(seeds)).toEqual([]);
  });

  test.each([
    ['is of the future by all clocks is passed over', new Date(times[1] ?? 0), []],
    ['is of the future by this machine’s clock alone is looked at', new Date('2027-02-18T03:00:00Z'), ['1']],
  ])('%s', async (_what, there, others) => {
    const store = new MemoryStore({ clock: { now: () => there } });
    await seedBackups(store, { ...shop, times, server: { systemIdentifier: '2' } });
    await seedBackups(store, { ...shop, times: [new Date('2027-02-18T02:00:00Z')], server: { systemIdentifier: '1' } });
    const said: unknown[] = [];
    const logger = {
      ...silentLogger,
      warning: (_event: string, _message: string, fields?: LogFields) => void said.push(fields),
    };
    const clock = new ManualClock(new Date('2026-11-20T03:00:00Z'));
    const repository = new Repository(store, { clock, random: systemRandom });
    await warnOfOtherServer(repository, { ...shop, server: here }, { logger, signal: new AbortController().signal });
    expect(said).toMatchObject(others.map((systemIdentifier) => ({ other: { systemIdentifier } })));
  });

  test('cannot be read is no reason to fail', async () => {
    const said = await warnings([{ systemIdentifier: '1' }], (store, key) => store.putSmall(key, Buffer.from('{')));
    expect(said).toMatchObject([{ event: 'source.other_server_unknown' }]);
  });
});

test('servers differ by their identifiers alone, and only if both are known', () => {
  expect(areOtherServers({ systemIdentifier: '1' }, { systemIdentifier: '2' })).toBe(true);
  expect(areOtherServers({ systemIdentifier: '1' }, { systemIdentifier: '1' })).toBe(false);
  expect(areOtherServers({}, { systemIdentifier: '1' })).toBe(false);
});
