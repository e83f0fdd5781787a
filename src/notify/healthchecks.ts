import type { Clock } from '../common/clock.ts';
import type { HealthchecksChannel } from './channel.ts';
import { deliveryError } from './delivery-error.ts';
import { addressOf, request } from './http.ts';
import { isAboutSomething, isProblem, type NotificationMessage } from './message.ts';
import type { Notifier } from './notifier.ts';
import { shortText } from './render.ts';

const RECEIVER = 'the ping URL';
const CROCKFORD = '0123456789ABCDEFGHJKMNPQRSTVWXYZ';

/** Pings in the manner of healthchecks.io (healthchecks.io/docs/http_api). */
export function healthchecksNotifier(channel: HealthchecksChannel, clock: Clock): Notifier {
  return {
    async send({ message, note }, attempt) {
      const address = addressOf(channel.url, RECEIVER);
      address.pathname = `${address.pathname.replace(/\/+$/, '')}${signalOf(message)}`;
      const rid = isAboutSomething(message) ? uuidOfUlid(message.runId) : undefined;
      if (rid !== undefined) address.searchParams.set('rid', rid);
      const body = pingBody(message, channel.sendLogBytes, note);
      const sending =
        body === undefined
          ? { method: 'GET' as const }
          : { method: 'POST' as const, body, headers: { 'content-type': 'text/plain; charset=utf-8' } };
      const answer = await request({ receiver: RECEIVER, address, clock, ...sending }, attempt);
      checkAnswer(answer);
      return {};
    },
  };
}

/** A test leaves the state of the check as it is: it must neither raise an alarm nor end one. */
function signalOf(message: NotificationMessage): '' | '/start' | '/fail' | '/log' {
  if (isProblem(message)) return '/fail';
  switch (message.event) {
    case 'start':
      return '/start';
    case 'success':
    case 'recovery':
      return '';
    case 'digest':
    case 'test':
      return '/log';
    default:
      return message satisfies never;
  }
}

/** The log's last bytes where they are wanted and there are any; else the text. A start has nothing to say. */
export function pingBody(
  message: NotificationMessage,
  logBytesMax: number | undefined,
  note?: string,
): Uint8Array<ArrayBuffer> | undefined {
  if (message.event === 'start') return undefined;
  const log = isAboutSomething(message) ? message.log : undefined;
  if (log !== undefined && log !== '' && logBytesMax !== undefined) return tailOf(log, logBytesMax);
  return Buffer.from(shortText(message, note));
}

/** The last bytes of a text, beginning with a whole character. */
function tailOf(text: string, bytesMax: number): Uint8Array<ArrayBuffer> {
  const bytes = Buffer.from(text);
  let start = Math.max(0, bytes.length - bytesMax);
  while (((bytes[start] ?? 0) & 0xc0) === 0x80) start += 1;
  return bytes.subarray(start);
}

/** The 128 bits of a run's id in the form that `rid` wants; undefined for anything that is no ULID. */
function uuidOfUlid(id: string | undefined): string | undefined {
  if (id === undefined || !/^[0-7][0-9A-HJKMNP-TV-Z]{25}$/.test(id)) return undefined;
  const bits = [...id].reduce((sum, digit) => sum * 32n + BigInt(CROCKFORD.indexOf(digit)), 0n);
  return bits
    .toString(16)
    .padStart(32, '0')
    .replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}

/** healthchecks.io answers 200 also to a ping that it throws away, and says so in the body. */
function checkAnswer(answer: string): void {
  const refusal = /^OK \((not found|rate limited)\)/.exec(answer.trim())?.[1];
  if (refusal === undefined) return;
  throw deliveryError({
    message: `${RECEIVER} throws the ping away: ${refusal}`,
    hint:
      refusal === 'not found' ? 'check the address; the check may have been removed' : 'give each job its own check',
    retryable: refusal === 'rate limited',
    // More than five pings a minute are thrown away.
    ...(refusal === 'rate limited' ? { retryAfterMs: 15_000 } : {}),
  });
}
