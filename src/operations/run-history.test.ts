import { describe, expect, test } from 'vitest';
import { at, HistoryPlace } from '../../test/support/protection.ts';
import { PgarkError } from '../common/errors.ts';
import { silentLogger } from '../common/log.ts';
import { systemRandom } from '../common/random.ts';
import { keys } from '../repository/keys.ts';
import { compactRuns } from '../runs/compact-runs.ts';
import type { RunRecord } from '../runs/run-record.ts';
import { type OperationContext, operationContext } from './context.ts';
import { listRuns, type ListRunsRequest, type NamedStore } from './list-runs.ts';
import { followRunLog, showRunLog } from './run-logs.ts';

const NOW = at('2026-11-20T12:00:00Z');

function contextOf(place: HistoryPlace): OperationContext {
  return operationContext({ clock: place.clock });
}

/** It answers no more. */
function goAway({ store }: HistoryPlace): void {
  store.list = async function* () {
    yield* [];
    throw new PgarkError('store-unreachable', 'away');
  };
  store.get = () => Promise.reject(new PgarkError('store-unreachable', 'away'));
}

function runs(places: Readonly<Record<string, HistoryPlace>>, wanted: Partial<ListRunsRequest> = {}) {
  const storages = Object.entries(places).map(([name, { store }]): NamedStore => ({ name, store }));
  const [first] = Object.values(places);
  const request = { storages, since: at('2026-10-01T00:00:00Z'), limit: 100, state: undefined, filter: {}, ...wanted };
  return listRuns(request, contextOf(first ?? new HistoryPlace(NOW)));
}

describe('the list of runs', () => {
  test('shows the newest first, as many as are wanted, and says whether there are more', async () => {
    const place = new HistoryPlace(NOW);
    for (const day of ['17', '18', '19']) {
      await place.run('succeeded', at(`2026-11-${day}T02:00:00Z`), at(`2026-11-${day}T02:01:00Z`));
    }
    const two = await runs({ r2: place }, { limit: 2 });
    expect(two.runs.map(({ startedAt }) => startedAt.slice(8, 10))).toEqual(['19', '18']);
    expect(two.hasMore).toBe(true);
    expect((await runs({ r2: place }, { limit: 3 })).hasMore).toBe(false);
    expect((await runs({ r2: place }, { since: at('2026-11-18T12:00:00Z') })).runs).toHaveLength(1);
  });

  test('shows a run that died without a word as interrupted, and one that holds its lease as running', async () => {
    const place = new HistoryPlace(at('2026-11-20T11:00:00Z'));
    const dead = await place.run('running', at('2026-11-20T10:00:00Z'));
    const alive = await place.run('running', at('2026-11-20T10:59:00Z'));
    const lease = await place.leasesOf(alive.id).acquire('shop/shop');
    await place.clock.advance(10 * 60_000);
    const listing = await runs({ r2: place });
    expect(listing.runs.map(({ id, state }) => [id, state])).toEqual([
      [alive.id, 'running'],
      [dead.id, 'interrupted'],
    ]);
    expect((await runs({ r2: place }, { state: 'interrupted' })).runs.map(({ id }) => id)).toEqual([dead.id]);
    expect((await runs({ r2: place }, { state: 'running' })).runs.map(({ id }) => id)).toEqual([alive.id]);
    await lease.release();
  });

  test('takes records of one id in several storages for one run with an end in each', async () => {
    const [r2, disk] = [new HistoryPlace(NOW), new HistoryPlace(NOW)];
    const record = await r2.run('succeeded', at('2026-11-20T02:00:00Z'), at('2026-11-20T02:05:00Z'));
    const error = { code: 'store-full', message: 'no room', hint: 'make some', exit: 1 };
    await disk.write({ ...record, state: 'failed', endedAt: '2026-11-20T02:03:00.000Z', error });
    await disk.run('succeeded', at('2026-11-20T03:00:00Z'), at('2026-11-20T03:05:00Z'));
    const listing = await runs({ r2, disk });
    expect(listing.runs.map(({ state }) => state)).toEqual(['succeeded', 'partial']);
    expect(listing.runs[1]).toMatchObject({
      id: record.id,
      endedAt: '2026-11-20T02:05:00.000Z',
      storages: [
        { storage: 'r2', state: 'succeeded' },
        { storage: 'disk', state: 'failed', error: { code: 'store-full' } },
      ],
    });
    for (const state of ['failed', 'partial'] as const) {
      expect((await runs({ r2, disk }, { state })).runs.map(({ id }) => id)).toEqual([record.id]);
    }
  });

  test('of one database leaves out the others and what works on a whole storage', async () => {
    const place = new HistoryPlace(NOW);
    const ended = at('2026-11-20T02:05:00Z');
    const wanted = await place.run('succeeded', at('2026-11-20T02:00:00Z'), ended);
    await place.run('succeeded', at('2026-11-20T02:01:00Z'), ended, { source: 'eu', database: 'shop' });
    const { source: _source, database: _database, ...whole } = wanted;
    await place.write({
      ...whole,
      id: (await place.run('succeeded', at('2026-11-20T02:02:00Z'), ended)).id,
      kind: 'prune',
    });
    const listing = await runs({ r2: place }, { filter: { source: 'shop', database: 'shop' } });
    expect(listing.runs.map(({ id }) => id)).toEqual([wanted.id]);
  });

  test('goes on without a storage that cannot be read, and says so', async () => {
    const [r2, disk] = [new HistoryPlace(NOW), new HistoryPlace(NOW)];
    await r2.run('succeeded', at('2026-11-20T02:00:00Z'), at('2026-11-20T02:05:00Z'));
    goAway(disk);
    const listing = await runs({ r2, disk });
    expect(listing.runs).toHaveLength(1);
    expect(listing.failures).toMatchObject([{ storage: 'disk', error: { code: 'store-unreachable' } }]);
  });
});

