import { asPgarkError, PgarkError } from '../common/errors.ts';
import { nearest } from '../common/nearest.ts';
import { isRunId, type RunId } from '../repository/ids.ts';
import { findRunRecord, runIdsWith } from '../runs/find-runs.ts';
import { newestRuns } from '../runs/newest-runs.ts';
import { OpenRuns } from '../runs/open-runs.ts';
import { type LogLine, readRunLog, type RunLog } from '../runs/read-log.ts';
import type { OperationContext } from './context.ts';
import { type NamedStore, type RunSummary, summarise } from './list-runs.ts';

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
}

/**
 * The log of a run as it is now. A storage that fails is passed over with a warning. Errors: `run-not-found`, or `usage` for a
 * beginning that several have; that of a storage that failed, where no other one has the run.
 */
export async function showRunLog(request: RunLogRequest, context: OperationContext): Promise<RunLogPart> {
  const { id, storages } = await findRun(request, context);
  const run = await readRun(storages, id, context);
  const log = await readLog(storages, id, context);
  return { run, lines: log?.lines ?? [], linesCut: log?.linesCut ?? 0, hasLog: log !== undefined };
}

/** The log of a run, and what it goes on to say, until the run is over. Errors as of `showRunLog`. */
export async function* followRunLog(request: RunLogRequest, context: OperationContext): AsyncIterable<RunLogPart> {
  const { id, storages } = await findRun(request, context);
  let linesGiven = 0;
  for (let lastLooks = 0; ; ) {
    // The record first: what is in the log of a run that is over by then is all there is, or about to be.
    const run = await readRun(storages, id, context);
    const log = await readLog(storages, id, context);
    const from = Math.max(0, linesGiven - (log?.linesCut ?? 0));
    const lines = log?.lines.slice(from) ?? [];
    const linesCut = Math.max(0, (log?.linesCut ?? 0) - linesGiven);
    linesGiven += linesCut + lines.length;
    yield { run, lines, linesCut, hasLog: log !== undefined };
    if (run.state !== 'running') {
      lastLooks += 1;
      const isWhole = log?.lines.at(-1)?.event === 'run.ended';
      if (isWhole || run.endedAt === undefined || lastLooks >= LAST_LOOKS_MAX) return;
    }
    await context.clock.sleep(POLL_MS, context.signal);
  }
}

/** The run, and the storages that answer. */
async function findRun(
  { storages: all, run }: RunLogRequest,
  { signal, clock, logger }: OperationContext,
): Promise<{ readonly id: RunId; readonly storages: readonly NamedStore[] }> {
  const prefix = run.toUpperCase();
  const away: { readonly name: string; readonly error: PgarkError }[] = [];
  const looks = await Promise.all(
    all.map(async (storage) => {
      try {
        return [{ storage, ids: await runIdsWith(storage.store, prefix, { signal, idsMax: 3 }) }];
      } catch (thrown) {
        signal.throwIfAborted();
        away.push({ name: storage.name, error: asPgarkError(thrown) });
        return [];
      }
    }),
  );
  const answering = looks.flat();
  const storages = answering.map(({ storage }) => storage);
  const ids = [...new Set(answering.flatMap((each) => each.ids))].sort();
  const [only, another] = ids;
  const [failure] = away;
  if (only === undefined && failure !== undefined) {
    if (all.length === 1) throw failure.error;
    const words = away.map(({ name, error }) => `${name}: ${error.message}`).join('; ');
    const { code, hint } = failure.error;
    throw new PgarkError(code, `no storage that answers has a run ${run}; ${words}`, { hint, cause: failure.error });
  }
  for (const { name, error } of away) {
    const words = `storage ${name} is passed over: ${error.message}; it may know more of the run`;
    logger.warning('storage.passed_over', words, { storage: name, code: error.code });
  }
  if (only !== undefined && (another === undefined || only === prefix)) return { id: only, storages };
  if (only !== undefined) {
    throw new PgarkError('usage', `several runs begin with ${run}`, { hint: `say more of it: ${ids.join(', ')}` });
  }
  const since = new Date(clock.now().getTime() - RECENT_MS);
  const recent: string[] = [];
  for (const { store } of storages) {
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

async function readRun(storages: readonly NamedStore[], id: RunId, { signal }: OperationContext): Promise<RunSummary> {
  const found = await Promise.all(
    storages.map(async ({ name: storage, store }) => {
      const record = await findRunRecord(store, id, { signal });
      return record === undefined ? [] : [{ storage, record: await new OpenRuns(store, { signal }).settled(record) }];
    }),
  );
  const run = summarise(found.flat());
  if (run === undefined) throw new PgarkError('run-not-found', `there is no run ${id} any more`);
  return run;
}

/** A run says the same to all its storages; the one that heard most of it is asked. */
async function readLog(
  storages: readonly NamedStore[],
  id: RunId,
  { signal }: OperationContext,
): Promise<RunLog | undefined> {
  const logs = await Promise.all(storages.map(({ store }) => readRunLog(store, id, { signal })));
  const length = (log: RunLog | undefined): number => (log === undefined ? -1 : log.linesCut + log.lines.length);
  return logs.reduce((longest, log) => (length(log) > length(longest) ? log : longest), undefined);
}
