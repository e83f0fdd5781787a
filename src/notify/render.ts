import { formatBytes, formatDuration } from '../common/bytes.ts';
import { digestLines, digestTitle } from './digest-text.ts';
import {
  type EventError,
  isAboutSomething,
  type NotificationMessage,
  type Problem,
  type ProblemEvent,
  type Recovery,
  type Success,
} from './message.ts';
import { dateAndTime, oneLine, roughly, timeSeenFrom, withoutStop } from './words.ts';

type Tone = 'good' | 'bad' | 'warning' | 'neutral';

/** A message in words, of no medium yet: plain text in which nothing is escaped, each part one line. */
export interface Rendering {
  readonly symbol: string;
  readonly tone: Tone;
  /** `shop: backup failed` */
  readonly title: string;
  /** The title and its reason: `shop: backup failed, r2: AccessDenied` */
  readonly lead: string;
  /** Whole sentences: what is still safe, when it is tried again, what to do. */
  readonly sentences: readonly string[];
}

export interface Fact {
  readonly label: string;
  readonly value: string;
}

const NAME_LENGTH_MAX = 100;
const REASON_LENGTH_MAX = 500;
const HINT_LENGTH_MAX = 300;

/** `✖ shop: backup failed, r2: AccessDenied. Last good copy 24 h ago. Next try 02:10 UTC. Fix: grant s3:PutObject.` */
export function shortText(message: NotificationMessage, note?: string): string {
  const { symbol, lead, sentences } = render(message);
  const parts = [`${symbol} ${lead}.`, ...sentences, ...(note === undefined ? [] : [note])];
  // A digest has as many parts as there are databases.
  return parts.join(message.event === 'digest' ? '\n' : ' ');
}

/** What a message says, sentence by sentence. */
export function render(message: NotificationMessage): Rendering {
  switch (message.event) {
    case 'start':
      return rendering('neutral', `${subjectOf(message)}: backup started`);
    case 'success':
      return rendering('good', `${subjectOf(message)}: backup succeeded`, reasonOf(message.storage, sizeOf(message)), [
        ...nextOf('Next backup', message),
      ]);
    case 'failure':
      return rendering(
        'bad',
        `${subjectOf(message)}: backup failed`,
        reasonOf(message.storage, message.error.message),
        [...lastGoodOf(message), ...nextOf('Next try', message), ...fixOf(message.error)],
      );
    case 'overdue':
      return rendering('warning', `${subjectOf(message)}: backup overdue`, reasonOf(message.storage), [
        ...lastGoodOf(message),
        ...(message.maxAgeMs === undefined ? [] : [`It may be no older than ${roughly(message.maxAgeMs)}.`]),
        ...nextOf('Next try', message),
        'Fix: pgark runs says what became of the last runs.',
      ]);
    case 'verify_failed':
    case 'drill_failed':
      return rendering(
        'bad',
        `${subjectOf(message)}: ${message.event === 'drill_failed' ? 'drill' : 'verification'} failed`,
        reasonOf(message.storage, message.error.message),
        [
          ...(message.backupId === undefined ? [] : [`Backup ${oneLine(message.backupId, NAME_LENGTH_MAX)}.`]),
          ...lastPassedOf(message.at, message.lastPassedAt),
          ...fixOf(message.error),
        ],
      );
    case 'prune_refused':
      return rendering(
        'warning',
        `${subjectOf(message)}: prune refused`,
        reasonOf(message.storage, message.error.message),
        fixOf(message.error),
      );
    case 'suspicious':
      return rendering(
        'warning',
        `${subjectOf(message)}: backup suspicious`,
        reasonOf(message.storage, message.error.message),
        ['It is kept, and nothing was pruned.', ...fixOf(message.error)],
      );
    case 'storage_size':
      return rendering(
        'warning',
        `${subjectOf(message)}: storage too large`,
        reasonOf(message.storage, message.error.message),
        fixOf(message.error),
      );
    case 'wal_gap':
      return rendering('bad', `${subjectOf(message)}: WAL is lost`, reasonOf(message.storage, message.error.message), [
        ...fixOf(message.error),
      ]);
    case 'wal_lag':
    case 'wal_slot':
      return rendering(
        'bad',
        `${subjectOf(message)}: ${message.event === 'wal_lag' ? 'WAL is not archived' : 'replication slot fills up'}`,
        reasonOf(message.storage, message.error.message),
        [...archivedOf(message), ...fixOf(message.error)],
      );
    case 'recovery':
      return rendering('good', `${subjectOf(message)}: ${againWords[message.of]}`, reasonOf(message.storage), [
        historyOf(message),
        ...newCopyOf(message),
      ]);
    case 'digest':
      return rendering(message.standing.length === 0 ? 'good' : 'bad', digestTitle(message), '', digestLines(message));
    case 'test':
      return rendering('good', `pgark: test of the channel ${oneLine(message.channel, NAME_LENGTH_MAX)}`, '', [
        'Notifications arrive here.',
      ]);
    default:
      return message satisfies never;
  }
}

