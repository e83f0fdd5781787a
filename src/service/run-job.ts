import { assert, asPgarkError, isPgarkError, PgarkError } from '../common/errors.ts';
import { silentLogger } from '../common/log.ts';
import type { Config, StorageConfig } from '../config/model.ts';
import { backup, type BackupOutcome } from '../operations/backup.ts';
import type { OperationContext, Progress } from '../operations/context.ts';
import type { Sealer } from '../pipeline/encryption/sealer.ts';
import type { RetentionPolicy } from '../retention/policy.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { type ResolvedDatabase, resolveDatabases } from './databases.ts';
import { recordEarlyFailure } from './early-failure.ts';
import { backupGlobalsOf } from './globals.ts';
import { callHooksAfter, callHooksBefore } from './job-hooks.ts';
import { type JobOutcome, type JobReport, type JobResult, type JobWork, runIdOf } from './job-report.ts';
import { databaseOf, type Job, templateOf } from './jobs.ts';
import { LogExcerpt } from './log-excerpt.ts';
import { mayPruneAfter, pruneAfter } from './prune-after.ts';
import { type RunListener, tellEnded, tellStarted } from './run-listener.ts';
import type { RunProgress } from './run-progress.ts';
import { measureReached } from './storage-sizes.ts';
import type { Adapters, Stores } from './stores.ts';

export interface JobRequest {
  readonly job: Job;
  /** Only these of the job's storages. Default: all. */
  readonly storages?: readonly StorageConfig[];
  /** Only what failed before, of these. Default: everything. */
  readonly retried?: readonly JobResult[];
  /** What came of the rest, which is not tried again. Default: there is none. */
  readonly standing?: readonly JobResult[];
  /** What is pruned by afterwards; undefined deletes nothing. */
  readonly retention: RetentionPolicy | undefined;
  /** Read each stored object back before the commit. */
  readonly readBack: boolean;
  /** Make every check, then stop. */
  readonly dryRun: boolean;
  /** Id of the backup that an incremental one is to be relative to. Default: the newest. */
  readonly from?: string | undefined;
  /** When what failed will be tried again, for the report. Default: it will not. */
  readonly nextTryAt?: (results: readonly JobResult[], endedAt: Date) => Date | undefined;
}

/** What jobs are carried out with. */
export interface JobWorld {
  readonly config: Pick<Config, 'timezone' | 'leaseTermMs' | 'decryptionKeys' | 'storages'>;
  readonly stores: Stores;
  readonly adapters: Pick<Adapters, 'sealerOf'>;
  readonly context: OperationContext;
  /** Of this process; hooks are given what programs need of it. */
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly listener?: RunListener | undefined;
  /** Is told how far its runs are. */
  readonly progress?: RunProgress | undefined;
}

/** A job for one of its source's databases. */
export interface DatabaseRequest extends JobRequest {
  readonly database: ResolvedDatabase;
}

/** Stands for a database in reports: what belongs to the server as a whole. */
export const GLOBALS = '(globals)';

/** A storage that is open. */
interface Destination {
  readonly name: string;
  readonly store: ObjectStore;
}

/**
 * Carries a job out once: hooks before, backup, prune, hooks after. What fails is in the report and stops nothing else.
 * Rejects only with the reason of the context's signal, after which nothing half-done is left.
 */
export async function runJob(request: JobRequest, world: JobWorld): Promise<JobReport> {
  const { job, dryRun } = request;
  const { context, listener } = world;
  const startedAt = context.clock.now();
  const excerpt = new LogExcerpt(context.clock);
  const onProgress = (progress: Progress): void => {
    if (excerpt.runId !== undefined) world.progress?.note(excerpt, excerpt.runId, progress);
    context.onProgress(progress);
  };
  const heard = { ...world, context: { ...context, onProgress, logger: excerpt.wrap(context.logger) } };
  if (!dryRun) await tellStarted(listener, job, context.logger);
  const { results, standing, globalsIn } = await workOf(request, heard);
  world.progress?.end(excerpt);
  const sizes = await measureReached(request.storages ?? job.storages, results, heard);
  for (const { error } of results)
    if (error !== undefined) excerpt.wrap(silentLogger).error('backup.failed', `${error.message}; ${error.hint}`);
  const endedAt = context.clock.now();
  const nextTryAt = context.signal.aborted ? undefined : request.nextTryAt?.(results, endedAt);
  const ended = { endedAt, runId: runIdOf(results) ?? excerpt.runId, log: excerpt.text() };
  const report = { job, startedAt, ...ended, results, standing, globalsIn, sizes, nextTryAt };
  if (!dryRun) await tellEnded(listener, report, context.logger);
  // Whoever is told of runs is told of one that was cut off too; whoever asked for it wanted its end.
  context.signal.throwIfAborted();
  return report;
}

type Attempted = Pick<JobWork, 'results' | 'globalsIn'>;

