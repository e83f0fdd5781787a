import { Secret } from '../../src/common/secret.ts';
import type { Channel } from '../../src/notify/channel.ts';
import { dispatch, type NotifyContext } from '../../src/notify/dispatcher.ts';
import type { NotificationEvent, Problem, Success } from '../../src/notify/message.ts';
import { emptyNotificationState, type NotificationState, notificationStateSchema } from '../../src/notify/state.ts';
import { type Answer, type HttpReceiver, startReceiver, status } from './http-receiver.ts';
import { everyEvent, sampleMessages, watchedContext } from './notifications.ts';

export const HOUR_MS = 3_600_000;
const start = sampleMessages.failure.at;
export const hours = (count: number): Date => new Date(start.getTime() + count * HOUR_MS);

export type Changes = Partial<Pick<Problem, 'database' | 'storage' | 'job' | 'runId' | 'source'>>;
export const failureAt = (at: Date, code = 'store-access-denied', changes: Changes = {}): Problem => ({
  ...sampleMessages.failure,
  error: { code, message: code, hint: 'look' },
  at,
  ...changes,
});
export const successAt = (at: Date, changes: Changes = {}): Success => ({ ...sampleMessages.success, at, ...changes });

/** One receiver and what one channel after the other told it, with the state kept as the daemon keeps it: as JSON. */
export class Desk implements AsyncDisposable {
  readonly receiver: HttpReceiver;
  readonly context: NotifyContext;
  state: NotificationState = emptyNotificationState;

  constructor(receiver: HttpReceiver, context: NotifyContext) {
    this.receiver = receiver;
    this.context = context;
  }

  static async open(answers: readonly [Answer, ...Answer[]] = [status(200)]): Promise<Desk> {
    return new Desk(
      await startReceiver(answers),
      watchedContext({ retry: { retriesMax: 0, delayMs: 0, delayMsMax: 0 } }),
    );
  }

  channel(type: 'slack' | 'webhook' | 'healthchecks', changes: Partial<Channel> = {}): Channel {
    const url = new Secret(`${this.receiver.origin}/${changes.name ?? type}`);
    return { name: type, on: everyEvent, ...changes, type, url };
  }

  /** The first words of what was told because of these events, and to whom. */
  async tell(channels: readonly Channel[], ...events: NotificationEvent[]): Promise<readonly string[]> {
    const before = this.receiver.requests.length;
    const { state } = await dispatch(channels, this.state, events, this.context);
    this.state = notificationStateSchema.parse(JSON.parse(JSON.stringify(state)));
    return this.receiver.requests.slice(before).map(({ url, body }) => {
      const text = body.startsWith('{') ? /[✖✔⚠▶] [^.,"]*/.exec(body)?.[0] : '';
      return `${url.replace(/\?.*/, '')} ${text}`.trim();
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.receiver[Symbol.asyncDispose]();
  }
}
