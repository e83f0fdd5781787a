import type { Secret } from '../common/secret.ts';

/** What a channel may be subscribed to. A refused prune, a suspicious backup and a storage over its size go to whoever wants failures. */
export type Subscription =
  | 'start'
  | 'success'
  | 'failure'
  | 'recovery'
  | 'overdue'
  | 'verify_failed'
  | 'drill_failed'
  | 'wal_gap'
  | 'wal_lag'
  | 'wal_slot';

interface ChannelCommon {
  readonly name: string;
  readonly on: readonly Subscription[];
  /** A problem that lasts is told again after this time. Absent: never. */
  readonly remindEveryMs?: number;
}

export interface SmtpServer {
  readonly host: string;
  readonly port: number;
  /** TLS from the first byte; else STARTTLS where offered, and demanded where there is a password. */
  readonly tls: boolean;
  readonly user?: string;
  readonly password?: Secret;
}

interface ChatHook extends ChannelCommon {
  readonly type: 'slack' | 'discord';
  readonly url: Secret;
}

export interface WebhookChannel extends ChannelCommon {
  readonly type: 'webhook';
  readonly url: Secret;
  /** `whsec_` and base64, as Standard Webhooks writes it; any other text is the key itself, in UTF-8. */
  readonly secret?: Secret;
}

export interface NtfyChannel extends ChannelCommon {
  readonly type: 'ntfy';
  /** Server and topic: `https://ntfy.example.com/backups`. */
  readonly url: Secret;
  readonly token?: Secret;
}

export interface HealthchecksChannel extends ChannelCommon {
  readonly type: 'healthchecks';
  /** The ping URL; `/start` and `/fail` are appended. */
  readonly url: Secret;
  /** The last part of the log goes with the ping, this much of it at the most. Absent: none. */
  readonly sendLogBytes?: number;
}

export interface TelegramChannel extends ChannelCommon {
  readonly type: 'telegram';
  readonly token: Secret;
  /** `-1001234567890` or `@channel`. */
  readonly chat: string;
}

export interface EmailChannel extends ChannelCommon {
  readonly type: 'email';
  readonly smtp: SmtpServer;
  readonly from: string;
  readonly to: readonly string[];
}

/** Where messages go. Addresses of hooks are secrets: whoever knows them may post. */
export type Channel = ChatHook | WebhookChannel | NtfyChannel | HealthchecksChannel | TelegramChannel | EmailChannel;

/**
 * Who is at the other end. `people` are told as little as possible, once; `machine` gets every kind of event; `ping` is a
 * watchdog that needs a sign of every single run.
 */
export type Audience = 'people' | 'machine' | 'ping';

export function audienceOf(channel: Channel): Audience {
  if (channel.type === 'healthchecks') return 'ping';
  return channel.type === 'webhook' ? 'machine' : 'people';
}