/** The facts of a message one by one, for media that have room for a table. */
export function factsOf(message: NotificationMessage): readonly Fact[] {
  if (!isAboutSomething(message)) return [];
  const found: [string, string | undefined][] = [
    ['Source', message.source],
    ['Database', message.database],
    ['Storage', message.storage],
    ['Job', message.job],
    ['Run', message.runId],
    ['Backup', 'backupId' in message ? message.backupId : undefined],
    ['Started', 'startedAt' in message && message.startedAt ? dateAndTime(message.startedAt) : undefined],
    ['Time', dateAndTime(message.at)],
    ['Last good copy', 'lastGoodAt' in message ? timeOrNever(message.lastGoodAt) : undefined],
    [
      'Archived until',
      'archivedUntil' in message && message.archivedUntil ? dateAndTime(message.archivedUntil) : undefined,
    ],
    ['Next try', 'nextTryAt' in message && message.nextTryAt ? dateAndTime(message.nextTryAt) : undefined],
    ['Error', 'error' in message ? message.error.code : undefined],
  ];
  return found.flatMap(([label, value]) =>
    value === undefined ? [] : [{ label, value: oneLine(value, REASON_LENGTH_MAX) }],
  );
}

const symbols: Readonly<Record<Tone, string>> = { good: '✔', bad: '✖', warning: '⚠', neutral: '▶' };

const againWords: Readonly<Record<ProblemEvent, string>> = {
  failure: 'backup works again',
  overdue: 'backup is up to date again',
  verify_failed: 'verification passes again',
  drill_failed: 'drill passes again',
  prune_refused: 'prune works again',
  suspicious: 'backup has the expected size again',
  storage_size: 'storage is not too large any more',
  wal_gap: 'recovery works again from here on',
  wal_lag: 'WAL is archived in time again',
  wal_slot: 'replication slot holds back little again',
};

const seenWords: Readonly<Record<ProblemEvent, string>> = {
  failure: 'Failed',
  overdue: 'Overdue',
  verify_failed: 'Failed',
  drill_failed: 'Failed',
  prune_refused: 'Refused',
  suspicious: 'Suspicious',
  storage_size: 'Too large',
  wal_gap: 'Lost',
  wal_lag: 'Not archived',
  wal_slot: 'Filled',
};

function rendering(tone: Tone, title: string, reason = '', sentences: readonly string[] = []): Rendering {
  return { symbol: symbols[tone], tone, title, lead: `${title}${reason}`, sentences };
}

/** `shop`, or `crm/orders` for a database of another name than its source. */
function subjectOf(message: { readonly source: string; readonly database?: string }): string {
  const { source, database = source } = message;
  const names = database === source ? [source] : [source, database];
  return names.map((name) => oneLine(name, NAME_LENGTH_MAX)).join('/');
}

function reasonOf(storage: string | undefined, why?: string): string {
  const place = storage === undefined ? '' : `, ${oneLine(storage, NAME_LENGTH_MAX)}`;
  return why === undefined ? place : `${place}: ${withoutStop(oneLine(why, REASON_LENGTH_MAX))}`;
}

function lastGoodOf(message: { readonly at: Date; readonly lastGoodAt?: Date | 'never' }): readonly string[] {
  const { at, lastGoodAt } = message;
  if (lastGoodAt === undefined) return [];
  return lastGoodAt === 'never' ? ['There is no good copy yet.'] : [`Last good copy ${ago(at, lastGoodAt)}.`];
}

function lastPassedOf(at: Date, lastPassedAt: Date | 'never' | undefined): readonly string[] {
  if (lastPassedAt === undefined) return [];
  return lastPassedAt === 'never' ? ['It has never passed.'] : [`It passed last ${ago(at, lastPassedAt)}.`];
}

function archivedOf({ archivedUntil }: { readonly archivedUntil?: Date }): readonly string[] {
  if (archivedUntil === undefined) return [];
  const until = dateAndTime(archivedUntil);
  return [`All that was committed until ${until} is archived; what came after it is on the server alone.`];
}

function ago(now: Date, time: Date): string {
  return `${roughly(Math.max(0, now.getTime() - time.getTime()))} ago`;
}

function nextOf(what: string, message: { readonly at: Date; readonly nextTryAt?: Date }): readonly string[] {
  return message.nextTryAt === undefined ? [] : [`${what} ${timeSeenFrom(message.at, message.nextTryAt)}.`];
}

function fixOf(error: EventError): readonly string[] {
  const hint = withoutStop(oneLine(error.hint, HINT_LENGTH_MAX));
  return hint === '' ? [] : [`Fix: ${hint}.`];
}

/** `1.2 GiB in 3 min 05 s`; undefined if the size is not known. */
function sizeOf(message: Success | Recovery): string | undefined {
  if (message.storedBytes === undefined) return undefined;
  const size = formatBytes(message.storedBytes);
  if (message.startedAt === undefined) return size;
  return `${size} in ${formatDuration(message.at.getTime() - message.startedAt.getTime())}`;
}

function historyOf(message: Recovery): string {
  const since = dateAndTime(message.since);
  if (isLooked(message.of)) return `${seenWords[message.of]} since ${since}.`;
  if (message.timesSeen === 1) return `${seenWords[message.of]} once, ${since}.`;
  return `${seenWords[message.of]} ${message.timesSeen} times since ${since}.`;
}

/** How often it was seen says how often somebody looked. */
function isLooked(event: ProblemEvent): boolean {
  return event === 'overdue' || event === 'wal_lag' || event === 'wal_slot';
}

function newCopyOf(message: Recovery): readonly string[] {
  const size = sizeOf(message);
  return size === undefined ? [] : [`New copy: ${size}.`];
}

function timeOrNever(time: Problem['at'] | 'never' | undefined): string | undefined {
  return time === undefined || time === 'never' ? time : dateAndTime(time);
}
