import { asPgarkError, PgarkError } from '../common/errors.ts';
import type { BackupFilter } from '../repository/repository.ts';
import { newestRuns } from '../runs/newest-runs.ts';
import { OpenRuns } from '../runs/open-runs.ts';
import type { RunKind, RunRecord } from '../runs/run-record.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import type { OperationContext } from './context.ts';

/** A storage by the name that the configuration gives it. */
export interface NamedStore {
  readonly name: string;
  readonly store: ObjectStore;
}

/** `partial`: succeeded in some storages and not in others. */
export type RunState = RunRecord['state'] | 'partial';

/** What a run came to in one storage. */
export interface RunOutcomeIn {
  readonly storage: string;
  /** `interrupted` also where the run died without a word. */
  readonly state: RunRecord['state'];
  readonly endedAt: string | undefined;
  readonly result: RunRecord['result'];
  readonly error: RunRecord['error'];
}

export interface RunSummary {
  readonly id: string;
  readonly kind: RunKind;
  readonly source: string | undefined;
  readonly database: string | undefined;
  readonly host: string;
  readonly pid: number;
  readonly startedAt: string;
  /** When it ended everywhere; undefined while it goes on somewhere, or if it died without a word. */
  readonly endedAt: string | undefined;
  readonly state: RunState;
  readonly storages: readonly RunOutcomeIn[];
  readonly pgarkVersion: string;
}

export interface ListRunsRequest {
  readonly storages: readonly NamedStore[];
  readonly since: Date;
  readonly limit: number;
  /** Only runs that came to this, as a whole or in one storage. */
  readonly state: RunState | undefined;
  /** Runs of one source or database; those over a whole storage are left out then. */
  readonly filter: BackupFilter;
  /** A storage that takes longer to tell of the next run is given up; what it has told by then counts. Default: none is. */
  readonly waitMsMax?: number;
}

export interface RunListing {
  /** The newest first. */
  readonly runs: readonly RunSummary[];
  /** There are more that match. */
  readonly hasMore: boolean;
  readonly damaged: readonly { readonly storage: string; readonly key: string; readonly error: PgarkError }[];
  /** Storages that could not be read; the others were. */
  readonly failures: readonly { readonly storage: string; readonly error: PgarkError }[];
}

/** What one storage still has to tell, newest first. */
interface Source {
  readonly storage: string;
  readonly runs: AsyncGenerator<RunRecord>;
  /** Aborted when it is given up. */
  readonly late: AbortController;
  next: RunRecord | undefined;
}

/**
 * What ran, the newest first. A run that wrote into several storages has a record in each, and is one run here. Reads no
 * more than it takes to have as many as are wanted.
 */
export async function listRuns(request: ListRunsRequest, context: OperationContext): Promise<RunListing> {
  const { signal } = context;
  const { waitMsMax } = request;
  const damaged: RunListing['damaged'][number][] = [];
  const failures: RunListing['failures'][number][] = [];
  const advance = async (source: Source): Promise<void> => {
    try {
      const { value } = await (waitMsMax === undefined
        ? source.runs.next()
        : nextWithin(waitMsMax, source, context.clock));
      source.next = value ?? undefined;
    } catch (error) {
      signal.throwIfAborted();
      failures.push({ storage: source.storage, error: asPgarkError(error) });
      source.next = undefined;
    }
  };
  const sources = request.storages.map(({ name: storage, store }): Source => {
    const onDamaged = (key: string, error: PgarkError): void => void damaged.push({ storage, key, error });
    const late = new AbortController();
    const call = { signal: AbortSignal.any([signal, late.signal]) };
    const newest = newestRuns(store, { since: request.since, ...call, onDamaged });
    return { storage, runs: settled(newest, new OpenRuns(store, call)), late, next: undefined };
  });
  await Promise.all(sources.map(advance));
  const runs: RunSummary[] = [];
  for (;;) {
    const newest = sources.reduce((id, { next }) => (next !== undefined && next.id > id ? next.id : id), '');
    if (newest === '') return { runs, hasMore: false, damaged, failures };
    const having = sources.filter(({ next }) => next?.id === newest);
    const summary = summarise(
      having.flatMap(({ storage, next }) => (next === undefined ? [] : { storage, record: next })),
    );
    await Promise.all(having.map(advance));
    if (summary === undefined || !matches(summary, request)) continue;
    if (runs.length >= request.limit) return { runs, hasMore: true, damaged, failures };
    runs.push(summary);
  }
}

/** Also of a storage that takes no notice of signals, such as a file system that hangs. */
async function nextWithin(
  ms: number,
  { runs, late }: Source,
  clock: OperationContext['clock'],
): Promise<IteratorResult<RunRecord, undefined>> {
  const done = new AbortController();
  const tooLate = clock.sleep(ms, done.signal).then((): never => {
    const error = new PgarkError('store-unreachable', `no answer within ${ms / 1_000} s`);
    late.abort(error);
    throw error;
  });
  try {
    return await Promise.race([runs.next(), tooLate]);
  } finally {
    done.abort();
  }
}

async function* settled(records: AsyncIterable<RunRecord>, open: OpenRuns): AsyncGenerator<RunRecord> {
  for await (const record of records) yield await open.settled(record);
}

/** One run of its records in several storages, with those that died marked; undefined of none. */
export function summarise(
  found: readonly { readonly storage: string; readonly record: RunRecord }[],
): RunSummary | undefined {
  const [first] = found;
  if (first === undefined) return undefined;
  const { id, kind, source, database, host, pid, startedAt, pgarkVersion } = first.record;
  const storages = found.map(({ storage, record: { state, endedAt, result, error } }) => ({
    storage,
    state,
    endedAt,
    result,
    error,
  }));
  const ends = storages.map(({ endedAt }) => endedAt);
  const endedAt = ends.includes(undefined)
    ? undefined
    : ends
        .flatMap((end) => end ?? [])
        .sort()
        .at(-1);
  const state = overall(storages.map((each) => each.state));
  return { id, kind, source, database, host, pid, startedAt, endedAt, state, storages, pgarkVersion };
}

function overall(states: readonly RunRecord['state'][]): RunState {
  if (states.includes('running')) return 'running';
  if (states.every((state) => state === 'succeeded')) return 'succeeded';
  if (states.includes('succeeded')) return 'partial';
  return states.includes('failed') ? 'failed' : 'interrupted';
}

function matches(run: RunSummary, { state, filter }: ListRunsRequest): boolean {
  if (state !== undefined && run.state !== state && !run.storages.some((each) => each.state === state)) return false;
  // A restore knows the database only.
  if (filter.source !== undefined && run.source !== undefined && run.source !== filter.source) return false;
  return filter.database === undefined || run.database === filter.database;
}
