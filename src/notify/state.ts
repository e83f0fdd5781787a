import { z } from 'zod';
import type { NotificationEvent, Problem, ProblemEvent } from './message.ts';
import { isProblem } from './message.ts';

const time = z.iso.datetime();

/** What a later version adds is kept as it is: it may be that one and this one take turns. */
const problemSchema = z.looseObject({
  /** One that this version does not know is no event's, and stays. */
  event: z.string(),
  source: z.string(),
  database: z.string().optional(),
  storage: z.string().optional(),
  job: z.string().optional(),
  since: time,
  lastSeenAt: time,
  timesSeen: z.number().int().positive(),
  /** Which channel was told of which error, and when last. */
  told: z.array(z.looseObject({ channel: z.string(), code: z.string(), at: time })),
  /** It is over, and kept for channels that have not heard of that yet. */
  endedAt: time.optional(),
});

/** Up to when a channel's last digest has told what was done, and what lay in the storages then. */
const digestSchema = z.looseObject({
  channel: z.string(),
  until: time,
  stored: z.array(z.looseObject({ storage: z.string(), bytes: z.number().nonnegative() })),
});

/**
 * What was told to whom: plain data that is kept between runs (in the bucket), so that a one-shot run neither repeats what
 * the daemon has said nor misses its recoveries.
 */
export const notificationStateSchema = z.looseObject({
  layout: z.literal(1),
  /** What is wrong at present, in the order in which it was seen last. */
  problems: z.array(problemSchema),
  /** How many messages each channel may still be sent, as of a time. */
  allowances: z.array(z.object({ channel: z.string(), messages: z.number().nonnegative(), at: time })),
  /** Missing where an earlier version has written it, which knows of no digests. */
  digests: z.array(digestSchema).optional(),
});

export type NotificationState = Readonly<z.infer<typeof notificationStateSchema>>;
export type LastDigest = Readonly<z.infer<typeof digestSchema>>;
export type OpenProblem = Readonly<z.infer<typeof problemSchema>>;
/** One of those that this version knows. */
export type KnownProblem = OpenProblem & { readonly event: ProblemEvent };

export const emptyNotificationState: NotificationState = { layout: 1, problems: [], allowances: [] };

/** The ones that were seen last are kept; of others a repetition is told again, and no recovery. */
const PROBLEMS_MAX = 2_000;

/** What tells one error from another within the same problem. */
export function codeOf(problem: Problem): string {
  return problem.event === 'overdue' ? 'overdue' : problem.error.code;
}

export function openProblemOf(state: NotificationState, event: Problem): OpenProblem | undefined {
  return state.problems.find((problem) => isSame(problem, event));
}

/** What tells one problem from another. */
type Identity = Pick<OpenProblem, 'event' | 'source' | 'database' | 'storage' | 'job'>;

function isSame(problem: OpenProblem, event: Problem): boolean {
  return (
    problem.event === event.event &&
    problem.source === event.source &&
    problem.database === event.database &&
    problem.storage === event.storage &&
    problem.job === event.job
  );
}

/** The open problems that an event shows to be over. */
export function endedBy(state: NotificationState, event: NotificationEvent): readonly KnownProblem[] {
  return state.problems.filter((problem): problem is KnownProblem => isEndedBy(problem, event));
}

/**
 * A problem of the whole (no storage reached, no database found) is over when a part works; a problem of one storage is
 * over when that storage works, or when all do (no storage named).
 */
export function isEndedBy(problem: Identity, event: NotificationEvent): boolean {
  const fits = (one: string | undefined, other: string | undefined): boolean => one === undefined || one === other;
  return (
    endsKind(event, problem.event) &&
    problem.source === event.source &&
    fits(problem.database, event.database) &&
    isOfJob(problem, event) &&
    (event.storage === undefined || fits(problem.storage, event.storage))
  );
}

function endsKind(event: NotificationEvent, kind: string): boolean {
  if (event.event === 'success') return kind === 'failure' || kind === 'overdue';
  return event.event === 'resolved' && event.of === kind;
}

/** Backups are fresh in one format, which their job stands for, and say nothing of those that other jobs make. */
function isOfJob(problem: Identity, event: NotificationEvent): boolean {
  if (event.event === 'resolved' && event.of === 'overdue') return problem.job === event.job;
  return event.job === undefined || problem.job === undefined || problem.job === event.job;
}

/** How a message to one channel ended, as far as the state is concerned. */
export interface Told {
  readonly channel: string;
  readonly event: string;
  readonly delivered: boolean;
}

/** The state after one event, and after what was told because of it. */
export function afterEvent(
  state: NotificationState,
  event: NotificationEvent,
  told: readonly Told[],
): NotificationState {
  return isProblem(event) ? afterProblem(state, event, told) : afterEnd(state, event, told);
}

function afterProblem(state: NotificationState, event: Problem, told: readonly Told[]): NotificationState {
  const known = openProblemOf(state, event);
  const at = event.at.toISOString();
  const code = codeOf(event);
  const { source, database, storage, job } = event;
  const reached = told.filter(({ delivered }) => delivered).map(({ channel }) => channel);
  const problem: OpenProblem = {
    event: event.event,
    source,
    ...(database === undefined ? {} : { database }),
    ...(storage === undefined ? {} : { storage }),
    ...(job === undefined ? {} : { job }),
    since: known?.since ?? at,
    lastSeenAt: at,
    timesSeen: (known?.timesSeen ?? 0) + 1,
    told: [
      ...(known?.told ?? []).filter((entry) => !(entry.code === code && reached.includes(entry.channel))),
      ...reached.map((channel) => ({ channel, code, at })),
    ],
  };
  const others = state.problems.filter((other) => other !== known);
  return { ...state, problems: [...others, problem].slice(-PROBLEMS_MAX) };
}

/** What has ended is forgotten, except by channels that were to hear of it and could not be reached: next time, then. */
function afterEnd(state: NotificationState, event: NotificationEvent, told: readonly Told[]): NotificationState {
  const ended: readonly OpenProblem[] = endedBy(state, event);
  if (ended.length === 0) return state;
  const missed = told.filter((one) => one.event === 'recovery' && !one.delivered).map(({ channel }) => channel);
  const problems = state.problems.flatMap((problem) => {
    if (!ended.includes(problem)) return [problem];
    const owed = problem.told.filter(({ channel }) => missed.includes(channel));
    return owed.length === 0 ? [] : [{ ...problem, told: owed, endedAt: event.at.toISOString() }];
  });
  return { ...state, problems };
}

export function lastDigestTo(state: NotificationState, channel: string): LastDigest | undefined {
  return state.digests?.find((digest) => digest.channel === channel);
}

/** The state after a digest was delivered. */
export function afterDigest(state: NotificationState, digest: LastDigest): NotificationState {
  const others = (state.digests ?? []).filter(({ channel }) => channel !== digest.channel);
  return { ...state, digests: [...others, digest] };
}
