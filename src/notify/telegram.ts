import type { Clock } from '../common/clock.ts';
import type { TelegramChannel } from './channel.ts';
import { type Explanation, request } from './http.ts';
import { fieldsOfJson } from './json-answer.ts';
import type { NotificationMessage } from './message.ts';
import type { Notifier } from './notifier.ts';
import { shortText } from './render.ts';
import { fit } from './words.ts';

const RECEIVER = 'Telegram';
const TELEGRAM_API_URL = 'https://api.telegram.org';
/** Of `text` (core.telegram.org/bots/api, sendMessage). */
const TEXT_LENGTH_MAX = 4_096;

export function telegramNotifier(channel: TelegramChannel, clock: Clock, apiUrl = TELEGRAM_API_URL): Notifier {
  return {
    async send({ message, note }, attempt) {
      const token = channel.token.reveal().trim();
      const address = new URL(apiUrl);
      // The colon within a token belongs there; anything else that has a meaning in addresses does not.
      address.pathname = `/bot${encodeURIComponent(token).replaceAll('%3A', ':')}/sendMessage`;
      const headers = { 'content-type': 'application/json; charset=utf-8' };
      const body = telegramBody(channel.chat, message, note);
      const secrets = [token];
      await request({ receiver: RECEIVER, address, method: 'POST', headers, body, secrets, explain, clock }, attempt);
      return {};
    },
  };
}

/** Without a parse mode there is no markup; a joiner after the sign keeps Telegram from finding mentions. */
export function telegramBody(chat: string, message: NotificationMessage, note?: string): string {
  return JSON.stringify({
    chat_id: chat,
    text: fit(shortText(message, note), {
      lengthMax: TEXT_LENGTH_MAX,
      escape: (character) => (character === '@' ? '@\u2060' : character),
    }),
    link_preview_options: { is_disabled: true },
  });
}

function explain(body: string): Explanation {
  const { description, parameters } = fieldsOfJson(body);
  const retryAfter =
    typeof parameters === 'object' && parameters !== null && 'retry_after' in parameters
      ? parameters.retry_after
      : undefined;
  return {
    words: typeof description === 'string' ? description : undefined,
    retryAfterMs: typeof retryAfter === 'number' ? retryAfter * 1_000 : undefined,
  };
}
