import { afterMessages, allowanceOf } from './allowance.ts';
import { audienceOf, type Channel, type Subscription } from './channel.ts';
import {
  isAboutSomething,
  isProblem,
  type MessageEvent,
  messageId,
  type NotificationEvent,
  type NotificationMessage,
  type Problem,
  type Recovery,
  type Resolved,
  type Success,
} from './message.ts';
import type { Outgoing } from './notifier.ts';
import { afterEvent, codeOf, endedBy, type KnownProblem, type NotificationState, openProblemOf } from './state.ts';

export interface PlannedDelivery {
  readonly channel: Channel;
  readonly outgoing: Outgoing;
  /** Place of the event that led to it in the list of events. */
  readonly eventIndex: number;
  /** The channel has had too many messages of late: this one is not sent. */
  readonly heldBack: boolean;
}

/** A daily run never fails at the very same second: a reminder may be this much early. */
const REMINDER_SLACK = 0.1;
const LAST_NOTE = 'Further messages are held back for a while; pgark runs lists everything.';

/**
 * Who is to be told what: pure. Each problem once for each of its errors, again only after the channel's `remindEveryMs`;
 * recoveries only to those who were told of the problem; watchdogs hear of every run.
 */
export function planDeliveries(
  channels: readonly Channel[],
  state: NotificationState,
  events: readonly NotificationEvent[],
  now: Date,
): readonly PlannedDelivery[] {
  const planned: PlannedDelivery[] = [];
  let foreseen = state;
  events.forEach((event, eventIndex) => {
    const fresh = channels.flatMap((channel) => {
      if (audienceOf(channel) === 'ping' && !isSign(event, events, givenTo(channel, events, planned))) return [];
      return messagesFor(channel, foreseen, event).map((message) => deliveryOf(channel, message, eventIndex));
    });
    const told = fresh.map(({ channel, outgoing: { message } }) => ({
      channel: channel.name,
      event: message.event,
      delivered: true,
    }));
    planned.push(...fresh);
    foreseen = afterEvent(foreseen, event, told);
  });
  return withinAllowances(planned, state, now);
}

function deliveryOf(channel: Channel, message: NotificationMessage, eventIndex: number): PlannedDelivery {
  return { channel, outgoing: { id: messageId(message), message }, eventIndex, heldBack: false };
}

function messagesFor(
  channel: Channel,
  state: NotificationState,
  event: NotificationEvent,
): readonly NotificationMessage[] {
  if (isProblem(event)) return wants(channel, event) && isDue(channel, state, event) ? [event] : [];
  if (event.event === 'start') return audienceOf(channel) !== 'people' && wants(channel, event) ? [event] : [];
  const recovery = recoveryFor(channel, endedBy(state, event), event);
  const success = event.event === 'success' && wants(channel, event) ? event : undefined;
  return toldOfEnd(channel, recovery, success);
}

/** People hear the better news of the two, a watchdog of the run, a machine of both. */
function toldOfEnd(
  channel: Channel,
  recovery: Recovery | undefined,
  success: Success | undefined,
): readonly NotificationMessage[] {
  const both = [recovery, success].filter((message) => message !== undefined);
  const audience = audienceOf(channel);
  switch (audience) {
    case 'machine':
      return both;
    case 'people':
      return both.slice(0, 1);
    case 'ping':
      return both.slice(-1);
    default:
      return audience satisfies never;
  }
}

function wants(channel: Channel, message: NotificationMessage): boolean {
  if (!isAboutSomething(message)) return true;
  const subscription: Subscription = isLikeFailure(message.event) ? 'failure' : message.event;
  return channel.on.includes(subscription);
}

function isLikeFailure(event: MessageEvent): event is 'prune_refused' | 'suspicious' | 'storage_size' {
  return event === 'prune_refused' || event === 'suspicious' || event === 'storage_size';
}

function isDue(channel: Channel, state: NotificationState, event: Problem): boolean {
  // Every failed run is a run that the watchdog has to hear of; overdue is looked at far more often than runs happen.
  if (audienceOf(channel) === 'ping' && event.event === 'failure') return true;
  const told = openProblemOf(state, event)?.told.find(
    (entry) => entry.channel === channel.name && entry.code === codeOf(event),
  );
  if (told === undefined) return true;
  if (channel.remindEveryMs === undefined) return false;
  return event.at.getTime() - Date.parse(told.at) >= channel.remindEveryMs * (1 - REMINDER_SLACK);
}

/** One message for all that ended at once, about the one that lasted longest. */
function recoveryFor(
  channel: Channel,
  ended: readonly KnownProblem[],
  event: Success | Resolved,
): Recovery | undefined {
  if (!channel.on.includes('recovery')) return undefined;
  const [oldest] = ended
    .filter(({ told }) => told.some((entry) => entry.channel === channel.name))
    .sort((a, b) => Date.parse(a.since) - Date.parse(b.since));
  if (oldest === undefined) return undefined;
  const { event: of, since, timesSeen } = oldest;
  return { ...event, event: 'recovery', of, since: new Date(since), timesSeen };
}

/** The events that one channel is told something of so far. */
function givenTo(
  channel: Channel,
  events: readonly NotificationEvent[],
  planned: readonly PlannedDelivery[],
): readonly NotificationEvent[] {
  const places = new Set(
    planned.filter((delivery) => delivery.channel === channel).map(({ eventIndex }) => eventIndex),
  );
  return events.filter((_, place) => places.has(place));
}

/**
 * What a watchdog may be given a sign of. A run of several destinations or databases reports each of them, but is one sign:
 * failed if any of them failed, since a later success would hide it. For the same reason it is set to up by a run alone: a
 * drill that passes says nothing of the backup that failed before it.
 */
function isSign(
  event: NotificationEvent,
  events: readonly NotificationEvent[],
  given: readonly NotificationEvent[],
): boolean {
  if (!isPartOfRun(event)) return event.event !== 'resolved';
  const isOfRun = (other: NotificationEvent): boolean => isPartOfRun(other) && isSameRun(other, event);
  const hasFailed = events.some((other) => other.event === 'failure' && isOfRun(other));
  return !given.some(isOfRun) && (event.event === 'failure' || !hasFailed);
}

/** What became of a backup, or of what is stored beside it and is told of only where it failed before. */
function isPartOfRun(event: NotificationEvent): boolean {
  return event.event === 'resolved' ? event.of === 'failure' : event.event === 'success' || event.event === 'failure';
}

/** The databases of a job are backed up in runs of their own, and have one watchdog all the same. */
function isSameRun(one: NotificationEvent, other: NotificationEvent): boolean {
  return (
    one.source === other.source &&
    one.job === other.job &&
    (one.runId === other.runId || one.database !== other.database)
  );
}

/** Marks what people would get too much of, and says so in the last message before. */
function withinAllowances(
  planned: readonly PlannedDelivery[],
  state: NotificationState,
  now: Date,
): readonly PlannedDelivery[] {
  let spent = state;
  return planned.map((delivery) => {
    const { channel, outgoing } = delivery;
    if (audienceOf(channel) !== 'people') return delivery;
    const left = allowanceOf(spent, channel.name, now);
    if (left < 1) return { ...delivery, heldBack: true };
    spent = afterMessages(spent, channel.name, 1, now);
    return left < 2 ? { ...delivery, outgoing: { ...outgoing, note: LAST_NOTE } } : delivery;
  });
}
