import { describe, expect, test } from 'vitest';
import { FaultyStore } from '../../test/support/faulty-store.ts';
import { ManualClock } from '../../test/support/manual-clock.ts';
import { MemoryStore } from '../../test/support/memory-store.ts';
import { PgarkError } from '../common/errors.ts';
import { silentLogger } from '../common/log.ts';
import { systemRandom } from '../common/random.ts';
import type { Timers } from './held-lease.ts';
import { Leases } from './leases.ts';

const TERM_MS = 60_000;
const KEY = '.pgark/leases/shop.json';
/** The store's clock is three years ahead of everybody's, so that whoever mixes the two is found out. */
const STORE_AHEAD_MS = 3 * 365 * 86_400_000;

const noTimers: Timers = { after: () => () => {} };
const unreachable = (): never => {
  throw new PgarkError('store-unreachable', 'the store does not answer');
};

function setUp(options: { readonly conditionalWrites?: boolean } = {}) {
  const clock = new ManualClock(new Date('2026-11-20T02:00:00Z'));
  const storeClock = { now: () => new Date(clock.now().getTime() + STORE_AHEAD_MS) };
  const memory = new MemoryStore({ clock: storeClock, ...options });
  const store = new FaultyStore(memory);
  const leasesOf = (host: string, timers: Timers = clock, through = store): Leases =>
    new Leases(through, {
      clock,
      random: systemRandom,
      logger: silentLogger,
      termMs: TERM_MS,
      timers,
      holder: { host, pid: 4711, runId: `run-of-${host}`, command: 'pgark backup' },
    });
  const record = (): { token: string; released: boolean; holder: { host: string } } =>
    JSON.parse(Buffer.from(memory.objects.get(KEY)?.bytes ?? []).toString());
  return { clock, memory, store, leasesOf, record, a: leasesOf('alpha'), b: leasesOf('beta') };
}

describe('a lease', () => {
  test('keeps others out, and tells them who holds it since when, for what and until when', async () => {
    const { a, b } = setUp();
    await a.acquire('shop');
    await expect(b.acquire('shop')).rejects.toMatchObject({
      code: 'locked',
      exitCode: 11,
      message:
        'shop is held by alpha (pid 4711) since 2029-11-19T02:00:00.000Z for `pgark backup`, until 2029-11-19T02:01:00.000Z',
      hint: expect.stringContaining('run-of-alpha'),
    });
    await expect(b.acquire('shop-eu')).resolves.toMatchObject({ name: 'shop-eu', mode: 'conditional' });
  });

  test('can be taken at once after it was released, and its object stays in place', async () => {
    const { a, b, record, memory } = setUp();
    const first = await a.acquire('shop');
    await first.release();
    await first.release();
    expect(record()).toMatchObject({ released: true, token: first.token });
    await b.acquire('shop');
    expect(record()).toMatchObject({ released: false, holder: { host: 'beta' } });
    expect(memory.objects.size).toBe(1);
    expect(first.lost.aborted).toBe(false);
  });

  test('is given back by one request, and looked at first where a renewal of it may have arrived unanswered', async () => {
    const { a, clock, store, record } = setUp();
    const lease = await a.acquire('shop');
    const calls = store.calls;
    await lease.release();
    expect(store.calls - calls).toBe(1);
    const doubtful = await a.acquire('shop');
    store.faults = {
      after: ({ method }) => {
        if (method === 'putSmall') unreachable();
      },
    };
    await clock.advance(TERM_MS / 2);
    store.faults = {};
    await doubtful.release();
    expect(record()).toMatchObject({ token: doubtful.token, released: true });
  });

  test('goes to exactly one of many that want it at once, new, released or expired', async () => {
    const { leasesOf, clock } = setUp();
    const race = async (): Promise<void> => {
      const racers = Array.from({ length: 8 }, (_, index) => leasesOf(`host-${index}`, noTimers).acquire('shop'));
      const outcomes = await Promise.allSettled(racers);
      const lost = outcomes.filter((outcome) => outcome.status === 'rejected');
      expect(lost).toHaveLength(7);
      for (const outcome of lost) expect(outcome.reason).toMatchObject({ code: 'locked' });
      const won = outcomes.filter((outcome) => outcome.status === 'fulfilled');
      await Promise.all(won.map((outcome) => outcome.value.release()));
    };
    await race();
    await race();
    await leasesOf('dead', noTimers).acquire('shop');
    clock.stopFor(2 * TERM_MS);
    await race();
  });

  test('lives as long as it is renewed', async () => {
    const { a, b, clock } = setUp();
    const lease = await a.acquire('shop');
    await clock.advance(20 * TERM_MS);
    expect(lease.lost.aborted).toBe(false);
    await expect(b.acquire('shop')).rejects.toMatchObject({ code: 'locked' });
    await lease.confirm();
  });

  test('of a dead holder is taken over after its term by the store’s clock, not before', async () => {
    const { leasesOf, b, clock, record } = setUp();
    await leasesOf('dead', noTimers).acquire('shop');
    await clock.advance(TERM_MS + 1_000);
    await expect(b.acquire('shop')).rejects.toMatchObject({ code: 'locked' });
    await clock.advance(1);
    await b.acquire('shop');
    expect(record().holder.host).toBe('beta');
  });

  test('that was released is not renewed any more, and cannot be confirmed', async () => {
    const { a, clock, store } = setUp();
    const lease = await a.acquire('shop');
    await lease.release();
    const calls = store.calls;
    await clock.advance(5 * TERM_MS);
    expect(store.calls).toBe(calls);
    await expect(lease.confirm()).rejects.toThrow(/has been released/);
  });

  test('is waited for until it is released, or until the signal is aborted', async () => {
    const { a, b, clock } = setUp();
    const lease = await a.acquire('shop');
    const next = b.acquire('shop', { wait: true });
    const controller = new AbortController();
    const reason = new Error('enough');
    const impatient = Promise.allSettled([b.acquire('shop', { wait: true, signal: controller.signal })]);
    await clock.advance(10 * TERM_MS);
    controller.abort(reason);
    expect(await impatient).toEqual([{ status: 'rejected', reason }]);
    await lease.release();
    await clock.advance(TERM_MS / 3);
    await expect(next).resolves.toMatchObject({ name: 'shop' });
  });

  test('whose object is damaged or of a newer version is never taken over', async () => {
    const { a, memory } = setUp();
    await memory.putSmall(KEY, Buffer.from('{"layout": 1, "name": "shop"}'));
    await expect(a.acquire('shop')).rejects.toMatchObject({
      code: 'repository-damaged',
      message: expect.stringContaining(KEY),
    });
    await memory.putSmall(KEY, Buffer.from('{"layout": 2}'));
    await expect(a.acquire('shop')).rejects.toMatchObject({ code: 'repository-unknown-layout' });
  });

  test('can be looked at by anybody', async () => {
    const { leasesOf, b, clock } = setUp();
    expect(await b.peek('shop')).toBeUndefined();
    const { token } = await leasesOf('alpha', noTimers).acquire('shop');
    expect(await b.peek('shop')).toMatchObject({
      token,
      alive: true,
      holder: { host: 'alpha', command: 'pgark backup' },
    });
    await clock.advance(2 * TERM_MS);
    expect(await b.peek('shop')).toMatchObject({ alive: false, until: new Date('2029-11-19T02:01:00Z') });
    const next = await b.acquire('shop');
    await next.release();
    expect(await b.peek('shop')).toMatchObject({ alive: false });
  });
});

