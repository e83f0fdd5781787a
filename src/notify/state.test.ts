import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { everyEvent, sampleMessages } from '../../test/support/notifications.ts';
import { Secret } from '../common/secret.ts';
import type { Channel } from './channel.ts';
import { afterDispatch } from './dispatcher.ts';
import type { NotificationEvent } from './message.ts';
import { planDeliveries } from './plan.ts';
import { afterDigest, afterEvent, emptyNotificationState, lastDigestTo, notificationStateSchema } from './state.ts';

const start = sampleMessages.failure.at;
const hours = (count: number): Date => new Date(start.getTime() + count * 3_600_000);

describe('the state', () => {
  const anyEvent: fc.Arbitrary<NotificationEvent> = fc
    .record({
      kind: fc.constantFrom('failure', 'success', 'overdue', 'prune_refused', 'resolved', 'fresh'),
      source: fc.constantFrom('a', 'b', '__proto__'),
      storage: fc.constantFrom('r2', 'local', undefined),
      code: fc.constantFrom('dump-failed', 'store-full', 'constructor'),
      hour: fc.nat(1_000),
    })
    .map(({ kind, source, storage, code, hour }) => {
      const about = { at: hours(hour), source, ...(storage === undefined ? {} : { storage }) };
      const error = { code, message: code, hint: '' };
      switch (kind) {
        case 'failure':
        case 'prune_refused':
          return { ...about, event: kind, error };
        case 'resolved':
          return { ...about, event: 'resolved', of: 'prune_refused' };
        case 'fresh':
          return { ...about, event: 'resolved', of: 'overdue' };
        case 'success':
        case 'overdue':
          return { ...about, event: kind };
        default:
          return kind satisfies never;
      }
    });
  const channels: readonly Channel[] = ['a', 'b'].map((name) => ({
    name,
    on: everyEvent,
    type: 'webhook',
    url: new Secret('http://x'),
  }));

  test('survives JSON, holds no secret, and never lets the same failure be told twice without a success between', () => {
    fc.assert(
      fc.property(fc.array(anyEvent, { maxLength: 40 }), (events) => {
        const planned = planDeliveries(channels, emptyNotificationState, events, start);
        const deliveries = planned.map(({ channel, outgoing, eventIndex }) => ({
          channel: channel.name,
          event: outgoing.message.event,
          messageId: outgoing.id,
          eventIndex,
          attempts: 1,
          outcome: 'delivered' as const,
          deliveredAt: start,
        }));
        const state = afterDispatch(channels, emptyNotificationState, events, { deliveries, now: start });
        expect(notificationStateSchema.parse(JSON.parse(JSON.stringify(state)))).toEqual(state);
        const problems = events.filter((event) => event.event !== 'success' && event.event !== 'resolved');
        if (problems.length === events.length) expect(planDeliveries(channels, state, events, start)).toEqual([]);
        const successes = ['a', 'b', '__proto__'].flatMap((source): NotificationEvent[] => [
          { event: 'success', source, at: start },
          { event: 'resolved', of: 'prune_refused', source, at: start },
        ]);
        const after = afterDispatch(channels, state, successes, { deliveries: [], now: start });
        expect(after.problems).toEqual([]);
      }),
    );
  });

  test('marks as over what it keeps for a channel that could not be told so, until it comes again', () => {
    const [channel] = channels;
    if (channel === undefined) throw new Error('no channel');
    const failed = { ...sampleMessages.failure, at: hours(0) };
    const seen = afterEvent(emptyNotificationState, failed, [
      { channel: channel.name, event: 'failure', delivered: true },
    ]);
    const { error: _, ...about } = { ...failed, at: hours(1) };
    const missed = [{ channel: channel.name, event: 'recovery', delivered: false }];
    const over = afterEvent(seen, { ...about, event: 'success' }, missed);
    expect(over.problems).toMatchObject([{ event: 'failure', endedAt: hours(1).toISOString() }]);
    const again = afterEvent(over, { ...failed, at: hours(2) }, []);
    expect(again.problems).toMatchObject([{ event: 'failure', lastSeenAt: hours(2).toISOString() }]);
    expect(again.problems[0]).not.toHaveProperty('endedAt');
  });

  test('is bounded: of too many problems the ones seen longest ago are forgotten', () => {
    const events = Array.from({ length: 2_100 }, (_, index) => ({
      ...sampleMessages.failure,
      at: hours(index),
      database: `d${index}`,
    }));
    const state = afterDispatch([], emptyNotificationState, events, { deliveries: [], now: start });
    expect(state.problems).toHaveLength(2_000);
    expect(state.problems[0]?.database).toBe('d100');
  });

  test('keeps what a later version has written of problems that this one does not know, and says nothing of it', () => {
    const known = { source: 'a', storage: 'r2', since: hours(0).toISOString(), lastSeenAt: hours(1).toISOString() };
    const told = [{ channel: 'a', code: 'clock-off', at: hours(0).toISOString(), by: 'phone' }];
    const later = { ...known, event: 'clock_off', timesSeen: 2, told, severity: 3 };
    const state = notificationStateSchema.parse({ layout: 1, problems: [later], allowances: [] });
    const about = { at: hours(2), source: 'a', storage: 'r2' };
    const events: readonly NotificationEvent[] = [
      { ...about, event: 'success' },
      { ...about, event: 'resolved', of: 'prune_refused' },
    ];
    const planned = planDeliveries(channels, state, events, start);
    expect(planned.map(({ outgoing }) => outgoing.message.event)).not.toContain('recovery');
    const after = afterDispatch(channels, state, events, { deliveries: [], now: start });
    expect(after.problems).toEqual([later]);
  });

  test('keeps what a later version has written beside problems, and knows of no digest where an earlier one has written', () => {
    const later = notificationStateSchema.parse({ ...emptyNotificationState, silences: [{ until: 'noon' }] });
    const digest = { channel: 'mail', until: hours(0).toISOString(), stored: [{ storage: 'r2', bytes: 5 }] };
    const after = afterDigest(afterDigest(later, { ...digest, channel: 'other' }), digest);
    expect(after).toMatchObject({ silences: [{ until: 'noon' }] });
    expect(lastDigestTo(notificationStateSchema.parse(JSON.parse(JSON.stringify(after))), 'mail')).toEqual(digest);
    const next = { ...digest, until: hours(24).toISOString() };
    expect(afterDigest(after, next).digests).toEqual([{ ...digest, channel: 'other' }, next]);
    expect(lastDigestTo(emptyNotificationState, 'mail')).toBeUndefined();
  });
});
