import type { Clock } from '../common/clock.ts';
import type { NtfyChannel } from './channel.ts';
import { deliveryError } from './delivery-error.ts';
import { addressOf, type Explanation, request } from './http.ts';
import { fieldsOfJson } from './json-answer.ts';
import type { NotificationMessage } from './message.ts';
import type { Notifier } from './notifier.ts';
import { render, type Rendering, shortText } from './render.ts';
import { fit } from './words.ts';

const RECEIVER = 'ntfy';
/** A longer message becomes an attachment (docs.ntfy.sh/publish, limitations). */
const MESSAGE_BYTES_MAX = 4_096;
const TITLE_LENGTH_MAX = 200;

export function ntfyNotifier(channel: NtfyChannel, clock: Clock): Notifier {
  return {
    async send({ message, note }, attempt) {
      const address = addressOf(channel.url, RECEIVER);
      const topic = takeTopic(address);
      const token = channel.token?.reveal().trim();
      const headers = {
        'content-type': 'application/json; charset=utf-8',
        ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
      };
      const body = ntfyBody(topic, message, note);
      const secrets = [topic, ...(token === undefined ? [] : [token])];
      await request({ receiver: RECEIVER, address, method: 'POST', headers, body, secrets, explain, clock }, attempt);
      return {};
    },
  };
}

/** Messages as JSON go to the server's root, and name their topic (docs.ntfy.sh/publish, publish as JSON). */
function takeTopic(address: URL): string {
  const parts = address.pathname.split('/').filter((part) => part !== '');
  const topic = parts.pop();
  if (topic === undefined) {
    throw deliveryError({
      message: 'the address of ntfy names no topic',
      hint: 'write the topic after the host: https://ntfy.sh/TOPIC',
      retryable: false,
    });
  }
  address.pathname = `/${parts.join('/')}`;
  return topic;
}

const priorities: Readonly<Record<Rendering['tone'], number>> = { bad: 4, warning: 4, good: 3, neutral: 2 };
/** Names of emoji that ntfy shows before the title. */
const tags: Readonly<Record<Rendering['tone'], string>> = {
  bad: 'x',
  warning: 'warning',
  good: 'heavy_check_mark',
  neutral: 'arrow_forward',
};

/** Plain text: ntfy reads Markdown only where it is asked to. */
export function ntfyBody(topic: string, message: NotificationMessage, note?: string): string {
  const { title, tone } = render(message);
  return JSON.stringify({
    topic,
    title: fit(title, { lengthMax: TITLE_LENGTH_MAX }),
    message: fit(shortText(message, note), { lengthMax: MESSAGE_BYTES_MAX, lengthOf: bytesOf }),
    priority: priorities[tone],
    tags: [tags[tone]],
  });
}

function bytesOf(text: string): number {
  return Buffer.byteLength(text);
}

function explain(body: string): Explanation {
  const { error } = fieldsOfJson(body);
  return { words: typeof error === 'string' ? error : undefined };
}
