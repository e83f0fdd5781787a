import { describe, expect, test } from 'vitest';
import { silentLogger } from '../common/log.ts';
import { systemRandom } from '../common/random.ts';
import { ManualClock } from '../../test/support/manual-clock.ts';
import { MemoryStore } from '../../test/support/memory-store.ts';
import { Place, TERM_MS } from '../../test/support/repository-place.ts';
import type { ConnectionParameters } from '../postgres/client/connection-parameters.ts';
import { makeRunId, type RunId } from '../repository/ids.ts';
import { RunRecordKeeper } from '../runs/record-keeper.ts';
import { acquireAfterSweep, isDeadRun, type LeasedPlace } from './backup-locks.ts';

const unending = new AbortController().signal;

/** What a promise has come to so far. */
function watched<T>(promise: Promise<T>): { state: 'waiting' | 'done'; readonly settled: Promise<T | Error> } {
  const watch = {
    state: 'waiting' as 'waiting' | 'done',
    settled: promise
      .catch((error: unknown) => error as Error)
      .finally(() => {
        watch.state = 'done';
      }),
  };
  return watch;
}

/** A place where another backup is in the middle of sweeping what a dead run of `shop` left, until it may go on. */
async function sweptPlace(): Promise<{ place: Place; goOn: () => Promise<void> }> {
  const place = new Place(new MemoryStore());
  const dead = await place.begin('shop_1.sql.gz');
  await dead.upload();
  place.die();
  const reached = Promise.withResolvers<undefined>();
  const gate = Promise.withResolvers<undefined>();
  place.store.faults = {
    before: async ({ method, key }) => {
      if (method !== 'delete' || key !== 'shop_1.sql.gz') return;
      reached.resolve(undefined);
      await gate.promise;
    },
  };
  const swept = place.sweep();
  await reached.promise;
  return {
    place,
    goOn: async () => {
      gate.resolve(undefined);
      expect(await swept).toMatchObject({ orphans: [dead.id], failures: [] });
    },
  };
}

describe('the lease of a backup', () => {
  test('is waited for while another backup sweeps under it, and then taken', async () => {
    const { place, goOn } = await sweptPlace();
    const wait = watched(acquireAfterSweep(place.leasesOf('next'), 'shop', { clock: place.clock, signal: unending }));
    await place.clock.advance(5_000);
    expect(wait.state).toBe('waiting');
    await goOn();
    await place.clock.advance(1_000);
    expect(await wait.settled).toMatchObject({ name: 'shop' });
  });

  test('is not waited for longer than a sweep may take', async () => {
    const { place, goOn } = await sweptPlace();
    const wait = watched(acquireAfterSweep(place.leasesOf('next'), 'shop', { clock: place.clock, signal: unending }));
    await place.clock.advance(29_000);
    expect(wait.state).toBe('waiting');
    await place.clock.advance(2_000);
    expect(await wait.settled).toMatchObject({ code: 'locked', message: expect.stringContaining('`pgark sweep`') });
    await goOn();
  });

  test('is refused at once where another backup holds it, also one that took it after the sweep', async () => {
    const { place, goOn } = await sweptPlace();
    const wait = watched(acquireAfterSweep(place.leasesOf('next'), 'shop', { clock: place.clock, signal: unending }));
    await place.clock.advance(1_500);
    await goOn();
    await place.leasesOf('faster').acquire('shop');
    await place.clock.advance(1_000);
    expect(await wait.settled).toMatchObject({ code: 'locked', message: expect.stringContaining('faster') });
    const standing = { clock: new ManualClock(place.clock.now()), signal: unending };
    await expect(acquireAfterSweep(place.leasesOf('next'), 'shop', standing)).rejects.toMatchObject({ code: 'locked' });
    place.clock.stopFor(2 * TERM_MS);
    expect(await acquireAfterSweep(place.leasesOf('next'), 'shop', standing)).toMatchObject({ name: 'shop' });
  });
});

describe('a run that holds the lock on the server', () => {
  const connection: ConnectionParameters = { host: 'db', port: 5432, user: 'u', database: 'shop', sslMode: 'disable' };
  const request = { source: 'main', connection };
  const startedAt = new Date('2026-11-20T02:00:00Z');
  const id = makeRunId(startedAt, systemRandom);

  /** A storage with a record of the run; `held`: its lease is ours. */
  async function placeOf(
    { held, ended = false, database = 'shop' }: { held: boolean; ended?: boolean; database?: string },
    destinations: readonly string[] | undefined,
  ): Promise<LeasedPlace> {
    const store = new MemoryStore();
    const clock = new ManualClock(startedAt);
    const host = { host: 'other', pid: 1, pgarkVersion: '0.0.0', startedAt: startedAt.toISOString() };
    const base = { layout: 1, id, kind: 'backup', source: 'main', database, ...host } as const;
    const record = new RunRecordKeeper(store, base, { clock, logger: silentLogger });
    await record.open(destinations);
    if (ended) await record.succeed({});
    return { store, holdsLeaseSurely: held };
  }
  const both = ['near', 'far'];
  const dead = (places: readonly LeasedPlace[], runId: RunId = id): Promise<boolean> =>
    isDeadRun(request, runId, places);

  test('is dead if its lease is ours in every storage that it works on', async () => {
    expect(await dead([await placeOf({ held: true }, undefined)])).toBe(true);
    expect(await dead([await placeOf({ held: true }, both), await placeOf({ held: true }, both)])).toBe(true);
  });

  test('is alive where one of its storages is not ours to see, or its lease there is its own', async () => {
    expect(await dead([await placeOf({ held: true }, both)])).toBe(false);
    expect(await dead([await placeOf({ held: true }, both), await placeOf({ held: false }, both)])).toBe(false);
  });

  test('counts as over where it has ended, but not by that alone', async () => {
    const over = await placeOf({ held: false, ended: true }, both);
    expect(await dead([over, await placeOf({ held: true }, both)])).toBe(true);
    expect(await dead([over, await placeOf({ held: false, ended: true }, both)])).toBe(false);
  });

  test('is none of ours if it is of another database, or nothing is known of it', async () => {
    expect(await dead([await placeOf({ held: true, database: 'other' }, undefined)])).toBe(false);
    const unknown = makeRunId(startedAt, systemRandom);
    expect(await dead([await placeOf({ held: true }, undefined)], unknown)).toBe(false);
  });
});
