import { describe, expect, test } from 'vitest';
import { FaultyStore } from '../../test/support/faulty-store.ts';
import { ManualClock } from '../../test/support/manual-clock.ts';
import { MemoryStore } from '../../test/support/memory-store.ts';
import { PgarkError } from '../common/errors.ts';
import { silentLogger } from '../common/log.ts';
import { systemRandom } from '../common/random.ts';
import { Leases } from './leases.ts';

const TERM_MS = 60_000;
const KEY = '.pgark/leases/shop.json';

function setUp() {
  const clock = new ManualClock(new Date('2026-11-20T02:00:00Z'));
  const memory = new MemoryStore({ clock, conditionalWrites: false });
  const store = new FaultyStore(memory);
  const leasesOf = (host: string): Leases =>
    new Leases(store, {
      clock,
      random: systemRandom,
      logger: silentLogger,
      termMs: TERM_MS,
      timers: clock,
      holder: { host, pid: 4711, runId: `run-of-${host}`, command: 'pgark backup' },
    });
  const record = (): unknown => JSON.parse(Buffer.from(memory.objects.get(KEY)?.bytes ?? []).toString());
  return { clock, memory, store, record, a: leasesOf('alpha'), b: leasesOf('beta') };
}

describe('without conditional writes', () => {
  test('a lease is advisory: it keeps later ones out, and of two at once at most one believes in it', async () => {
    const { a, b, clock } = setUp();
    const racing = Promise.allSettled([a.acquire('shop'), b.acquire('shop')]);
    await clock.advance(1_000);
    const outcomes = await racing;
    const winners = outcomes.flatMap((outcome) => (outcome.status === 'fulfilled' ? [outcome.value] : []));
    expect(winners.map((lease) => lease.mode)).toEqual(['advisory']);
    await clock.advance(5 * TERM_MS);
    await Promise.all(winners.map((lease) => lease.confirm()));
    await expect(b.acquire('shop')).rejects.toMatchObject({ code: 'locked' });
    await Promise.all(winners.map((lease) => lease.release()));
    const again = b.acquire('shop');
    await clock.advance(1_000);
    await expect(again).resolves.toMatchObject({ mode: 'advisory' });
  });

  describe('where a lease is replaced by taking the old one away first, so that one look does not see it', () => {
    async function hidden() {
      const scene = setUp();
      const { a, clock, store } = scene;
      const taking = a.acquire('shop');
      await clock.advance(2_000);
      const lease = await taking;
      let looks = 1;
      store.faults = {
        before: ({ method, key }) => {
          if (method !== 'get' || key !== KEY || looks === 0) return;
          looks -= 1;
          throw new PgarkError('object-not-found', 'it is being replaced');
        },
      };
      return { ...scene, lease };
    }

    test('nobody else takes it', async () => {
      const { b, clock, lease } = await hidden();
      const taking = Promise.allSettled([b.acquire('shop')]);
      await clock.advance(2_000);
      expect(await taking).toMatchObject([{ status: 'rejected', reason: { code: 'locked' } }]);
      await lease.confirm();
    });

    test('its holder does not lose it', async () => {
      const { clock, lease, record } = await hidden();
      const confirmed = lease.confirm();
      await clock.advance(2_000);
      await confirmed;
      expect(lease.lost.aborted).toBe(false);
      expect(record()).toMatchObject({ token: lease.token, released: false });
    });

    test('its holder gives it back', async () => {
      const { clock, lease, record } = await hidden();
      const released = lease.release();
      await clock.advance(2_000);
      await released;
      expect(record()).toMatchObject({ token: lease.token, released: true });
    });

    test('who has just taken it knows that it is his', async () => {
      const { b, clock, record, store, lease } = await hidden();
      const faults = store.faults;
      store.faults = {};
      await lease.release();
      store.faults = {
        after: ({ method, key }) => void (method === 'putSmall' && key === KEY && (store.faults = faults)),
      };
      const taking = b.acquire('shop');
      await clock.advance(2_000);
      expect(record()).toMatchObject({ token: (await taking).token, holder: { host: 'beta' } });
    });

    test('one that is gone for good is lost', async () => {
      const { clock, lease, memory } = await hidden();
      memory.objects.delete(KEY);
      const confirming = Promise.allSettled([lease.confirm()]);
      await clock.advance(2_000);
      expect(await confirming).toMatchObject([{ status: 'rejected', reason: { code: 'lease-lost' } }]);
    });
  });
});
