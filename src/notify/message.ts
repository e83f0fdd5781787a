import { createHash } from 'node:crypto';
import type { Digest } from './digest.ts';

/** What an event is about, and when it was. */
interface About {
  /** When it happened. */
  readonly at: Date;
  readonly source: string;
  /** Absent: the server as a whole (a physical backup), or nothing is known of a database yet. */
  readonly database?: string;
  /** Absent: it is about every destination, or happened before any was reached. */
  readonly storage?: string;
  readonly job?: string;
  readonly runId?: string;
  /** The run's log, or its last part, for channels that send it. As free of secrets as the log itself. */
  readonly log?: string;
}

export interface EventError {
  readonly code: string;
  /** What failed and why. */
  readonly message: string;
  /** What to do about it. */
  readonly hint: string;
}

/** Pings and webhooks only: people are not told of starts. */
interface Start extends About {
  readonly event: 'start';
}

/** A backup was committed. Ends `failure` and `overdue`. */
export interface Success extends About {
  readonly event: 'success';
  readonly startedAt?: Date;
  readonly backupId?: string;
  readonly storedBytes?: number;
  readonly nextTryAt?: Date;
}

/** A backup failed. */
interface Failure extends About {
  readonly event: 'failure';
  readonly error: EventError;
  readonly startedAt?: Date;
  /** When the newest backup that is there was made. Absent: not known. */
  readonly lastGoodAt?: Date | 'never';
  readonly nextTryAt?: Date;
}

/** The newest backup is older than it may be. */
interface Overdue extends About {
  readonly event: 'overdue';
  readonly lastGoodAt?: Date | 'never';
  readonly maxAgeMs?: number;
  readonly nextTryAt?: Date;
}

/** A stored backup is not what was written, or did not restore. */
interface ProofFailed extends About {
  readonly event: 'verify_failed' | 'drill_failed';
  readonly error: EventError;
  readonly backupId?: string;
  /** When such a check passed last. Absent: not known. */
  readonly lastPassedAt?: Date | 'never';
}

/** The circuit breaker of pruning: more than half of the backups would have gone, so none went. */
interface PruneRefused extends About {
  readonly event: 'prune_refused';
  readonly error: EventError;
}

/** A backup was committed that is smaller than it may be, or differs too much from the last good one: nothing was pruned. */
interface Suspicious extends About {
  readonly event: 'suspicious';
  readonly error: EventError;
  readonly backupId?: string;
}

/** A storage holds more of pgark's own than its `max_size`: backups go on. */
interface StorageOver extends About {
  readonly event: 'storage_size';
  readonly error: EventError;
}

/** WAL is missing for good: what was committed in it, and the moments until the next base backup, cannot be recovered to. */
interface WalGap extends About {
  readonly event: 'wal_gap';
  readonly error: EventError;
}

/**
 * WAL that the server has written is not archived in time (`wal_lag`), or makes the server keep more of it than it should
 * (`wal_slot`). Nothing is lost yet: what is not archived is on the server.
 */
interface WalHeldUp extends About {
  readonly event: 'wal_lag' | 'wal_slot';
  readonly error: EventError;
  /** All that was committed by then is archived. Absent: not known. */
  readonly archivedUntil?: Date;
}

/** What was told as a problem is right again. Made by the dispatcher, from a `success` or a `resolved`. */
export interface Recovery extends About {
  readonly event: 'recovery';
  readonly of: ProblemEvent;
  /** When the problem was seen first. */
  readonly since: Date;
  /** How often it was seen. */
  readonly timesSeen: number;
  readonly startedAt?: Date;
  readonly backupId?: string;
  readonly storedBytes?: number;
  readonly nextTryAt?: Date;
}

/** Somebody wants to see whether messages arrive. */
interface Test {
  readonly event: 'test';
  readonly at: Date;
  readonly channel: string;
}

export type Problem = Failure | Overdue | ProofFailed | PruneRefused | Suspicious | StorageOver | WalGap | WalHeldUp;
export type ProblemEvent = Problem['event'];

/** Everything that can be sent. */
export type NotificationMessage = Start | Success | Problem | Recovery | Digest | Test;

/** A message about something that happened, to something. */
export type AboutSomething = Exclude<NotificationMessage, Digest | Test>;
export type MessageEvent = NotificationMessage['event'];

/**
 * A verification or drill passed, a prune was carried out, a backup was as large as it should be, a storage too, a backup that somebody has made is
 * fresh, or WAL is archived in time: never sent as such, it ends the problem of that kind.
 */
export interface Resolved extends About {
  readonly event: 'resolved';
  readonly of: ProblemEvent;
}

/** Everything that a run or the watch over freshness may report to the dispatcher. */
export type NotificationEvent = Start | Success | Problem | Resolved;

export function isAboutSomething(message: NotificationMessage): message is AboutSomething {
  return message.event !== 'test' && message.event !== 'digest';
}

/** What is neither a problem nor named here does not compile: it would go out as a failure. */
const nonProblems = {
  start: true,
  success: true,
  resolved: true,
  recovery: true,
  digest: true,
  test: true,
} as const satisfies Record<Exclude<NotificationEvent['event'] | MessageEvent, ProblemEvent>, true>;

export function isProblem(event: NotificationEvent | NotificationMessage): event is Problem {
  return !Object.hasOwn(nonProblems, event.event);
}

/**
 * The same for the same message wherever and whenever it is sent, so that receivers can drop what a restarted process
 * sends twice. Letters, digits and `_-` only.
 */
export function messageId(message: NotificationMessage): string {
  const about = isAboutSomething(message)
    ? [message.source, message.database, message.storage, message.job, message.runId]
    : [message.channel];
  const identity = JSON.stringify([message.event, message.at.toISOString(), ...about.map((part) => part ?? null)]);
  return `msg_${createHash('sha256').update(identity).digest('base64url').slice(0, 27)}`;
}
