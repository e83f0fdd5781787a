import type { Logger } from '../common/log.ts';
import type { Tracing } from '../common/tracer.ts';
import type { Config } from '../config/model.ts';
import type { OperationContext } from '../operations/context.ts';
import type { Throttle } from '../pipeline/throttle.ts';
import { type DigestJob, planDigests } from './digest-run.ts';
import { type Job, planJobs } from './jobs.ts';
import { planProofs, type ProofJob } from './proof-jobs.ts';
import type { JobWorld } from './run-job.ts';
import type { RunListener } from './run-listener.ts';
import { type Adapters, Stores } from './stores.ts';

/**
 * A configuration while it is in effect, with its jobs, stores and tracing. Runs that began under it end under it, whatever
 * comes after; its stores are closed behind the last of them.
 */
export class Generation {
  readonly config: Config;
  readonly jobs: readonly Job[];
  readonly proofs: readonly ProofJob[];
  readonly digests: readonly DigestJob[];
  readonly stores: Stores;
  readonly context: OperationContext;
  readonly #adapters: Adapters;
  readonly #tracing: Tracing;
  readonly #environment: JobWorld['environment'];
  readonly #users = new Set<Promise<unknown>>();

  /** Throws what is wrong with the configuration's jobs. */
  constructor(
    config: Config,
    {
      adapters,
      context,
      environment,
      throttle,
    }: {
      readonly adapters: Adapters;
      /** Of the process: configurations that follow one another share it. */
      readonly throttle?: Throttle | undefined;
      readonly context: OperationContext;
      readonly environment: JobWorld['environment'];
    },
  ) {
    this.config = config;
    for (const warning of config.warnings) context.logger.warning('config.warning', warning);
    const sources = [...config.databases.values()];
    // Who only receives WAL, or tries backups of others, has no jobs, and needs none.
    const mayBeNone = sources.some(({ wal, verify, drill }) => [wal, verify, drill].some((each) => each !== undefined));
    const wanted = { sources, prunes: true, mayBeNone };
    this.jobs = planJobs(config, wanted, context.logger);
    this.proofs = planProofs(config);
    this.digests = planDigests(config);
    // From here on there is something to close.
    this.#tracing = adapters.openTracing(config.traces, context.logger);
    this.context = { ...context, tracer: this.#tracing.tracer };
    this.#adapters = adapters;
    this.#environment = environment;
    this.stores = new Stores(adapters, context.logger, throttle);
  }

  get logger(): Logger {
    return this.context.logger;
  }

  world(listener: RunListener | undefined): JobWorld {
    const { config, stores, context } = this;
    return { config, stores, adapters: this.#adapters, context, environment: this.#environment, listener };
  }

  /** Keeps the stores open for the work. */
  async use<T>(work: () => Promise<T>): Promise<T> {
    const using = work();
    const settled = using.catch(() => undefined);
    this.#users.add(settled);
    try {
      return await using;
    } finally {
      this.#users.delete(settled);
    }
  }

  /** Closes the stores when nobody works with them any more, and sends the last spans. */
  async retire(): Promise<void> {
    await Promise.all(this.#users);
    await Promise.all([this.stores.close(), this.#tracing.close()]);
  }
}
