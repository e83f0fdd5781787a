import type { Clock } from '../common/clock.ts';
import type { Secret } from '../common/secret.ts';
import { addressOf, type Explanation, request } from './http.ts';
import { fieldsOfJson } from './json-answer.ts';
import type { NotificationMessage } from './message.ts';
import type { Notifier } from './notifier.ts';
import { shortText } from './render.ts';
import { fit } from './words.ts';

const RECEIVER = 'Discord';
/** Of `content` (docs.discord.com, resources, webhook, execute webhook). */
const CONTENT_LENGTH_MAX = 2_000;
/** No previews of what looks like an address. */
const SUPPRESS_EMBEDS = 4;

export function discordNotifier(url: Secret, clock: Clock): Notifier {
  return {
    async send({ message, note }, attempt) {
      const address = addressOf(url, RECEIVER);
      // Without it Discord says yes before the message is kept.
      address.searchParams.set('wait', 'true');
      const headers = { 'content-type': 'application/json; charset=utf-8' };
      const body = discordBody(message, note);
      await request({ receiver: RECEIVER, address, method: 'POST', headers, body, explain, clock }, attempt);
      return {};
    },
  };
}

export function discordBody(message: NotificationMessage, note?: string): string {
  return JSON.stringify({
    content: fit(shortText(message, note), { lengthMax: CONTENT_LENGTH_MAX, escape }),
    // Whatever the text holds, nobody is called by it.
    allowed_mentions: { parse: [] },
    flags: SUPPRESS_EMBEDS,
  });
}

function escape(character: string): string {
  if (character === '@') return '@\u200b';
  return /[\\*_~`|<>[\]#]/.test(character) ? `\\${character}` : character;
}

function explain(body: string): Explanation {
  const { message, retry_after: retryAfter } = fieldsOfJson(body);
  return {
    words: typeof message === 'string' ? message : undefined,
    retryAfterMs: typeof retryAfter === 'number' ? Math.ceil(retryAfter * 1_000) : undefined,
  };
}
