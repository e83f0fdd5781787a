import { PgarkError } from '../common/errors.ts';
import { nearest } from '../common/nearest.ts';
import { isRunId, type RunId } from '../repository/ids.ts';
import { findRunRecord, runIdsWith } from '../runs/find-runs.ts';
import { newestRuns } from '../runs/newest-runs.ts';
import { OpenRuns } from '../runs/open-runs.ts';
import { type LogLine, readRunLog, type RunLog } from '../runs/read-log.ts';
import { AskedStorages } from './asked-storages.ts';
import type { OperationContext } from './context.ts';
import { type NamedStore, type RunListing, type RunSummary, summarise } from './list-runs.ts';

/** How often a log that is followed is looked at; its run writes it every ten seconds or so. */
const POLL_MS = 2_000;
/** After the run's end: how often to look for the log's last lines, which are written beside the record. */
const LAST_LOOKS_MAX = 3;
const SUGGESTIONS_MAX = 3;
/** Ids to suggest one of: those of recent runs. */
const RECENT_MS = 30 * 86_400_000;
const RECENT_RUNS_MAX = 500;

export interface RunLogRequest {
  readonly storages: readonly NamedStore[];
  /** Others that could not be opened: they are passed over, as one that does not answer. */
  readonly unopened?: RunListing['failures'];
  /** A run's id, or the beginning of one that no other run has. */
  readonly run: string;
}

/** A run and what was new in its log. */
export interface RunLogPart {
  readonly run: RunSummary;
  readonly lines: readonly LogLine[];
  /** Lines before these that were not kept. */
  readonly linesCut: number;
  /** Whether there is a log at all: old ones are deleted. */
  readonly hasLog: boolean;
  /** Why it is not known whether there is one, where no storage that answers has it. */
  readonly unknown: PgarkError | undefined;
}

interface LogNow extends Pick<RunLogPart, 'run' | 'unknown'> {
  readonly log: RunLog | undefined;
}

/**
 * The log of a run as it is now. A storage that fails is passed over with a warning. Errors: `run-not-found`, or `usage` for a
 * beginning that several have; that of a storage that failed, where no other one has the run.
 */
export async function showRunLog(request: RunLogRequest, context: OperationContext): Promise<RunLogPart> {
  const storages = new AskedStorages(request.storages, request.unopened);
  const id = await findRun(request, storages, context);
  const { run, log, unknown } = await readRun(storages, id, context);
  return { run, lines: log?.lines ?? [], linesCut: log?.linesCut ?? 0, hasLog: log !== undefined, unknown };
}

/** The log of a run, and what it goes on to say, until the run is over. Errors as of `showRunLog`. */
export async function* followRunLog(request: RunLogRequest, context: OperationContext): AsyncIterable<RunLogPart> {
  const storages = new AskedStorages(request.storages, request.unopened);
  const id = await findRun(request, storages, context);
  let linesGiven = 0;
  for (let lastLooks = 0; ; ) {
    const { run, log, unknown } = await readRun(storages, id, context);
    const from = Math.max(0, linesGiven - (log?.linesCut ?? 0));
    const lines = log?.lines.slice(from) ?? [];
    const linesCut = Math.max(0, (log?.linesCut ?? 0) - linesGiven);
    linesGiven += linesCut + lines.length;
    yield { run, lines, linesCut, hasLog: log !== undefined, unknown };
    if (run.state !== 'running') {
      lastLooks += 1;
      const isWhole = log?.lines.at(-1)?.event === 'run.ended';
      if (isWhole || run.endedAt === undefined || lastLooks >= LAST_LOOKS_MAX) return;
    }
    await context.clock.sleep(POLL_MS, context.signal);
  }
}

/** The one run that is meant. */
async function findRun(
  { run }: RunLogRequest,
  storages: AskedStorages,
  { signal, clock }: OperationContext,
): Promise<RunId> {
  const prefix = run.toUpperCase();
  const looks = await storages.ask(signal, (store) => runIdsWith(store, prefix, { signal, idsMax: 3 }));
  const ids = [...new Set(looks.flatMap(({ value }) => value))].sort();
  const [only, another] = ids;
  if (only !== undefined && (another === undefined || only === prefix)) return only;
  if (only !== undefined) {
    throw new PgarkError('usage', `several runs begin with ${run}`, { hint: `say more of it: ${ids.join(', ')}` });
  }
  const unknown = storages.unknown(`a run ${run}`);
  if (unknown !== undefined) throw unknown;
  const since = new Date(clock.now().getTime() - RECENT_MS);
  const recent: string[] = [];
  for (const { store } of storages.answering) {
    for await (const { id } of newestRuns(store, { since, signal, recordsMax: RECENT_RUNS_MAX })) recent.push(id);
  }
  const close = isRunId(prefix) ? nearest(prefix, recent, SUGGESTIONS_MAX) : nearestStarts(prefix, recent);
  const hint = close.length === 0 ? {} : { hint: `did you mean ${close.join(' or ')}?` };
  throw new PgarkError('run-not-found', `there is no run ${run}`, hint);
}

/** Of ids of which only the beginning was given. */
function nearestStarts(prefix: string, ids: readonly string[]): string[] {
  const starts = nearest(
    prefix,
    ids.map((id) => id.slice(0, prefix.length)),
    SUGGESTIONS_MAX,
  );
  return starts.flatMap((start) => ids.find((id) => id.startsWith(start)) ?? []);
}

/** What is known of it now. */
async function readRun(storages: AskedStorages, id: RunId, { signal, logger }: OperationContext): Promise<LogNow> {
  const records = await storages.ask(signal, async (store) => {
    const record = await findRunRecord(store, id, { signal });
    return record === undefined ? [] : [await new OpenRuns(store, { signal }).settled(record)];
  });
  const found = records.flatMap(({ storage, value }) => value.map((record) => ({ storage, record })));
  const run = summarise(found);
  if (run === undefined) {
    throw storages.unknown(`the run ${id}`) ?? new PgarkError('run-not-found', `there is no run ${id} any more`);
  }
  // After the record: what is in the log of a run that is over by then is all there is, or about to be.
  const logs = await storages.ask(signal, (store) => readRunLog(store, id, { signal }));
  // A run says the same to all its storages; the one that heard most of it counts.
  const length = (log: RunLog | undefined): number => (log === undefined ? -1 : log.linesCut + log.lines.length);
  const log = logs.reduce<RunLog | undefined>(
    (longest, { value }) => (length(value) > length(longest) ? value : longest),
    undefined,
  );
  const unknown = log === undefined ? storages.unknown(`the log of ${id}`) : undefined;
  if (unknown !== undefined && storages.answering.length === 0) throw unknown;
  storages.warn(logger);
  return { run, log, unknown };
}
