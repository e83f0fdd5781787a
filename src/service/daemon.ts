import type { Config } from '../config/model.ts';
import { aborted } from '../common/aborted.ts';
import { asPgarkError, messageOf } from '../common/errors.ts';
import type { ProtectionState } from '../observability/protection-state.ts';
import { loadFormats } from '../operations/backup.ts';
import type { OperationContext } from '../operations/context.ts';
import { Throttle } from '../pipeline/throttle.ts';
import { logConnectivity } from './connectivity.ts';
import { logConfiguration, logKept, logNextRun } from './daemon-log.ts';
import { type DigestJob, runDueDigest } from './digest-run.ts';
import { TriedSeries } from './drill-series.ts';
import { VerifiedLines } from './verified-lines.ts';
import { runDue } from './due-run.ts';
import { type ProofWorld, runDueProof } from './proof-run.ts';
import type { ProofJob } from './proof-jobs.ts';
import type { Job } from './jobs.ts';
import { Slots } from './slots.ts';
import { Generation } from './generation.ts';
import { tidyMemoryWhenIdle } from './idle-memory.ts';
import { Listening } from './listening.ts';
import { type Observation, startObserving } from './observe.ts';
import type { JobWorld } from './run-job.ts';
import { RunProgress } from './run-progress.ts';
import { runTeller } from './run-teller.ts';
import { askAgain, scheduledJobs } from './scheduled-jobs.ts';
import { type Fired, type RunNews, Scheduler } from './scheduler.ts';
import { Turns } from './turns.ts';
import { WalReceivers } from './wal-receivers.ts';
import { WantedBases } from './wanted-bases.ts';
import { WatchedSources, wantedBackups, wantedWal } from './watched-sources.ts';
import type { Adapters } from './stores.ts';
import { Teller } from './tell.ts';

/** Beyond a lease's term: the store's clock may tell whole seconds, and a run notes its end after giving its lease back. */
const LEASE_MARGIN_MS = 5_000;

export interface DaemonOptions {
  /** Reads the configuration: for the start, and again for each reload. */
  readonly readConfig: () => Promise<Config>;
  readonly adapters: Adapters;
  /** The world that work with this configuration runs in. Its signal is one for the daemon to end the work by. */
  readonly contextOf: (config: Config, signal: AbortSignal) => OperationContext;
  /** Aborted: no run begins any more, and what runs has the grace period to end. */
  readonly signal: AbortSignal;
  /** Calls back at each request to reload; the function returned takes it back. */
  readonly onReload: (listener: () => void) => () => void;
  /** Of this process; hooks are given what programs need of it. */
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** How a server that is restored to try a backup gets archived WAL from a storage. Default: not at all. */
  readonly fetchFrom?: ProofWorld['fetchFrom'];
}

/**
 * Runs the configuration's jobs when they are due, until the signal is aborted; then what runs may end within the grace
 * period, is aborted after it, and this resolves. Rejects only at the start: with what is wrong with the configuration or
 * its jobs, or `listen-failed`. Listens for requests to reload from the moment of the call, before it returns.
 */
export async function runDaemon(options: DaemonOptions): Promise<void> {
  const made = Promise.withResolvers<Daemon>();
  const stopListening = options.onReload(() => void made.promise.then((daemon) => daemon.reload()));
  try {
    const daemon = new Daemon(await options.readConfig(), options);
    made.resolve(daemon);
    await daemon.start();
    await aborted(options.signal);
    await daemon.stop();
  } finally {
    stopListening();
  }
}

class Daemon {
  readonly #options: DaemonOptions;
  /** Ends the work that is still going on when the grace period is over. */
  readonly #abort = new AbortController();
  readonly #turns: Turns;
  /** Of each kind one at a time. */
  readonly #proofSlots = { verify: new Slots(1), drill: new Slots(1) };
  readonly #tried = new TriedSeries();
  readonly #verified = new VerifiedLines();
  readonly #bases: WantedBases;
  #generation: Generation;
  #scheduler: Scheduler | undefined;
  readonly #listening: Listening;
  #observation: Observation | undefined;
  /** The one before, of a configuration that was replaced: it answers until the new one knows what is in the storages. */
  #observed: Observation | undefined;
  readonly #teller: Teller;
  readonly #progress = new RunProgress();
  #wal: WalReceivers | undefined;
  /** Of all runs, also those that go on under a configuration that was replaced. */
  #throttle: Throttle | undefined;
  readonly #watched = new WatchedSources(wantedBackups);
  readonly #watchedWal = new WatchedSources(wantedWal);
  readonly #started = Promise.withResolvers<void>();
  #reloading: Promise<void> = this.#started.promise;
  /** Configurations that were replaced, until the last of their runs has ended. */
  readonly #retiring = new Set<Promise<void>>();
  #runs = 0;
  /** They run for the scheduler, and do nothing, by their ids. */
  readonly #waitingDigests = new Set<string>();
  /** Ends the questions of a configuration that was replaced. */
  #asking = new AbortController();

