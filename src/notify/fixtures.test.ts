import { describe, expect, test } from 'vitest';
import { hostileName, sampleMessages } from '../../test/support/notifications.ts';
import { discordBody } from './discord.ts';
import { emailBody } from './email-body.ts';
import { pingBody } from './healthchecks.ts';
import type { NotificationMessage } from './message.ts';
import { ntfyBody } from './ntfy.ts';
import { shortText } from './render.ts';
import { slackBody } from './slack.ts';
import { telegramBody } from './telegram.ts';
import { webhookBody } from './webhook.ts';

/** Run vitest with -u to write the files again after a change of texts or bodies, and read what has changed. */
const bodies: Readonly<Record<string, (message: NotificationMessage) => string>> = {
  text: (message) => shortText(message),
  webhook: (message) => webhookBody(message),
  slack: (message) => slackBody(message),
  discord: (message) => discordBody(message),
  telegram: (message) => telegramBody('-100123', message),
  ntfy: (message) => ntfyBody('backups', message),
  email: (message) => {
    const { subject, text, html } = emailBody(message);
    return `Subject: ${subject}\n\n${text}\n${html}`;
  },
  healthchecks: (message) => Buffer.from(pingBody(message, undefined) ?? []).toString(),
};

describe.each(Object.entries(bodies))('the body for %s', (medium, bodyOf) => {
  test.each(Object.entries(sampleMessages))('of %s is the one of the fixed file', async (name, message) => {
    await expect(bodyOf(message)).toMatchFileSnapshot(`fixtures/${medium}/${name}.txt`);
  });
});

const parsed = (body: string): Record<string, unknown> => JSON.parse(body) as Record<string, unknown>;

describe('a name that is markup', () => {
  const { hostile } = sampleMessages;

  test('calls nobody in Slack: what is not a block of plain text has no bracket and no whole mention', () => {
    const { text, blocks } = parsed(slackBody(hostile));
    expect(text).not.toMatch(/[<>]|@(channel|here|everyone)/);
    expect(JSON.stringify(blocks)).not.toMatch(/mrkdwn|[<>]/);
  });

  test('calls nobody in Discord: no mention is allowed, and all markup is escaped', () => {
    const body = parsed(discordBody(hostile));
    expect(body['allowed_mentions']).toEqual({ parse: [] });
    expect(body['content']).not.toMatch(/@(everyone|here)|(?<!\\)[*_~`|<>[\]]/);
  });

  test('calls nobody in Telegram, where no markup is read at all', () => {
    const body = parsed(telegramBody('1', hostile));
    expect(body['text']).not.toMatch(/@[A-Za-z]/);
    expect(body).not.toHaveProperty('parse_mode');
  });

  test('stays a text in ntfy, which reads markup only where asked to', () => {
    expect(parsed(ntfyBody('t', hostile))).not.toHaveProperty('markdown');
  });

  test('makes no element of HTML, and no further line of a mail', () => {
    const { subject, text, html } = emailBody(hostile);
    expect(html).not.toMatch(/<img|<!channel/);
    expect(subject).not.toMatch(/[\r\n]/);
    expect(text).not.toMatch(/^Bcc:/m);
  });

  test('arrives as it is where a program reads it', () => {
    const { data } = JSON.parse(webhookBody(hostile)) as { data: { source: string } };
    expect(data.source).toBe(hostileName);
  });
});

describe('a digest of names that are markup', () => {
  const hostile = sampleMessages['digest-attention'];

  test('calls nobody, and makes no element of HTML', () => {
    const { text: fallback, blocks } = parsed(slackBody(hostile));
    expect(fallback).not.toMatch(/[<>]|@(channel|here|everyone)/);
    expect(JSON.stringify(blocks)).not.toMatch(/mrkdwn|[<>]/);
    expect(discordBody(hostile)).not.toMatch(/@(everyone|here)/);
    expect(telegramBody('1', hostile)).not.toMatch(/@[A-Za-z]/);
    const { subject, text, html } = emailBody(hostile);
    expect(html).not.toMatch(/<img|<!channel/);
    expect(subject).not.toMatch(/[\r\n]/);
    expect(text).not.toMatch(/^Bcc:/m);
  });
});

/** More databases than any chat has room for, of which the last one is in need. */
const largeDigest = (() => {
  const { digest, 'digest-attention': wanting } = sampleMessages;
  const databases = Array.from({ length: 300 }, (_, index) => ({ ...digest.databases[0], source: `shop${index}` }));
  return { ...wanting, databases: [...databases, wanting.databases[1]] };
})();

describe('a digest of many databases', () => {
  test('names those in need first, and says how many are not named', () => {
    const { subject, text } = emailBody(largeDigest);
    expect(subject).toBe(`pgark: 1 of 301 databases needs attention: ${hostileName}/orders`);
    expect(text).toContain('shop299');
    expect(shortText(largeDigest)).toMatch(/Databases:\n✖ .*orders — .*\n✔ shop0\/shop — /);
    expect(shortText(largeDigest)).toContain('… and 289 more');
  });
});

describe('the longest message', () => {
  test.each([
    ['Slack, as a digest', () => slackBody(largeDigest), 3_000],
    ['Discord, as a digest', () => discordBody(largeDigest), 2_000],
    ['Telegram, as a digest', () => telegramBody('1', largeDigest), 4_096],
    ['ntfy, as a digest', () => ntfyBody('t', largeDigest), 4_096],
    ['Slack', () => slackBody(sampleMessages.long), 3_000],
    ['Discord', () => discordBody(sampleMessages.long), 2_000],
    ['Telegram', () => telegramBody('1', sampleMessages.long), 4_096],
    ['ntfy', () => ntfyBody('t', sampleMessages.long), 4_096],
  ])('is within what %s takes', (_, bodyOf, lengthMax) => {
    const texts: string[] = [];
    JSON.parse(bodyOf(), (_key, value: unknown) => {
      if (typeof value === 'string') texts.push(value);
      return value;
    });
    expect(Math.max(...texts.map((text) => Buffer.byteLength(text.replaceAll(/[\u2060\u200b]/g, ''))))).toBeGreaterThan(
      500,
    );
    expect(Math.max(...texts.map((text) => text.length))).toBeLessThanOrEqual(lengthMax);
  });
});
