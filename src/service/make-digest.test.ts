import { expect, test, vi } from 'vitest';
import { at, HistoryPlace, HOUR_MS } from '../../test/support/protection.ts';
import { TellingPlace } from '../../test/support/telling.ts';
import type { StorageConfig } from '../config/model.ts';
import type { Digest } from '../notify/digest.ts';
import type { LastDigest } from '../notify/state.ts';
import { buildProtectionState } from '../observability/protection-state.ts';
import { operationContext } from '../operations/context.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { makeDigest } from './make-digest.ts';

const NOW = at('2026-11-20T08:00:00Z');
const ago = (hours: number): Date => new Date(NOW.getTime() - hours * HOUR_MS);

/** A digest to ops, of r2 with two backups, and of nas, which opens as a test says. */
async function digestWith(
  nas: (place: HistoryPlace) => Promise<ObjectStore>,
  last?: LastDigest,
): Promise<{ readonly place: HistoryPlace; readonly digest: Promise<Digest> }> {
  await using telling = await TellingPlace.open();
  const { config } = telling;
  const channel = config.notifications.get('ops');
  if (channel === undefined) throw new Error('no channel');
  const place = new HistoryPlace(NOW);
  await place.backup(ago(30));
  await place.backup(ago(6));
  const state = buildProtectionState(await place.inputs());
  const openStore = ({ name }: StorageConfig): Promise<ObjectStore> =>
    name === 'r2' ? Promise.resolve(place.store) : nas(place);
  const world = { context: operationContext({ clock: place.clock }), openStore };
  return { place, digest: makeDigest(config, { channel, state, last, problems: [] }, world) };
}

/** Answers to nothing, and takes notice of no signal. */
function hanging(place: HistoryPlace): ObjectStore {
  return new Proxy(place.store, {
    get: (store, name) =>
      name === 'list'
        ? () => ({ [Symbol.asyncIterator]: () => ({ next: () => new Promise(() => undefined) }) })
        : (Reflect.get(store, name) as unknown),
  });
}

test.each([
  ['does not open', () => new Promise<ObjectStore>(() => undefined)],
  ['does not answer', (place: HistoryPlace) => Promise.resolve(hanging(place))],
])('tells of a storage that %s, and of what the others know', async (_, nas) => {
  const { place, digest } = await digestWith(nas);
  let isMade = false;
  void digest.finally(() => (isMade = true));
  await vi.waitFor(
    async () => {
      await place.clock.advance(30_000);
      expect(isMade).toBe(true);
    },
    { timeout: 10_000, interval: 5 },
  );
  expect(place.clock.now().getTime() - NOW.getTime()).toBeLessThan(10 * 60_000);
  const { runs, notes } = await digest;
  expect(runs).toEqual([{ kind: 'backup', succeeded: 2, failed: 0 }]);
  expect(notes).toContainEqual(expect.stringMatching(/^storage nas: .* no answer within 120 s$/));
});

test('goes back to the last one, and no further than 35 days', async () => {
  const sinceOf = async (last: LastDigest | undefined): Promise<Date> =>
    (await (await digestWith(({ store }) => Promise.resolve(store), last)).digest).since;
  const of = (hours: number): LastDigest => ({ channel: 'ops', until: ago(hours).toISOString(), stored: [] });
  expect(await sinceOf(undefined)).toEqual(ago(7 * 24));
  expect(await sinceOf(of(20 * 24))).toEqual(ago(20 * 24));
  expect(await sinceOf(of(300 * 24))).toEqual(ago(35 * 24));
});
