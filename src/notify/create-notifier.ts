import type { Clock } from '../common/clock.ts';
import { mediumOf } from '../common/webhook-medium.ts';
import type { Channel, WebhookChannel } from './channel.ts';
import { discordNotifier } from './discord.ts';
import { emailNotifier } from './email.ts';
import { healthchecksNotifier } from './healthchecks.ts';
import type { Notifier } from './notifier.ts';
import { ntfyNotifier } from './ntfy.ts';
import { slackNotifier } from './slack.ts';
import { telegramNotifier } from './telegram.ts';
import { webhookNotifier } from './webhook.ts';

export interface NotifierOptions {
  readonly clock: Clock;
  /** Another server of Telegram's API. Default: https://api.telegram.org */
  readonly telegramApiUrl?: string | undefined;
}

/** The adapter of a channel. Settings that cannot work show when something is sent. */
export function createNotifier(channel: Channel, { clock, telegramApiUrl }: NotifierOptions): Notifier {
  switch (channel.type) {
    case 'slack':
      return slackNotifier(channel.url, clock);
    case 'discord':
      return discordNotifier(channel.url, clock);
    case 'webhook':
      return hookNotifier(channel, clock);
    case 'ntfy':
      return ntfyNotifier(channel, clock);
    case 'healthchecks':
      return healthchecksNotifier(channel, clock);
    case 'telegram':
      return telegramNotifier(channel, clock, telegramApiUrl);
    case 'email':
      return emailNotifier(channel);
    default:
      return channel satisfies never;
  }
}

/** A plain webhook at Slack or Discord gets the body that is understood there. */
function hookNotifier(channel: WebhookChannel, clock: Clock): Notifier {
  switch (mediumOf(channel.url.reveal())) {
    case 'slack':
      return slackNotifier(channel.url, clock);
    case 'discord':
      return discordNotifier(channel.url, clock);
    default:
      return webhookNotifier(channel, clock);
  }
}
