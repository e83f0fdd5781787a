import { afterEach, describe, expect, test } from 'vitest';
import { manifestOf, type Place, placeNames, places, type Run } from '../../test/support/repository-place.ts';
import { isPgarkError, PgarkError } from '../common/errors.ts';
import { keys } from './keys.ts';
import { dataKeysOf } from './repository.ts';

const opened: Place[] = [];
afterEach(() => {
  for (const place of opened.splice(0)) place.end();
});

function openPlace(name: keyof typeof places): Place {
  const place = places[name]();
  opened.push(place);
  return place;
}

describe.each(placeNames)('whatever happens in the middle of a sweep of %s', (name) => {
  /** An orphan with an object and an upload, a committed intent, a begun deletion, and a whole backup beside them. */
  async function litter(): Promise<{ place: Place; expected: string[] }> {
    const place = openPlace(name);
    const whole = await place.begin('whole.sql.gz');
    await whole.upload();
    await whole.commit();
    const orphan = await place.begin('orphan.sql.gz', 'one');
    await orphan.upload();
    const hung = await place.begin('hung.sql.gz', 'two');
    await hung.hang();
    const committed = await place.begin('committed.sql.gz', 'three');
    await committed.upload();
    await place.repository.commit(manifestOf(committed.id, 'three', ['committed.sql.gz']));
    const deleted = await place.begin('deleted.sql.gz', 'four');
    await deleted.upload();
    await deleted.commit();
    const tombstone = manifestOf(deleted.id, 'four', ['deleted.sql.gz'], await place.etagOf('deleted.sql.gz'));
    await place.store.putSmall(keys.deleted(deleted.id), Buffer.from(JSON.stringify(tombstone)));
    await place.store.putSmall('foreign.txt', Buffer.from('somebody’s'));
    place.die();
    const expected = [
      keys.manifest('main', 'shop', whole.id),
      keys.manifest('main', 'three', committed.id),
      'committed.sql.gz',
      'foreign.txt',
      'whole.sql.gz',
    ];
    return { place, expected: expected.toSorted() };
  }

  async function callsOfOneSweep(): Promise<number> {
    const { place } = await litter();
    const before = place.store.calls;
    await place.sweep();
    return place.store.calls - before;
  }

  test.each(['before', 'after'] as const)(
    'a failure %s any call harms nothing, and the next sweep ends it',
    async (when) => {
      const count = await callsOfOneSweep();
      expect(count).toBeGreaterThan(30);
      for (let failing = 1; failing <= count; failing += 1) {
        const { place, expected } = await litter();
        const first = place.store.calls + failing;
        // From that call on nothing works: the process is killed, or the network is gone.
        place.store.faults = {
          [when]: ({ number }: { number: number }) => {
            if (number >= first) throw new PgarkError('store-unreachable', 'the network is gone');
          },
        };
        const outcome = await Promise.allSettled([place.sweep()]);
        place.store.faults = {};
        expect((await place.keys()).filter((key) => expected.includes(key)).toSorted()).toEqual(expected);
        place.die();
        const report = await place.sweep();
        expect({ failing, outcome: outcome.length, failures: report.failures }).toMatchObject({ failures: [] });
        expect({ failing, keys: (await place.keys()).toSorted() }).toEqual({ failing, keys: expected });
        expect(await place.uploads()).toEqual([]);
      }
    },
  );

  test('a run that begins at any moment is told to wait or ends whole, also under the dead run’s object name', async () => {
    const count = await callsOfOneSweep();
    let committed = 0;
    for (let moment = 1; moment <= count; moment += 1) {
      const { place } = await litter();
      const at = place.store.calls + moment;
      const runs: Run[] = [];
      place.store.faults = {
        before: async ({ number }) => {
          if (number !== at) return;
          try {
            const run = await place.begin('orphan.sql.gz', 'one');
            await run.upload();
            await run.commit();
            runs.push(run);
          } catch (error) {
            if (!isPgarkError(error, 'locked') && !isPgarkError(error, 'object-exists')) throw error;
          }
        },
      };
      await place.sweep();
      place.store.faults = {};
      committed += runs.length;
      for (const { id } of runs) {
        const manifest = await place.repository.manifestAt(keys.manifest('main', 'one', id));
        for (const key of manifest ? dataKeysOf(manifest) : ['no manifest']) {
          expect({ moment, key, found: (await place.store.head(key)) !== undefined }).toMatchObject({ found: true });
        }
      }
    }
    expect(committed).toBeGreaterThan(0);
  });

  test('the dead run, when it goes on at any moment, uploads and commits nothing more', async () => {
    const count = await callsOfOneSweep();
    let woken = 0;
    for (let moment = 1; moment <= count; moment += 1) {
      const place = openPlace(name);
      const stopped = await place.begin('stopped.sql.gz', 'one');
      place.die();
      const at = place.store.calls + moment;
      const codes: unknown[] = [];
      const note = (error: unknown): void => void codes.push(isPgarkError(error) ? error.code : error);
      place.store.faults = {
        before: async ({ number }) => {
          if (number !== at) return;
          await stopped.commit().catch(note);
        },
      };
      await place.sweep();
      place.store.faults = {};
      woken += codes.length;
      expect(codes.filter((code) => code !== 'lease-lost')).toEqual([]);
      await expect(stopped.commit()).rejects.toMatchObject({ code: 'lease-lost' });
      await expect(stopped.upload()).rejects.toMatchObject({ code: 'lease-lost' });
      expect(await place.keys()).toEqual([]);
    }
    expect(woken).toBeGreaterThan(5);
  });
});