async function workOf(request: JobRequest, world: JobWorld): Promise<JobWork> {
  if (request.dryRun) return withStanding(request, await backUp(request, world));
  const isTooLate = world.context.signal.aborted;
  try {
    await callHooksBefore(request, world);
  } catch (error) {
    const failed = withStanding(request, await failedBefore(request, error, world));
    // One that has begun may have switched off what is to be switched on again.
    if (!isTooLate) await callHooksAfter(request, world, failed);
    return failed;
  }
  const work = withStanding(request, await backUp(request, world));
  await callHooksAfter(request, world, work);
  return work;
}

/** What came of a database or of the globals now takes the place of what came of them before. */
function withStanding({ standing = [] }: JobRequest, { results, globalsIn }: Attempted): JobWork {
  const isReplaced = ({ database, storage }: JobResult): boolean =>
    results.some((result) => result.storage === storage && result.database === database) ||
    (database === GLOBALS && globalsIn.includes(storage));
  return { results, standing: standing.filter((result) => !isReplaced(result)), globalsIn };
}

async function backUp(request: JobRequest, world: JobWorld): Promise<Attempted> {
  const { job, storages = job.storages, retried } = request;
  let sealer: Sealer | undefined;
  let databases: readonly ResolvedDatabase[];
  try {
    sealer = await world.adapters.sealerOf(job.settings.encryption);
    databases = await databasesOf(job, world.context);
  } catch (error) {
    return failedBefore(request, error, world);
  }
  const destinations: Destination[] = [];
  const results: JobResult[] = [];
  for (const storage of storages) {
    try {
      destinations.push({ name: storage.name, store: await world.stores.open(storage) });
    } catch (error) {
      results.push(...failedIn(request, [storage], asPgarkError(error)));
    }
  }
  for (const database of databases) {
    const wanted = destinations.filter(({ name }) => isWanted(database.name, name, retried));
    if (wanted.length === 0) continue;
    const { signal } = world.context;
    if (signal.aborted) {
      // Said once, be it of the database that was under way or of those that would have followed.
      const isSaid = results.some(({ error }) => error?.code === 'interrupted');
      if (!isSaid) results.push(...failedIn({ job }, wanted, interrupted(signal.reason)));
      break;
    }
    results.push(...(await backUpTo(wanted, sealer, { ...request, database }, world)));
  }
  // What the patterns choose no more still has no backup.
  const known = new Set([GLOBALS, ...databases.map(({ name }) => name)]);
  const opened = new Set(destinations.map(({ name }) => name));
  const gone = retried?.filter(({ database, storage }) => !known.has(database ?? GLOBALS) && opened.has(storage));
  results.push(...(gone ?? []));
  // The files of a server hold its globals.
  if (job.settings.format === 'physical') return { results, globalsIn: [] };
  // Roles are of use with data only; and a server that is away is told of once.
  const reached = new Set(results.filter(({ outcome }) => outcome?.kind === 'committed').map(({ storage }) => storage));
  const owed = new Set(retried?.filter(({ database }) => database === GLOBALS).map(({ storage }) => storage));
  const served = destinations.filter(({ name }) => reached.has(name) || owed.has(name));
  const globals = await backUpGlobals(served, sealer, { ...request, owed }, world);
  return { results: [...results, ...globals.results], globalsIn: globals.globalsIn };
}

/** What failed of no database that is known is about all of them. */
function isWanted(database: string, storage: string, retried: JobRequest['retried']): boolean {
  return (
    retried === undefined ||
    retried.some((failed) => failed.storage === storage && (failed.database ?? database) === database)
  );
}

/** A physical backup is of the whole server, whichever databases of it the source names. */
async function databasesOf({ source, settings }: Job, context: OperationContext): Promise<readonly ResolvedDatabase[]> {
  const { connection } = source;
  if (settings.format === 'physical') return [{ name: connection.database, connection }];
  return resolveDatabases(source, context);
}

/**
 * What belongs to no database. Its failure is told of and stops nothing; its success needs no words. `owed`: the storages where
 * it failed before.
 */
async function backUpGlobals(
  destinations: readonly Destination[],
  sealer: Sealer | undefined,
  { job, retention, owed }: JobRequest & { readonly owed: ReadonlySet<string> },
  { config, context }: JobWorld,
): Promise<Attempted> {
  const how = { leaseTermMs: config.leaseTermMs, prune: retention !== undefined };
  const seal = { compression: job.settings.compression, sealer };
  const results: JobResult[] = [];
  const globalsIn: string[] = [];
  for (const { name, store } of destinations) {
    if (context.signal.aborted) break;
    try {
      const stored = await backupGlobalsOf(job.source, { store, seal, ...how }, context);
      if (stored !== undefined) globalsIn.push(name);
    } catch (error) {
      // Another job of the same source stores them at this moment.
      if (isPgarkError(error, 'locked') && !owed.has(name)) continue;
      const base = { database: GLOBALS, storage: name, location: store.location };
      results.push({ ...base, outcome: undefined, error: asPgarkError(error), pruned: undefined });
    }
  }
  return { results, globalsIn };
}

