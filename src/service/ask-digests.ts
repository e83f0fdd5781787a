import type { Config, NotificationConfig } from '../config/model.ts';
import { PgarkError } from '../common/errors.ts';
import { digestJson } from '../notify/digest-json.ts';
import type { Delivery } from '../notify/dispatcher.ts';
import { digestBody, type EmailBody } from '../notify/email-body.ts';
import type { ProtectionState } from '../observability/protection-state.ts';
import type { OperationContext } from '../operations/context.ts';
import { noteOf, sourcesOf } from './digest-of.ts';
import { makeDigest } from './make-digest.ts';
import { Teller, type TellWorld } from './tell.ts';

/** A digest that somebody has asked for. */
export interface AskedDigest {
  readonly channel: NotificationConfig;
  readonly facts: Readonly<Record<string, unknown>>;
  /** As a mail has it. */
  readonly body: Pick<EmailBody, 'subject' | 'text'>;
  /** Undefined: it was not to be sent. */
  readonly delivery: Delivery | undefined;
}

export interface AskDigestsRequest {
  readonly channels: readonly NotificationConfig[];
  readonly state: ProtectionState;
  /** Default: since the last one of each channel. */
  readonly since: Date | undefined;
  readonly isDry: boolean;
}

/** Makes a digest for each of the channels, and sends it unless it is only to be looked at. */
export async function askDigests(
  config: Config,
  { channels, state, since, isDry }: AskDigestsRequest,
  world: TellWorld & { readonly context: OperationContext },
): Promise<readonly AskedDigest[]> {
  const teller = new Teller(world);
  const asked: AskedDigest[] = [];
  for (const channel of channels) {
    const known = await teller.known(config, channel.name);
    const digest = await makeDigest(config, { channel, state, ...known, since }, world);
    const delivery = isDry ? undefined : await teller.digest(config, channel, digest, noteOf(digest));
    asked.push({ channel, facts: digestJson(digest), body: digestBody(digest), delivery });
  }
  return asked;
}

/** Those named, or all that have a digest. Errors: `usage`, `config-missing`. */
export function digestChannels(config: Config, names: readonly string[]): readonly NotificationConfig[] {
  const all = [...config.notifications.values()];
  const chosen =
    names.length === 0
      ? all.filter(({ digest }) => digest !== undefined)
      : [...new Set(names)].map((name) => channelOf(config, name));
  if (chosen.length === 0) {
    throw new PgarkError('config-missing', 'no notification has a digest', {
      hint: 'name one, or give it a time: digest: "0 8 * * 1" in the section notifications of the configuration file',
    });
  }
  for (const { name } of chosen) {
    if (sourcesOf(config, name).length > 0) continue;
    throw new PgarkError(
      'config-missing',
      `the notification ${name} is named by no database: there is nothing to tell`,
      {
        hint: 'name it in defaults.notify, or in notify of a database',
      },
    );
  }
  return chosen;
}

function channelOf(config: Config, name: string): NotificationConfig {
  const channel = config.notifications.get(name);
  if (channel === undefined) {
    throw new PgarkError('usage', `there is no notification called ${name} in the configuration`, {
      hint: `it has: ${[...config.notifications.keys()].join(', ') || 'none at all'}`,
    });
  }
  if (channel.type !== 'healthchecks') return channel;
  throw new PgarkError('usage', `${name} is a ping: it has nobody to read a digest`, {
    hint: 'name a notification of another type',
  });
}