describe('a holder that was paused past its term', () => {
  test('finds out before it commits, and cannot harm its successor', async () => {
    const { a, b, clock, record } = setUp();
    const stale = await a.acquire('shop');
    clock.stopFor(2 * TERM_MS);
    const next = await b.acquire('shop');
    await expect(stale.confirm()).rejects.toMatchObject({ code: 'lease-lost', exitCode: 11 });
    expect(stale.lost.aborted).toBe(true);
    expect(stale.lost.reason).toMatchObject({ code: 'lease-lost' });
    await stale.release();
    expect(record()).toMatchObject({ token: next.token, released: false });
    await next.confirm();
  });

  test('cannot harm its successor even if it gives back, without a look, what it believes to hold', async () => {
    const { a, b, clock, record } = setUp();
    const stale = await a.acquire('shop');
    clock.stopFor(2 * TERM_MS);
    const next = await b.acquire('shop');
    await stale.release();
    expect(record()).toMatchObject({ token: next.token, released: false });
    await next.confirm();
  });

  test('finds out although its wall clock was set back meanwhile', async () => {
    const { a, clock } = setUp();
    const lease = await a.acquire('shop');
    clock.suspendFor(-10 * TERM_MS);
    clock.stopFor(TERM_MS);
    await clock.advance(0);
    expect(lease.lost.aborted).toBe(true);
  });

  test('in the middle of renewing does not live on by the answer to what it had asked before', async () => {
    const { a, clock, store } = setUp();
    const lease = await a.acquire('shop');
    store.faults = {
      after: (call) => {
        // Past the end of the term that it knew of, not past the end of the one it has asked for.
        if (call.method === 'putSmall') clock.stopFor(TERM_MS * 0.7);
      },
    };
    await clock.advance(TERM_MS * 0.4);
    expect(lease.lost.aborted).toBe(true);
  });

  test('finds out although nobody has taken over, as soon as its timers run again', async () => {
    const { a, clock } = setUp();
    const lease = await a.acquire('shop');
    clock.stopFor(TERM_MS);
    await clock.advance(0);
    expect(lease.lost.aborted).toBe(true);
  });

  test('finds out within a second though the monotonic clock stood still while the machine was suspended', async () => {
    const { a, clock, store } = setUp();
    const lease = await a.acquire('shop');
    const other = await a.acquire('other');
    clock.suspendFor(TERM_MS);
    const calls = store.calls;
    await expect(other.confirm()).rejects.toMatchObject({ code: 'lease-lost' });
    await clock.advance(1_000);
    expect(lease.lost.aborted).toBe(true);
    expect(store.calls).toBe(calls);
  });

  test.each(['now', 'get', 'putSmall'])(
    'in the middle of confirming, while it asked %s, does not commit',
    async (method) => {
      const { a, clock, store } = setUp();
      const lease = await a.acquire('shop');
      store.faults = {
        after: (call) => {
          if (call.method === method) clock.stopFor(2 * TERM_MS);
        },
      };
      await expect(lease.confirm()).rejects.toMatchObject({ code: 'lease-lost' });
      expect(lease.lost.aborted).toBe(true);
    },
  );

  test('for so long while it confirmed that little of the term is left does not commit', async () => {
    const { a, clock, store } = setUp();
    const lease = await a.acquire('shop');
    store.faults = {
      after: (call) => {
        if (call.method === 'putSmall') clock.stopFor(TERM_MS * 0.6);
      },
    };
    await expect(lease.confirm()).rejects.toThrow(/answered too slowly/);
  });
});

