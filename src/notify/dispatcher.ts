import type { Clock } from '../common/clock.ts';
import { isPgarkError, messageOf, PgarkError } from '../common/errors.ts';
import type { Logger } from '../common/log.ts';
import type { Random } from '../common/random.ts';
import { type RetryPolicy, withRetries } from '../common/retry.ts';
import { afterMessages } from './allowance.ts';
import { audienceOf, type Channel } from './channel.ts';
import { createNotifier } from './create-notifier.ts';
import { isRetryable, pauseMsOf } from './delivery-error.ts';
import type { Digest } from './digest.ts';
import { type EventError, type MessageEvent, messageId, type NotificationEvent } from './message.ts';
import { type PlannedDelivery, planDeliveries } from './plan.ts';
import { afterEvent, type NotificationState } from './state.ts';

/** What notifications are sent in. */
export interface NotifyContext {
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  /**
   * Ends all deliveries at once. Not that of the run which is told of: an interrupted run has something to tell, too.
   */
  readonly signal?: AbortSignal | undefined;
  /** Retries of one delivery. Default: 3, after 2, 4 and 8 seconds. */
  readonly retry?: RetryPolicy | undefined;
  /** Of one attempt. Default: 10 seconds. */
  readonly timeoutMs?: number | undefined;
  /** How long a dispatch may go on: once it has passed, nothing more is begun or tried again. Default: 90 seconds. */
  readonly budgetMs?: number | undefined;
  /** Another server of Telegram's API. */
  readonly telegramApiUrl?: string | undefined;
}

/** How one message to one channel ended; plain data, free of secrets. */
export type Delivery = {
  readonly channel: string;
  readonly event: MessageEvent;
  readonly messageId: string;
  /** Place of the event that led to it in the list of events. */
  readonly eventIndex: number;
  /** 0: it was not even tried. */
  readonly attempts: number;
} & (
  | { readonly outcome: 'delivered'; readonly deliveredAt: Date; readonly caveat?: string }
  | { readonly outcome: 'failed'; readonly error: EventError }
);

export interface Dispatch {
  readonly deliveries: readonly Delivery[];
  /** What is to be kept for the next dispatch. */
  readonly state: NotificationState;
}

const DEFAULT_RETRY: RetryPolicy = { retriesMax: 3, delayMs: 2_000, delayMsMax: 30_000 };
const DEFAULT_TIMEOUT_MS = 10_000;
const DEFAULT_BUDGET_MS = 90_000;

/**
 * Tells the channels what happened, in the order of the events, all channels at once. Never rejects: what could not be
 * delivered is told again when it next comes up, and is no matter of the run that is told of.
 */
export async function dispatch(
  channels: readonly Channel[],
  state: NotificationState,
  events: readonly NotificationEvent[],
  context: NotifyContext,
): Promise<Dispatch> {
  try {
    const now = context.clock.now();
    const planned = planDeliveries(channels, state, events, now);
    const deadlineMs = context.clock.monotonicMs() + (context.budgetMs ?? DEFAULT_BUDGET_MS);
    const perChannel = await Promise.all(
      channels.map((channel) =>
        deliverInOrder(
          planned.filter((delivery) => delivery.channel === channel),
          deadlineMs,
          context,
        ),
      ),
    );
    const deliveries = perChannel.flat().sort((a, b) => a.eventIndex - b.eventIndex);
    return { deliveries, state: afterDispatch(channels, state, events, { deliveries, now }) };
  } catch (error) {
    context.logger.error('notification.dispatch_failed', `notifications could not be sent: ${messageOf(error)}`);
    return { deliveries: [], state };
  }
}

/**
 * The state after a dispatch: pure, so that it can be worked out again on the newer state of somebody else who wrote his
 * in between.
 */
export function afterDispatch(
  channels: readonly Channel[],
  state: NotificationState,
  events: readonly NotificationEvent[],
  result: { readonly deliveries: readonly Delivery[]; readonly now: Date },
): NotificationState {
  const { deliveries, now } = result;
  const told = events.reduce(
    (before, event, index) =>
      afterEvent(
        before,
        event,
        deliveries
          .filter(({ eventIndex }) => eventIndex === index)
          .map(({ channel, event: sent, outcome }) => ({
            channel,
            event: sent,
            delivered: outcome === 'delivered',
          })),
      ),
    state,
  );
  return channels
    .filter((channel) => audienceOf(channel) === 'people')
    .reduce((before, { name }) => {
      const count = deliveries.filter(({ channel, attempts }) => channel === name && attempts > 0).length;
      return afterMessages(before, name, count, now);
    }, told);
}

