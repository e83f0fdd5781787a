import { describe, expect, test } from 'vitest';
import { type Answer, startReceiver, status } from '../../test/support/http-receiver.ts';
import { Desk, failureAt, HOUR_MS, hours, successAt } from '../../test/support/notification-desk.ts';
import { everyEvent, sampleMessages, watchedContext } from '../../test/support/notifications.ts';
import { Secret } from '../common/secret.ts';
import type { Channel } from './channel.ts';
import { afterDispatch, dispatch } from './dispatcher.ts';
import type { NotificationEvent, Problem } from './message.ts';
import { planDeliveries } from './plan.ts';
import { emptyNotificationState } from './state.ts';

const without = <T extends object, K extends keyof T>(value: T, key: K): Omit<T, K> => {
  const { [key]: _, ...rest } = value;
  return rest;
};

const FAILED = '/slack ✖ shop: backup failed';
const AGAIN = '/slack ✔ shop: backup works again';

describe('a failure that lasts', () => {
  test('is told once, and never again without a reminder', async () => {
    await using desk = await Desk.open();
    const channels = [desk.channel('slack')];
    expect(await desk.tell(channels, failureAt(hours(0)))).toEqual([FAILED]);
    for (const hour of [1, 24, 24 * 365]) expect(await desk.tell(channels, failureAt(hours(hour)))).toEqual([]);
  });

  test('is told again once the reminder’s time has passed, a tenth early being on time', async () => {
    await using desk = await Desk.open();
    const channels = [desk.channel('slack', { remindEveryMs: 24 * HOUR_MS })];
    await desk.tell(channels, failureAt(hours(0)));
    expect(await desk.tell(channels, failureAt(hours(21)))).toEqual([]);
    expect(await desk.tell(channels, failureAt(hours(23.9)))).toEqual([FAILED]);
    expect(await desk.tell(channels, failureAt(hours(30)))).toEqual([]);
    expect(await desk.tell(channels, failureAt(hours(48)))).toEqual([FAILED]);
  });

  test('is told again at once when it is another error, but not when two errors take turns', async () => {
    await using desk = await Desk.open();
    const channels = [desk.channel('slack')];
    await desk.tell(channels, failureAt(hours(0), 'store-unreachable'));
    expect(await desk.tell(channels, failureAt(hours(1), 'postgres-unreachable'))).toEqual([FAILED]);
    expect(await desk.tell(channels, failureAt(hours(2), 'store-unreachable'))).toEqual([]);
    expect(await desk.tell(channels, failureAt(hours(3), 'postgres-unreachable'))).toEqual([]);
  });

  test('of one storage, database, source or job says nothing about another', async () => {
    await using desk = await Desk.open();
    const channels = [desk.channel('slack')];
    await desk.tell(channels, failureAt(hours(0)));
    for (const changes of [{ storage: 'local' }, { database: 'Shop' }, { source: 'shop-eu' }, { job: 'hourly' }]) {
      expect(await desk.tell(channels, failureAt(hours(1), 'store-access-denied', changes))).toHaveLength(1);
    }
  });

  test('is told by a channel that could not be reached at first as soon as it can be', async () => {
    await using desk = await Desk.open([status(500), status(200)]);
    const channels = [desk.channel('slack')];
    expect(await desk.tell(channels, failureAt(hours(0)))).toEqual([FAILED]);
    expect(await desk.tell(channels, failureAt(hours(1)))).toEqual([FAILED]);
    expect(await desk.tell(channels, failureAt(hours(2)))).toEqual([]);
  });

  test('is told to each channel that wants it, and to no other', async () => {
    await using desk = await Desk.open();
    const channels = [
      desk.channel('slack', { name: 'a', on: ['failure'] }),
      desk.channel('slack', { name: 'b', on: ['success', 'overdue'] }),
      desk.channel('webhook', { name: 'c', on: ['failure'] }),
    ];
    const told = await desk.tell(channels, failureAt(hours(0)));
    expect([...told].sort()).toEqual(['/a ✖ shop: backup failed', '/c ✖ shop: backup failed']);
  });
});