describe('renewing', () => {
  test('goes on through failures as long as the term lasts', async () => {
    const { a, clock, store } = setUp();
    const lease = await a.acquire('shop');
    store.faults = { before: unreachable };
    await clock.advance(TERM_MS * 0.9);
    expect(lease.lost.aborted).toBe(false);
    store.faults = {};
    await clock.advance(TERM_MS);
    await lease.confirm();
  });

  test('that fails until the term is over loses the lease then, not later', async () => {
    const { a, clock, store } = setUp();
    const lease = await a.acquire('shop');
    store.faults = { before: unreachable };
    await clock.advance(TERM_MS - 1);
    expect(lease.lost.aborted).toBe(false);
    await clock.advance(1_000);
    expect(lease.lost.aborted).toBe(true);
    await expect(lease.confirm()).rejects.toBe(lease.lost.reason);
  });

  test('that never gets an answer loses the lease at the end of the term', async () => {
    const { a, clock, store } = setUp();
    const lease = await a.acquire('shop');
    store.faults = { before: () => new Promise(() => {}) };
    await clock.advance(TERM_MS);
    expect(lease.lost.aborted).toBe(true);
  });

  test('whose answer was lost, though it had arrived, does not take itself for another', async () => {
    const { a, clock, store } = setUp();
    const lease = await a.acquire('shop');
    store.faults = {
      after: (call) => {
        if (call.method === 'putSmall') unreachable();
      },
    };
    await clock.advance(TERM_MS * 0.5);
    store.faults = {};
    await clock.advance(3 * TERM_MS);
    expect(lease.lost.aborted).toBe(false);
    await lease.confirm();
  });

  test.each([true, false])(
    'finds out that another has it, or that it is gone (conditional writes: %s)',
    async (conditionalWrites) => {
      const { a, b, clock, memory } = setUp({ conditionalWrites });
      const settled = async (name: string): Promise<Awaited<ReturnType<typeof a.acquire>>> => {
        const acquiring = a.acquire(name);
        await clock.advance(1_000);
        return acquiring;
      };
      const stolen = await settled('shop');
      const gone = await settled('gone');
      const bytes = Buffer.from(memory.objects.get(KEY)?.bytes ?? []).toString();
      await memory.putSmall(KEY, Buffer.from(bytes.replace(stolen.token, 'stranger').replace('alpha', 'thief')));
      await memory.delete('.pgark/leases/gone.json');
      await clock.advance(TERM_MS / 2);
      expect(stolen.lost.reason).toMatchObject({ code: 'lease-lost', message: expect.stringContaining('thief') });
      expect(gone.lost.reason).toMatchObject({ message: expect.stringContaining('removed it') });
      expect(memory.objects.has('.pgark/leases/gone.json')).toBe(false);
      expect(await b.peek('shop')).toMatchObject({ token: 'stranger' });
    },
  );

  test('that is under way ends with the release, which never rejects', async () => {
    const { a, b, clock, store } = setUp();
    const lease = await a.acquire('shop');
    store.faults = { before: unreachable };
    await clock.advance(TERM_MS / 2);
    await lease.release();
    store.faults = {};
    await expect(b.acquire('shop')).rejects.toMatchObject({ code: 'locked' });
    await clock.advance(TERM_MS);
    await b.acquire('shop');
  });

  test('a store that cannot be asked is no proof: confirm rejects with its error, and may be tried again', async () => {
    const { a, store } = setUp();
    const lease = await a.acquire('shop');
    store.faults = { before: unreachable };
    await expect(lease.confirm()).rejects.toMatchObject({ code: 'store-unreachable' });
    expect(lease.lost.aborted).toBe(false);
    store.faults = {};
    await lease.confirm();
  });
});