/** Sends a trial message, once. Never rejects. A ping's test goes to `/log`, which leaves the check's state alone. */
export async function testNotification(channel: Channel, context: NotifyContext): Promise<Delivery> {
  const message = { event: 'test' as const, at: context.clock.now(), channel: channel.name };
  const outgoing = { id: messageId(message), message };
  const retry = { retriesMax: 0, delayMs: 0, delayMsMax: 0 };
  const planned = { channel, outgoing, eventIndex: 0, heldBack: false };
  return deliver(planned, Number.POSITIVE_INFINITY, { ...context, retry });
}

/**
 * Sends a digest, with retries. Never rejects. It counts for no allowance, and none holds it back: it comes seldom, and is
 * what tells of all that was held back.
 */
export async function sendDigest(channel: Channel, digest: Digest, context: NotifyContext): Promise<Delivery> {
  const outgoing = { id: messageId(digest), message: digest };
  const deadlineMs = context.clock.monotonicMs() + (context.budgetMs ?? DEFAULT_BUDGET_MS);
  return deliver({ channel, outgoing, eventIndex: 0, heldBack: false }, deadlineMs, context);
}

async function deliverInOrder(
  planned: readonly PlannedDelivery[],
  deadlineMs: number,
  context: NotifyContext,
): Promise<readonly Delivery[]> {
  const deliveries: Delivery[] = [];
  for (const delivery of planned) deliveries.push(await deliver(delivery, deadlineMs, context));
  return deliveries;
}

async function deliver(planned: PlannedDelivery, deadlineMs: number, context: NotifyContext): Promise<Delivery> {
  const { channel, outgoing, eventIndex, heldBack } = planned;
  const { clock, signal } = context;
  const logger = context.logger.child({ channel: channel.name, notification: outgoing.message.event });
  const base = { channel: channel.name, event: outgoing.message.event, messageId: outgoing.id, eventIndex };
  let attempts = 0;
  const isLate = (afterMs = 0): boolean => clock.monotonicMs() + afterMs >= deadlineMs;
  try {
    if (heldBack) throw notTried('the channel has had too many messages of late; this one is held back');
    if (isLate()) throw notTried('no time was left for this message');
    const notifier = createNotifier(channel, context);
    const receipt = await withRetries(
      (attempt) => {
        attempts = attempt;
        return notifier.send(outgoing, { signal, timeoutMs: context.timeoutMs ?? DEFAULT_TIMEOUT_MS });
      },
      {
        policy: context.retry ?? DEFAULT_RETRY,
        clock,
        random: context.random,
        signal,
        isRetryable: (error) => isRetryable(error) && !isLate(pauseMsOf(error)),
        pauseMs: pauseMsOf,
      },
    );
    if (receipt.caveat !== undefined) logger.warning('notification.caveat', `${channel.name}: ${receipt.caveat}`);
    logger.debug('notification.delivered', `${outgoing.message.event} told to ${channel.name}`, { attempts });
    return { ...base, attempts, outcome: 'delivered', deliveredAt: clock.now(), ...receipt };
  } catch (thrown) {
    const error = errorOf(thrown, signal);
    const sentence = `${outgoing.message.event} could not be told to ${channel.name}: ${error.message}`;
    logger.warning('notification.failed', sentence, { attempts, hint: error.hint });
    return { ...base, attempts, outcome: 'failed', error };
  }
}

function notTried(message: string): PgarkError {
  return new PgarkError('notification-failed', message, { hint: 'pgark runs lists everything that happened' });
}

/** Only what was made for people's eyes leaves: what else is thrown may hold addresses. */
function errorOf(thrown: unknown, signal: AbortSignal | undefined): EventError {
  const known = isPgarkError(thrown)
    ? thrown
    : signal?.aborted === true
      ? new PgarkError('interrupted', 'interrupted before the message was delivered')
      : new PgarkError('internal', 'the message could not be made or sent');
  return { code: known.code, message: known.message, hint: known.hint };
}