describe('a recovery', () => {
  test('is told once, after a failure that was told, with its beginning and its count', async () => {
    await using desk = await Desk.open();
    const channels = [desk.channel('slack', { on: ['failure', 'recovery'] })];
    await desk.tell(channels, failureAt(hours(0)));
    await desk.tell(channels, failureAt(hours(24)));
    expect(await desk.tell(channels, successAt(hours(48)))).toEqual([AGAIN]);
    expect(desk.receiver.requests.at(-1)?.body).toContain('Failed 2 times since 2026-11-20 02:00 UTC.');
    expect(await desk.tell(channels, successAt(hours(72)))).toEqual([]);
    expect(await desk.tell(channels, failureAt(hours(96)))).toEqual([FAILED]);
  });

  test('is not told to a channel that never heard of the failure', async () => {
    await using desk = await Desk.open([status(500), status(200)]);
    const channels = [desk.channel('slack', { on: ['failure', 'recovery'] })];
    await desk.tell(channels, failureAt(hours(0)));
    expect(await desk.tell(channels, successAt(hours(1)))).toEqual([]);
    expect(await desk.tell([desk.channel('slack', { on: ['recovery'] })], successAt(hours(2)))).toEqual([]);
  });

  test('that could not be delivered is told with the next success', async () => {
    await using desk = await Desk.open([status(200), status(500), status(200)]);
    const channels = [desk.channel('slack', { on: ['failure', 'recovery'] })];
    await desk.tell(channels, failureAt(hours(0)));
    expect(await desk.tell(channels, successAt(hours(1)))).toEqual([AGAIN]);
    expect(await desk.tell(channels, successAt(hours(2)))).toEqual([AGAIN]);
    expect(await desk.tell(channels, successAt(hours(3)))).toEqual([]);
  });

  test('stands for the success where people want both; a machine gets both', async () => {
    await using desk = await Desk.open();
    const channels = [desk.channel('slack'), desk.channel('webhook')];
    await desk.tell(channels, failureAt(hours(0)));
    const told = await desk.tell(channels, successAt(hours(1)));
    expect(told.filter((line) => line.startsWith('/slack'))).toEqual([AGAIN]);
    expect(told.filter((line) => line.startsWith('/webhook'))).toEqual([
      '/webhook ✔ shop: backup works again',
      '/webhook ✔ shop: backup succeeded',
    ]);
  });

  test('ends a failure of no storage by any storage, and of one storage only by that one or by all', async () => {
    await using desk = await Desk.open();
    const channels = [desk.channel('slack', { on: ['failure', 'recovery'] })];
    await desk.tell(channels, failureAt(hours(0)), without(failureAt(hours(0), 'dump-failed'), 'storage') as Problem);
    expect(await desk.tell(channels, successAt(hours(1), { storage: 'local' }))).toEqual([AGAIN]);
    expect(desk.state.problems.map(({ storage }) => storage)).toEqual(['r2']);
    expect(await desk.tell(channels, successAt(hours(2), { storage: 'local' }))).toEqual([]);
    expect(await desk.tell(channels, without(successAt(hours(3)), 'storage'))).toEqual([AGAIN]);
    expect(desk.state.problems).toEqual([]);
  });

  test('of another database or job is none of this one', async () => {
    await using desk = await Desk.open();
    const channels = [desk.channel('slack', { on: ['failure', 'recovery'] })];
    await desk.tell(channels, failureAt(hours(0)));
    for (const changes of [{ database: 'crm' }, { source: 'crm' }, { job: 'hourly' }]) {
      expect(await desk.tell(channels, successAt(hours(1), changes))).toEqual([]);
    }
  });

  test('ends what was overdue, in one message with the failures before it', async () => {
    await using desk = await Desk.open();
    const channels = [desk.channel('slack', { on: ['failure', 'overdue', 'recovery'] })];
    await desk.tell(channels, failureAt(hours(0)));
    expect(await desk.tell(channels, { ...sampleMessages.overdue, at: hours(2) })).toHaveLength(1);
    expect(await desk.tell(channels, { ...sampleMessages.overdue, at: hours(3) })).toEqual([]);
    expect(await desk.tell(channels, successAt(hours(4)))).toEqual([AGAIN]);
    expect(desk.state.problems).toEqual([]);
  });

  test('of drills, verifications and prunes comes when they are resolved, not with a backup', async () => {
    await using desk = await Desk.open();
    const channels = [desk.channel('slack', { on: ['failure', 'drill_failed', 'verify_failed', 'recovery'] })];
    for (const of of ['drill_failed', 'verify_failed', 'prune_refused'] as const) {
      expect(await desk.tell(channels, { ...sampleMessages[of], at: hours(0) })).toHaveLength(1);
      expect(await desk.tell(channels, successAt(hours(1)))).toEqual([]);
      const { source, database, storage, job } = sampleMessages[of];
      const resolved = { event: 'resolved', of, source, database, storage, job, at: hours(2) } as const;
      expect(await desk.tell(channels, resolved)).toEqual([expect.stringMatching(/^\/slack ✔ shop: .* again$/)]);
      expect(await desk.tell(channels, resolved)).toEqual([]);
    }
  });
});