/** Whatever kept the whole job from beginning, and the record of it. */
async function failedBefore(request: JobRequest, thrown: unknown, world: JobWorld): Promise<Attempted> {
  const { job, storages = job.storages, dryRun } = request;
  const error = world.context.signal.aborted ? interrupted(thrown) : asPgarkError(thrown);
  if (!dryRun) await recordEarlyFailure(job, storages, error, world);
  return { results: failedIn(request, storages, error), globalsIn: [] };
}

/** What was owed there stays so, of the same databases: what earlier attempts have made is not made again. */
function failedIn(
  { job: { source }, retried }: Pick<JobRequest, 'job' | 'retried'>,
  storages: readonly Pick<StorageConfig, 'name'>[],
  error: PgarkError,
): readonly JobResult[] {
  const failed = { location: undefined, outcome: undefined, error, pruned: undefined };
  const names = new Set(storages.map(({ name }) => name));
  const owed = retried?.filter(({ storage }) => names.has(storage));
  if (owed !== undefined) return owed.map(({ database, storage }) => ({ ...failed, database, storage }));
  // Of the database that is asked nothing would ever end the failure.
  return storages.map(({ name }) => ({ ...failed, database: databaseOf(source), storage: name }));
}

/** One dump into all storages, each of which has its own outcome. The only place that knows how `backup` is called. */
async function backUpTo(
  destinations: readonly Destination[],
  sealer: Sealer | undefined,
  request: DatabaseRequest,
  world: JobWorld,
): Promise<readonly JobResult[]> {
  const { source, settings } = request.job;
  const errors = new Map<string, PgarkError>();
  const failed = ({ name, store }: Destination, error: PgarkError): JobResult => ({
    ...resultIn(name, store, request),
    outcome: undefined,
    error,
    pruned: undefined,
  });
  let outcome: BackupOutcome;
  try {
    outcome = await backup(
      {
        source: source.name,
        connection: request.database.connection,
        destinations: destinations.map(({ name, store }) => ({
          name,
          store,
          needsDelete: request.retention !== undefined,
        })),
        seal: { compression: settings.compression, sealer },
        format: settings.format,
        nameTemplate: templateOf(settings),
        jobs: settings.parallel,
        excludeTableData: settings.excludeTableData,
        checkpoint: settings.checkpoint,
        rateBytesPerSecondMax: settings.rateBytesPerSecondMax,
        incremental: settings.incremental
          ? { from: request.from, fullEvery: settings.fullEvery, keys: world.config.decryptionKeys }
          : undefined,
        sizeExpected: { minBytes: source.expect?.minSizeBytes, changeRatioMax: source.expect?.sizeChangeRatio },
        leaseTermMs: world.config.leaseTermMs,
        readBack: request.readBack,
        dryRun: request.dryRun,
        onDestination: ({ name, error }) => {
          if (error !== undefined) errors.set(name, error);
        },
      },
      world.context,
    );
  } catch (error) {
    return destinations.map((destination) => failed(destination, errors.get(destination.name) ?? asPgarkError(error)));
  }
  const results: JobResult[] = [];
  const isTrusted = mayPruneAfter(outcome, request, world.context.logger);
  for (const destination of destinations) {
    const { name, store } = destination;
    const done = outcomeIn(name, outcome);
    if (done instanceof PgarkError) results.push(failed(destination, done));
    else {
      const pruned = isTrusted && done.kind === 'committed' ? await pruneAfter(destination, request, world) : undefined;
      results.push({ ...resultIn(name, store, request), outcome: done, error: undefined, pruned });
    }
  }
  return results;
}

function resultIn(
  name: string,
  store: ObjectStore,
  { database }: DatabaseRequest,
): Pick<JobResult, 'database' | 'storage' | 'location'> {
  return { database: database.name, storage: name, location: store.location };
}

/** What has come of one of a backup's destinations. */
function outcomeIn(name: string, outcome: BackupOutcome): JobOutcome | PgarkError {
  if (outcome.kind === 'checked') {
    const { key, client, database } = outcome;
    const error = outcome.destinations.find((each) => each.name === name)?.error;
    return error ?? { kind: 'checked', key, client, database };
  }
  const ended = outcome.destinations.find((each) => each.name === name);
  assert(ended !== undefined, 'each destination has its outcome');
  if (ended.error !== undefined) return ended.error;
  const { manifest } = ended;
  const durationMs = Date.parse(manifest.endedAt) - Date.parse(manifest.startedAt);
  return { kind: 'committed', manifest, durationMs };
}

function interrupted(cause: unknown): PgarkError {
  return new PgarkError('interrupted', 'the backup was interrupted; nothing half-done was kept', { cause });
}
