import type { NotificationState } from './state.ts';

/** Messages that a channel of people may get at once, and how long one more takes. */
const MESSAGES_AT_ONCE = 20;
const MS_PER_MESSAGE = 3 * 60_000;

/** How many messages a channel may be sent now. */
export function allowanceOf(state: NotificationState, channel: string, now: Date): number {
  const kept = state.allowances.find((allowance) => allowance.channel === channel);
  if (kept === undefined) return MESSAGES_AT_ONCE;
  const passedMs = Math.max(0, now.getTime() - Date.parse(kept.at));
  return Math.min(MESSAGES_AT_ONCE, kept.messages + passedMs / MS_PER_MESSAGE);
}

/** The state after that many messages to a channel. */
export function afterMessages(state: NotificationState, channel: string, count: number, now: Date): NotificationState {
  if (count === 0) return state;
  const messages = Math.max(0, allowanceOf(state, channel, now) - count);
  // Who may be sent everything again needs no entry.
  const others = state.allowances.filter(
    (other) => other.channel !== channel && allowanceOf(state, other.channel, now) < MESSAGES_AT_ONCE,
  );
  return { ...state, allowances: [...others, { channel, messages, at: now.toISOString() }] };
}