describe('successes and starts', () => {
  test('are told to people only where they want successes, and never of starts', async () => {
    await using desk = await Desk.open();
    const quiet = desk.channel('slack', { name: 'quiet', on: ['failure'] });
    const events = [{ ...sampleMessages.start, at: hours(0) }, successAt(hours(0))];
    expect(await desk.tell([desk.channel('slack'), quiet], ...events)).toEqual(['/slack ✔ shop: backup succeeded']);
  });
});

describe('many messages', () => {
  const storm = (at: Date, count: number): readonly NotificationEvent[] =>
    Array.from({ length: count }, (_, index) => failureAt(at, 'postgres-unreachable', { database: `d${index}` }));

  test('are held back beyond what people can read, which the last one says; what was held back is told later', async () => {
    await using desk = await Desk.open();
    const channels = [desk.channel('slack')];
    const first = await dispatch(channels, desk.state, storm(hours(0), 30), desk.context);
    expect(desk.receiver.requests).toHaveLength(20);
    expect(desk.receiver.requests.at(-1)?.body).toContain('Further messages are held back for a while');
    expect(desk.receiver.requests.at(-2)?.body).not.toContain('held back');
    const held = first.deliveries.filter(({ attempts }) => attempts === 0);
    expect(held).toHaveLength(10);
    expect(held[0]).toMatchObject({ outcome: 'failed', error: { code: 'notification-failed' } });
    const later = { ...desk.context, clock: { ...desk.context.clock, now: () => new Date(Date.now() + HOUR_MS) } };
    const second = await dispatch(channels, first.state, storm(hours(1), 30), later);
    expect(second.deliveries.map(({ outcome }) => outcome)).toEqual(Array.from({ length: 10 }, () => 'delivered'));
  });

  test('are all handed to machines', async () => {
    await using desk = await Desk.open();
    await dispatch([desk.channel('webhook')], desk.state, storm(hours(0), 30), desk.context);
    expect(desk.receiver.requests).toHaveLength(30);
  });

  test('of the databases of one job are one sign to its watchdog: failed if any of them failed', async () => {
    await using desk = await Desk.open();
    const [a, b] = storm(hours(0), 2);
    const good = { ...a, event: 'success', runId: '01KAFZJHDJ6YV1T1Y2Z3A4B5C7' } as NotificationEvent;
    await dispatch([desk.channel('healthchecks')], desk.state, [good, ...(b ? [b] : []), good], desk.context);
    expect(desk.receiver.requests.map(({ url }) => url.split('?')[0])).toEqual([expect.stringMatching(/\/fail$/)]);
  });

  test('end with the time that there is: a dead receiver does not hold up everything', async () => {
    await using desk = await Desk.open([status(503)]);
    const context = watchedContext({ budgetMs: 60_000, retry: { retriesMax: 3, delayMs: 10_000, delayMsMax: 10_000 } });
    const { deliveries } = await dispatch([desk.channel('slack')], desk.state, storm(hours(0), 10), context);
    expect(deliveries).toHaveLength(10);
    expect(context.pausesMs).toHaveLength(6);
    expect(deliveries.filter(({ attempts }) => attempts === 0)).toHaveLength(8);
  });
});