  constructor(config: Config, options: DaemonOptions) {
    this.#options = options;
    this.#turns = new Turns(config.concurrency);
    this.#generation = this.#generationOf(config);
    const { clock, random, logger } = this.#generation.context;
    this.#bases = new WantedBases({
      clock,
      turns: this.#turns,
      stopping: options.signal,
      nextRunNumber: () => (this.#runs += 1),
    });
    this.#listening = new Listening(() => ({
      state: () => this.#state(),
      version: this.#generation.context.pgarkVersion,
      logger: this.#generation.logger,
    }));
    this.#teller = new Teller({
      clock,
      random,
      logger,
      openStore: (storage) => this.#generation.stores.open(storage),
      hurry: options.signal,
    });
  }

  async start(): Promise<void> {
    const { config, logger, context } = this.#generation;
    logger.info('daemon.starting', `pgark ${context.pgarkVersion} starts on ${context.host}, pid ${context.pid}`, {
      version: context.pgarkVersion,
      host: context.host,
      pid: context.pid,
    });
    await loadFormats();
    logConfiguration(config, logger);
    await this.#listening.begin(config.server.listen);
    this.#wal = this.#receivers(this.#generation);
    this.#observation = this.#observe(this.#generation);
    const scheduler = new Scheduler({
      clock: context.clock,
      logger,
      timezone: config.timezone,
      jobs: await scheduledJobs(this.#generation, this.#options.signal),
      resumeAfterMs: config.leaseTermMs + LEASE_MARGIN_MS,
      run: (fired) => this.#run(fired),
    });
    this.#scheduler = scheduler;
    this.#logNextRuns();
    void logConnectivity(this.#generation);
    scheduler.start();
    this.#askAgain(this.#generation);
    const isIdle = (): boolean => this.#runningCount === 0;
    void tidyMemoryWhenIdle({ clock: context.clock, isIdle, signal: this.#options.signal });
    this.#started.resolve();
  }

  get #runningCount(): number {
    const running = this.#scheduler?.running.filter((id) => !this.#waitingDigests.has(id)) ?? [];
    return running.length + this.#bases.runningCount;
  }

  /** Reads the configuration again, after the start and after an earlier reload. */
  reload(): void {
    this.#reloading = this.#reloading.then(() => this.#reload());
  }

  /** Resolves when nothing runs any more. */
  async stop(): Promise<void> {
    await this.#reloading;
    const { logger, config, context } = this.#generation;
    const running = this.#runningCount;
    const { stopGraceMs } = config.server;
    const what = running === 0 ? 'nothing is running' : `${running} running, with ${stopGraceMs / 1_000} s to end`;
    logger.info('daemon.stopping', `stopping: ${what}`, { running, stopGraceMs });
    const ended = new AbortController();
    const grace = context.clock.sleep(stopGraceMs, ended.signal).then(
      () => this.#abort.abort(new Error('pgark is being stopped')),
      () => undefined,
    );
    await Promise.all([this.#scheduler?.stop(), this.#wal?.stop(), this.#bases.ended()]);
    ended.abort();
    await grace;
    this.#abort.abort(new Error('pgark has been stopped'));
    await this.#listening.end();
    await this.#observation?.close();
    this.#retire(this.#generation);
    await Promise.all(this.#retiring);
    logger.info('daemon.stopped', 'stopped');
  }

  async #run(fired: Fired): Promise<RunNews> {
    const generation = this.#generation;
    const job = generation.jobs.find(({ id }) => id === fired.id);
    const proof = generation.proofs.find(({ id }) => id === fired.id);
    const digest = generation.digests.find(({ id }) => id === fired.id);
    // It is no work on backups, and may be tried again under another configuration.
    if (digest !== undefined) return this.#sendDigest(digest, fired);
    if (job === undefined && proof === undefined) return {};
    return generation.use(async () => {
      const news = await this.#carryOut(job ?? proof, fired, generation);
      this.#observation?.refresh({ hasProven: proof !== undefined });
      const next = this.#scheduler?.nextRuns().get(fired.id);
      if (next !== undefined) logNextRun(generation.logger, fired.id, next);
      return news;
    });
  }

  #sendDigest(digest: DigestJob, fired: Fired): Promise<RunNews> {
    return runDueDigest(digest, fired, {
      current: () => this.#generation,
      teller: this.#teller,
      state: () => this.#state(),
      stopping: this.#options.signal,
      waiting: this.#waitingDigests,
    });
  }

  /** Undefined until it is known. */
  #state(): ProtectionState | undefined {
    return this.#observation?.state() ?? this.#observed?.state();
  }

  #carryOut(job: Job | ProofJob | undefined, fired: Fired, generation: Generation): Promise<RunNews> {
    const stopping = this.#options.signal;
    if (job === undefined) return Promise.resolve({});
    if ('kind' in job) {
      const { config, stores, context } = generation;
      const { fetchFrom } = this.#options;
      const known = { tried: this.#tried, verified: this.#verified };
      const world = { config, stores, context, teller: this.#teller, ...known, fetchFrom };
      return runDueProof(job, fired, { world, slots: this.#proofSlots[job.kind], stopping });
    }
    return runDue(job, fired, {
      world: this.#worldOf(generation),
      turns: this.#turns,
      retry: generation.config.retry,
      stopping,
      nextRunNumber: () => (this.#runs += 1),
    });
  }

  /** Applies the configuration as it is now; whatever is wrong with it leaves the one before as it is. */
  async #reload(): Promise<void> {
    const { signal, readConfig } = this.#options;
    if (signal.aborted) return;
    const before = this.#generation;
    before.logger.info('daemon.reloading', 'reading the configuration again');
    try {
      await this.#replace(before, this.#generationOf(await readConfig()));
    } catch (error) {
      logKept(before.logger, asPgarkError(error));
      return;
    }
    const { logger, config } = this.#generation;
    this.#throttle?.limitTo(config.bandwidthBytesPerSecond);
    await this.#observation?.close();
    if (this.#observation?.state() !== undefined) this.#observed = this.#observation;
    // One after the other: a slot is used by one at a time.
    await this.#wal?.stop();
    this.#wal = this.#receivers(this.#generation);
    this.#observation = this.#observe(this.#generation);
    logConfiguration(config, logger);
    logger.info('daemon.reloaded', 'the new configuration is in effect; what runs ends under the old one');
    this.#logNextRuns();
    void logConnectivity(this.#generation);
    this.#retire(before);
  }

  /** Puts what is configured now in the place of what was; or nothing of it, and whatever it has opened is closed. */
  async #replace(before: Generation, after: Generation): Promise<void> {
    const { config } = after;
    let isMoved = false;
    try {
      const jobs = await scheduledJobs(after, this.#options.signal);
      isMoved = await this.#listening.move(before.config.server.listen, config.server.listen);
      this.#scheduler?.replace(jobs, config.timezone);
    } catch (error) {
      if (isMoved) await this.#listening.move(config.server.listen, before.config.server.listen);
      this.#retire(after);
      throw error;
    }
    this.#generation = after;
    this.#askAgain(after);
    this.#turns.resize(config.concurrency);
  }

  /** Not waited for: what runs under a configuration must hold up neither the next reload nor the end. */
  #retire(generation: Generation): void {
    const retiring = generation
      .retire()
      .catch((error: unknown) =>
        generation.logger.warning('daemon.close_failed', `a storage could not be closed: ${messageOf(error)}`),
      )
      .finally(() => this.#retiring.delete(retiring));
    this.#retiring.add(retiring);
  }

  #generationOf(config: Config): Generation {
    const context = this.#options.contextOf(config, this.#abort.signal);
    const { adapters, environment } = this.#options;
    const limit = config.bandwidthBytesPerSecond;
    if (limit !== undefined) this.#throttle ??= new Throttle(limit, context.clock);
    return new Generation(config, {
      adapters,
      context,
      environment,
      throttle: limit === undefined ? undefined : this.#throttle,
    });
  }

  #receivers(generation: Generation): WalReceivers {
    const { config, context } = generation;
    return new WalReceivers({
      generation,
      adapters: this.#options.adapters,
      teller: this.#teller,
      watchedSince: this.#watchedWal.since(config, context.clock.now()),
      ...(this.#wal && { before: this.#wal.known() }),
      onBaseWanted: ({ name }) => {
        this.#bases.want(name, generation, this.#worldOf(generation));
        return generation.jobs.some(({ source, settings }) => source.name === name && settings.format === 'physical');
      },
    });
  }

  #worldOf(generation: Generation): JobWorld {
    const listener = runTeller(generation.config, this.#teller, () => generation.context.clock.now());
    return { ...generation.world(listener), progress: this.#progress };
  }

  #observe({ config, context, stores }: Generation): Observation {
    const { clock, random, logger } = context;
    return startObserving({
      config,
      clock,
      random,
      logger,
      openStore: (storage) => stores.open(storage),
      teller: this.#teller,
      progressRatios: () => this.#progress.ratios,
      wal: () => this.#wal?.states() ?? [],
      verified: this.#verified,
      watchedSince: this.#watched.since(config, clock.now()),
    });
  }

  #askAgain(generation: Generation): void {
    this.#asking.abort();
    this.#asking = new AbortController();
    const signal = AbortSignal.any([this.#options.signal, this.#asking.signal]);
    if (this.#scheduler !== undefined) void askAgain(generation, this.#scheduler, signal);
  }

  #logNextRuns(): void {
    const { logger, jobs, proofs, digests } = this.#generation;
    const next = this.#scheduler?.nextRuns() ?? new Map<string, Date>();
    for (const { id } of [...jobs, ...proofs, ...digests]) {
      const at = next.get(id);
      if (at !== undefined) logNextRun(logger, id, at);
    }
    // A digest protects nothing.
    if (![...jobs, ...proofs].some(({ id }) => next.has(id)))
      logger.warning('schedule.empty', 'no job has a schedule: no backup will run');
  }
}
