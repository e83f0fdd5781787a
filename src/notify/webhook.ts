import type { Clock } from '../common/clock.ts';
import type { WebhookChannel } from './channel.ts';
import { addressOf, request } from './http.ts';
import { digestJson } from './digest-json.ts';
import {
  type AboutSomething,
  type EventError,
  isProblem,
  type NotificationMessage,
  type ProblemEvent,
} from './message.ts';
import type { Notifier } from './notifier.ts';
import { shortText } from './render.ts';
import { signatureHeaders } from './standard-webhook.ts';
import { fit } from './words.ts';

const RECEIVER = 'the webhook';
/** Of `data`; it rises when a field changes its meaning or goes. */
const SCHEMA_VERSION = 1;
const ERROR_LENGTH_MAX = 2_000;

export function webhookNotifier(channel: WebhookChannel, clock: Clock): Notifier {
  return {
    async send({ id, message, note }, attempt) {
      const address = addressOf(channel.url, RECEIVER);
      const body = webhookBody(message, note);
      const headers = {
        'content-type': 'application/json; charset=utf-8',
        ...signatureHeaders(channel.secret, { id, at: clock.now(), body }),
      };
      await request({ receiver: RECEIVER, address, method: 'POST', headers, body, clock }, attempt);
      return {};
    },
  };
}

const problemTypes: Readonly<Record<ProblemEvent, string>> = {
  failure: 'backup.failed',
  overdue: 'backup.overdue',
  verify_failed: 'verify.failed',
  drill_failed: 'drill.failed',
  prune_refused: 'prune.refused',
  suspicious: 'backup.suspected',
  storage_size: 'storage.exceeded',
  wal_gap: 'wal.lost',
  wal_lag: 'wal.delayed',
  wal_slot: 'slot.filled',
};

/** `type` is of Standard Webhooks' form, thing and past participle; `data.event` is the word of the configuration. */
function typeOf(message: NotificationMessage): string {
  if (isProblem(message)) return problemTypes[message.event];
  switch (message.event) {
    case 'start':
      return 'backup.started';
    case 'success':
      return 'backup.succeeded';
    case 'recovery':
      return problemTypes[message.of].replace(/\.\w+$/, '.recovered');
    case 'digest':
      return 'digest.made';
    case 'test':
      return 'notification.test';
    default:
      return message satisfies never;
  }
}

/** JSON in Standard Webhooks' shape: `type`, `timestamp`, `data`. Names are as they are, times RFC 3339. */
export function webhookBody(message: NotificationMessage, note?: string): string {
  const envelope = { type: typeOf(message), timestamp: message.at.toISOString() };
  const shared = { schema_version: SCHEMA_VERSION, event: message.event, text: shortText(message, note) };
  if (message.event === 'test') return JSON.stringify({ ...envelope, data: { ...shared, channel: message.channel } });
  if (message.event === 'digest') return JSON.stringify({ ...envelope, data: { ...shared, ...digestJson(message) } });
  const { source, database, storage, job, runId } = message;
  const data = { ...shared, source, database, storage, job, run_id: runId, ...particularsOf(message) };
  return JSON.stringify({ ...envelope, data });
}

type Particulars = Readonly<Record<string, unknown>>;

function particularsOf(message: AboutSomething): Particulars {
  switch (message.event) {
    case 'start':
      return {};
    case 'success':
      return {
        backup_id: message.backupId,
        started_at: message.startedAt?.toISOString(),
        stored_bytes: message.storedBytes,
        next_try_at: message.nextTryAt?.toISOString(),
      };
    case 'failure':
      return {
        error: errorOf(message.error),
        started_at: message.startedAt?.toISOString(),
        ...lastGood(message),
        next_try_at: message.nextTryAt?.toISOString(),
      };
    case 'overdue':
      return {
        ...lastGood(message),
        max_age_seconds: seconds(message.maxAgeMs),
        next_try_at: message.nextTryAt?.toISOString(),
      };
    case 'verify_failed':
    case 'drill_failed':
      return {
        error: errorOf(message.error),
        backup_id: message.backupId,
        last_passed_at: timeOrNull(message.lastPassedAt),
      };
    case 'suspicious':
      return { error: errorOf(message.error), backup_id: message.backupId };
    case 'prune_refused':
    case 'storage_size':
    case 'wal_gap':
      return { error: errorOf(message.error) };
    case 'wal_lag':
    case 'wal_slot':
      return { error: errorOf(message.error), archived_until: message.archivedUntil?.toISOString() };
    case 'recovery':
      return {
        of: message.of,
        since: message.since.toISOString(),
        times_seen: message.timesSeen,
        backup_id: message.backupId,
        started_at: message.startedAt?.toISOString(),
        stored_bytes: message.storedBytes,
      };
    default:
      return message satisfies never;
  }
}

/** Field by field: an error object has more of them, and may be as long as a program's last words. */
function errorOf({ code, message, hint }: EventError): EventError {
  const short = (text: string): string => fit(text, { lengthMax: ERROR_LENGTH_MAX });
  return { code, message: short(message), hint: short(hint) };
}

/** null says that there is no good copy, an absent field that nothing is known of one. */
function lastGood(message: { readonly at: Date; readonly lastGoodAt?: Date | 'never' }): Particulars {
  const { at, lastGoodAt } = message;
  const age = lastGoodAt instanceof Date ? at.getTime() - lastGoodAt.getTime() : undefined;
  return { last_good_at: timeOrNull(lastGoodAt), last_good_age_seconds: seconds(age) };
}

function timeOrNull(time: Date | 'never' | undefined): string | null | undefined {
  return time === 'never' ? null : time?.toISOString();
}

function seconds(ms: number | undefined): number | undefined {
  return ms === undefined ? undefined : Math.floor(ms / 1_000);
}
