import type { Clock } from '../common/clock.ts';
import type { Secret } from '../common/secret.ts';
import { addressOf, request } from './http.ts';
import { isAboutSomething, type NotificationMessage } from './message.ts';
import type { Notifier } from './notifier.ts';
import { shortText } from './render.ts';
import { dateAndTime, fit, oneLine } from './words.ts';

const RECEIVER = 'Slack';
/** Of a text object (docs.slack.dev, Block Kit, text object). */
const TEXT_LENGTH_MAX = 3_000;

export function slackNotifier(url: Secret, clock: Clock): Notifier {
  return {
    async send({ message, note }, attempt) {
      const address = addressOf(url, RECEIVER);
      const headers = { 'content-type': 'application/json; charset=utf-8' };
      const body = slackBody(message, note);
      const explain = (answer: string): { words?: string } => (/^[a-z_]{3,60}$/.test(answer) ? { words: answer } : {});
      await request({ receiver: RECEIVER, address, method: 'POST', headers, body, explain, clock }, attempt);
      return {};
    },
  };
}

/**
 * The text stands in blocks of plain text, in which Slack reads neither markup nor mentions. `text` beside them is what
 * notifications show, and all that receivers know that only imitate Slack.
 */
export function slackBody(message: NotificationMessage, note?: string): string {
  const text = shortText(message, note);
  const runId = isAboutSomething(message) ? message.runId : undefined;
  const run = runId === undefined ? [] : [`run ${oneLine(runId, 100)}`];
  const context = [...run, dateAndTime(message.at)].join(' · ');
  return JSON.stringify({
    text: fit(text, { lengthMax: TEXT_LENGTH_MAX, escape: escapeFallback }),
    blocks: [
      { type: 'section', text: plainText(text) },
      { type: 'context', elements: [plainText(context)] },
    ],
  });
}

function plainText(text: string): object {
  return { type: 'plain_text', text: fit(text, { lengthMax: TEXT_LENGTH_MAX, escape }), emoji: false };
}

/** The three characters that Slack wants escaped (docs.slack.dev, formatting message text). */
function escape(character: string): string {
  if (character === '&') return '&amp;';
  if (character === '<') return '&lt;';
  return character === '>' ? '&gt;' : character;
}

/** Mattermost and Rocket.Chat take `@channel` for a mention: a space of no width after the sign keeps it a text. */
function escapeFallback(character: string): string {
  return character === '@' ? '@\u200b' : escape(character);
}