describe('a dispatch', () => {
  test('never rejects: neither for a channel that cannot work nor for an event that cannot be told', async () => {
    await using desk = await Desk.open();
    const broken = { ...desk.channel('slack'), url: undefined } as unknown as Channel;
    const { deliveries } = await dispatch(
      [broken, desk.channel('webhook')],
      desk.state,
      [failureAt(hours(0))],
      desk.context,
    );
    expect(deliveries.map(({ channel, outcome }) => [channel, outcome])).toEqual([
      ['slack', 'failed'],
      ['webhook', 'delivered'],
    ]);
    const impossible = failureAt(new Date(Number.NaN));
    const result = await dispatch([desk.channel('webhook')], desk.state, [impossible], desk.context);
    expect(result).toEqual({ deliveries: [], state: desk.state });
  });

  test('does not let a dead channel keep a living one waiting', async () => {
    const order: string[] = [];
    const note =
      (code: number): Answer =>
      (response, request) => {
        order.push(request.url);
        response.writeHead(code).end();
      };
    await using dead = await startReceiver([note(500)]);
    await using alive = await startReceiver([note(200)]);
    const hook = (name: string, origin: string): Channel => ({
      name,
      on: everyEvent,
      type: 'slack',
      url: new Secret(`${origin}/${name}`),
    });
    const context = watchedContext();
    await dispatch(
      [hook('dead', dead.origin), hook('alive', alive.origin)],
      emptyNotificationState,
      [failureAt(hours(0))],
      context,
    );
    expect(order.indexOf('/alive')).toBeLessThan(3);
    expect(order).toHaveLength(5);
  });

  test('of a one-shot run, with the state read back, says what the daemon would say', async () => {
    await using daemon = await Desk.open();
    await using oneShot = await Desk.open();
    const story = [
      failureAt(hours(0)),
      failureAt(hours(1)),
      successAt(hours(2)),
      failureAt(hours(3)),
      { ...sampleMessages.overdue, at: hours(4) },
      successAt(hours(5)),
    ];
    const together = await daemon.tell([daemon.channel('slack')], ...story);
    const oneByOne: string[] = [];
    for (const event of story) oneByOne.push(...(await oneShot.tell([oneShot.channel('slack')], event)));
    expect(oneByOne).toEqual(together);
    expect(oneShot.state.problems).toEqual(daemon.state.problems);
  });

  test('can be worked into a state that somebody else wrote in between', async () => {
    await using desk = await Desk.open();
    const channels = [desk.channel('slack')];
    const events = [failureAt(hours(0))];
    const { deliveries } = await dispatch(channels, desk.state, events, desk.context);
    const other = failureAt(hours(0), 'dump-failed', { source: 'crm' });
    const { state: theirs } = await dispatch(channels, desk.state, [other], desk.context);
    const merged = afterDispatch(channels, theirs, events, { deliveries, now: hours(0) });
    expect(merged.problems.map(({ source }) => source)).toEqual(['crm', 'shop']);
    expect(planDeliveries(channels, merged, [...events, other], hours(0))).toEqual([]);
  });
});