/** A record with a log of lines that only have messages. */
async function runWithLog(place: HistoryPlace, state: RunRecord['state'], startedAt: Date, lines: readonly string[]) {
  const record = await place.run(state, startedAt, state === 'running' ? undefined : NOW);
  await writeLog(place, record, lines);
  return record;
}

async function writeLog(place: HistoryPlace, record: RunRecord, lines: readonly string[], cut = 0): Promise<void> {
  const events = lines.map((message) => JSON.stringify({ event: message === 'end' ? 'run.ended' : 'x.y', message }));
  const head = cut === 0 ? [] : [JSON.stringify({ event: 'log.cut', message: '', lines: cut })];
  const key = keys.runLog(new Date(record.startedAt), record.id);
  await place.store.putSmall(key, Buffer.from([...head, ...events, ''].join('\n')));
}

describe('the log of a run', () => {
  test('is found by the id or by a beginning of it that no other has, in small letters too', async () => {
    const place = new HistoryPlace(NOW);
    const record = await runWithLog(place, 'succeeded', at('2026-11-20T02:00:00Z'), ['start', 'end']);
    await runWithLog(place, 'succeeded', at('2026-11-02T02:00:00Z'), ['another']);
    const storages = [{ name: 'r2', store: place.store }];
    for (const run of [record.id, record.id.slice(0, 9), record.id.toLowerCase()]) {
      const log = await showRunLog({ storages, run }, contextOf(place));
      expect(log.lines.map(({ message }) => message)).toEqual(['start', 'end']);
    }
    const several = showRunLog({ storages, run: record.id.slice(0, 3) }, contextOf(place));
    await expect(several).rejects.toMatchObject({ code: 'usage', hint: expect.stringContaining(record.id) });
  });

  test('is found when the record was compacted', async () => {
    const place = new HistoryPlace(NOW);
    const record = await runWithLog(place, 'failed', at('2026-11-10T02:00:00Z'), ['start', 'end']);
    const storages = [{ name: 'r2', store: place.store }];
    for (const hours of [0, 2]) {
      const now = new Date(NOW.getTime() + hours * 3_600_000);
      await compactRuns(place.store, { now, random: systemRandom, logger: silentLogger });
    }
    expect([...place.store.objects.keys()]).not.toContain(keys.run(at(record.startedAt), record.id));
    for (const run of [record.id, record.id.slice(0, 8)]) {
      const log = await showRunLog({ storages, run }, contextOf(place));
      expect(log.run).toMatchObject({ id: record.id, state: 'failed' });
      expect(log.lines).toHaveLength(2);
    }
  });

  test('of an unknown run is an error that names the nearest', async () => {
    const place = new HistoryPlace(NOW);
    const { id } = await place.run('succeeded', at('2026-11-20T02:00:00Z'), NOW);
    const storages = [{ name: 'r2', store: place.store }];
    const mistyped = `${id.slice(0, 25)}${id.endsWith('A') ? 'B' : 'A'}`;
    for (const run of [mistyped, `${id.slice(0, 7)}ZZ`, `${id.slice(0, 4)}${id.slice(5, 12)}`]) {
      const hint = `did you mean ${id}?`;
      await expect(showRunLog({ storages, run }, contextOf(place))).rejects.toMatchObject({
        code: 'run-not-found',
        hint,
      });
    }
    for (const run of ['no run', '', '8ZZZZZZZZZZZZZZZZZZZZZZZZZ']) {
      const refused = showRunLog({ storages, run }, contextOf(new HistoryPlace(NOW)));
      await expect(refused).rejects.toMatchObject({ hint: expect.any(String) });
    }
  });

  test('that is followed gives each line once until the run is over, and says what was cut', async () => {
    const place = new HistoryPlace(NOW);
    const record = await runWithLog(place, 'running', NOW, ['a', 'b']);
    const storages = [{ name: 'r2', store: place.store }];
    const given: string[] = [];
    const following = (async () => {
      for await (const { lines, linesCut } of followRunLog({ storages, run: record.id }, contextOf(place))) {
        if (linesCut > 0) given.push(`cut ${linesCut}`);
        given.push(...lines.map(({ message }) => message));
      }
    })();
    await place.clock.advance(5_000);
    await writeLog(place, record, ['b', 'c'], 1);
    await place.clock.advance(5_000);
    expect(given).toEqual(['a', 'b', 'c']);
    await writeLog(place, record, ['g', 'h'], 6);
    await place.clock.advance(5_000);
    await place.write({ ...record, state: 'succeeded', endedAt: place.clock.now().toISOString() });
    await place.clock.advance(2_000);
    await writeLog(place, record, ['h', 'end'], 7);
    await place.clock.advance(10_000);
    await following;
    expect(given).toEqual(['a', 'b', 'c', 'cut 3', 'g', 'h', 'end']);
  });

  test('that is followed ends where the run died without a word', async () => {
    const place = new HistoryPlace(NOW);
    const { id } = await runWithLog(place, 'running', at('2026-11-20T11:59:30Z'), ['a']);
    const states: string[] = [];
    const following = (async () => {
      const storages = [{ name: 'r2', store: place.store }];
      for await (const { run } of followRunLog({ storages, run: id }, contextOf(place))) states.push(run.state);
    })();
    await place.clock.advance(10 * 60_000);
    await following;
    expect(new Set(states)).toEqual(new Set(['running', 'interrupted']));
    expect(states.at(-1)).toBe('interrupted');
  });

  test('that is followed goes on from another storage when one goes away, which is said once', async () => {
    const [near, far] = [new HistoryPlace(NOW), new HistoryPlace(NOW)];
    const record = await runWithLog(near, 'running', NOW, ['a']);
    await far.write(record);
    await writeLog(far, record, ['a', 'b']);
    const storages = [
      { name: 'far', store: far.store },
      { name: 'near', store: near.store },
    ];
    const warnings: string[] = [];
    const warning = (_event: string, message: string) => void warnings.push(message);
    const context = operationContext({ clock: near.clock, logger: { ...silentLogger, warning } });
    const given: string[] = [];
    const following = (async () => {
      for await (const { lines } of followRunLog({ storages, run: record.id }, context)) {
        given.push(...lines.map(({ message }) => message));
      }
    })();
    await near.clock.advance(3_000);
    goAway(far);
    await near.clock.advance(5_000);
    await writeLog(near, record, ['a', 'b', 'c', 'end']);
    await near.write({ ...record, state: 'succeeded', endedAt: near.clock.now().toISOString() });
    await near.clock.advance(10_000);
    await following;
    expect(given).toEqual(['a', 'b', 'c', 'end']);
    expect(warnings).toEqual(['storage far is passed over: away; it may know more of the run']);
  });

  test('that is followed is given up when the only storage that has the run goes away', async () => {
    const [near, far] = [new HistoryPlace(NOW), new HistoryPlace(NOW)];
    const { id } = await runWithLog(near, 'running', NOW, ['a']);
    const storages = [
      { name: 'near', store: near.store },
      { name: 'far', store: far.store },
    ];
    const following = (async () => {
      for await (const { lines } of followRunLog({ storages, run: id }, contextOf(near))) {
        expect(lines).toHaveLength(1);
        goAway(near);
      }
    })();
    const ended = following.catch((error: unknown) => error);
    await near.clock.advance(3_000);
    expect(await ended).toMatchObject({
      code: 'store-unreachable',
      message: `no storage that answers has the run ${id}; near: away`,
    });
  });

  test('is not said not to be where a storage is away that may have it', async () => {
    const [near, far] = [new HistoryPlace(NOW), new HistoryPlace(NOW)];
    const record = await near.run('succeeded', at('2026-11-20T02:00:00Z'), NOW);
    const request = { storages: [{ name: 'near', store: near.store }], run: record.id };
    expect(await showRunLog(request, contextOf(near))).toMatchObject({ hasLog: false, unknown: undefined });
    const unknown = {
      code: 'store-unreachable',
      message: `no storage that answers has the log of ${record.id}; far: away`,
    };
    goAway(far);
    const both = { ...request, storages: [...request.storages, { name: 'far', store: far.store }] };
    expect(await showRunLog(both, contextOf(near))).toMatchObject({ hasLog: false, unknown });
    const unopened = [{ storage: 'far', error: new PgarkError('store-unreachable', 'away') }];
    expect(await showRunLog({ ...request, unopened }, contextOf(near))).toMatchObject({ hasLog: false, unknown });
    await writeLog(near, record, ['start', 'end']);
    expect(await showRunLog(both, contextOf(near))).toMatchObject({ hasLog: true, unknown: undefined });
  });
});
