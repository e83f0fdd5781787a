import { messageOf } from '../common/errors.ts';
import { retryDelayMs, type RetryPolicy } from '../common/retry.ts';
import type { Config, StorageConfig } from '../config/model.ts';
import type { Schedule } from '../config/schedule.ts';
import type { ProtectionState } from '../observability/protection-state.ts';
import { isBeginning } from '../observability/wal-protection.ts';
import { noteOf, sourcesOf } from './digest-of.ts';
import { DueClaim } from './due-claim.ts';
import type { Generation } from './generation.ts';
import { isBelieved, makeDigest } from './make-digest.ts';
import type { Fired, RunNews } from './scheduler.ts';
import type { Teller } from './tell.ts';
import { timeLimit } from './time-limit.ts';

/** A channel that is sent a digest by schedule. */
export interface DigestJob {
  /** `mail (digest)`, as logs show it. */
  readonly id: string;
  readonly channel: string;
  readonly schedule: Schedule;
  /** Where it is noted that one is due. */
  readonly storages: readonly StorageConfig[];
}

/** Stands where claims have the name of a source. */
export const DIGESTS = '(digest)';

/** Between tries to send one that nobody took; the tries themselves have retries within seconds. */
const AGAIN: RetryPolicy = { retriesMax: Number.POSITIVE_INFINITY, delayMs: 5 * 60_000, delayMsMax: 60 * 60_000 };
/** So long the storages may take to tell what happened. */
const MAKE_MS_MAX = 10 * 60_000;
/** After a start it is not known at once how well everything is protected. */
const LOOK_MS = 1_000;

/** All channels that have one, and something to tell in it. */
export function planDigests(config: Config): readonly DigestJob[] {
  return [...config.notifications.values()].flatMap(({ name, digest: schedule }): readonly DigestJob[] => {
    if (schedule === undefined || sourcesOf(config, name).length === 0) return [];
    return [{ id: `${name} ${DIGESTS}`, channel: name, schedule, storages: [...config.storages.values()] }];
  });
}

export interface DueDigestOptions {
  /** The configuration that is in effect: a channel that does not take messages may be put right while it is tried again. */
  readonly current: () => Generation;
  readonly teller: Teller;
  /** Undefined as long as it is not known. */
  readonly state: () => ProtectionState | undefined;
  /** Aborted: nothing is tried any more, and the next start does it. */
  readonly stopping: AbortSignal;
  /** Has the id of the job while it waits, which may be for days and is no work. */
  readonly waiting: Set<string>;
}

/**
 * Sends a digest that is due, by one host of all, and tries again until the next one is due. Never rejects: what is not sent
 * fails nothing, and what it would have told is told by the next one.
 */
export async function runDueDigest(job: DigestJob, fired: Fired, options: DueDigestOptions): Promise<RunNews> {
  const { current, stopping } = options;
  const { context, logger } = current();
  try {
    const claim = new DueClaim({ ...job, source: DIGESTS, job: job.channel }, fired, current());
    const taken = await current().use(() => claim.take());
    if (taken !== undefined) return { last: taken.dueAt };
    for (let attempt = 1; ; attempt += 1) {
      if (await attemptOnce(job, fired, options)) {
        await claim.end();
        return {};
      }
      const pauseMs = retryDelayMs(AGAIN, attempt, context.random);
      const nextMs = fired.nextFireAt?.getTime() ?? Number.POSITIVE_INFINITY;
      if (context.clock.now().getTime() + pauseMs >= nextMs) {
        logger.warning('digest.failed', `${job.id} could not be sent; the next one tells of this time too`);
        return {};
      }
      await wait(job.id, pauseMs, options);
    }
  } catch (error) {
    if (stopping.aborted) logger.info('job.not_begun', `${job.id} is due and is left to the next start`);
    else logger.error('digest.failed', `${job.id}: ${messageOf(error)}`);
    return {};
  }
}

/** Whether there is nothing left to do. Rejects once nothing is to be tried any more. */
async function attemptOnce(
  { id, channel: name }: DigestJob,
  fired: Fired,
  options: DueDigestOptions,
): Promise<boolean> {
  const { teller, stopping } = options;
  const generation = options.current();
  const { config, context, logger, stores } = generation;
  const channel = config.notifications.get(name);
  if (channel?.digest === undefined || sourcesOf(config, name).length === 0) return true;
  const state = await stateOnceKnown(id, options);
  const limit = timeLimit(context.clock, MAKE_MS_MAX, `it took longer than ${MAKE_MS_MAX / 60_000} min`, stopping);
  try {
    return await generation.use(async () => {
      const known = await teller.known(config, name);
      const { last } = known;
      // By somebody who has asked for it, or by another host before this one took over.
      if (last !== undefined && isBelieved(last, state.at) && Date.parse(last.until) >= fired.dueAt.getTime())
        return true;
      const world = {
        context: { ...context, signal: limit.signal },
        openStore: (storage: StorageConfig) => stores.open(storage),
      };
      const digest = await makeDigest(config, { channel, state, ...known }, world);
      const { outcome } = await teller.digest(config, channel, digest, noteOf(digest));
      if (outcome === 'failed') return false;
      logger.info('digest.sent', `${id} sent`, { channel: name });
      return true;
    });
  } catch (error) {
    stopping.throwIfAborted();
    logger.warning('digest.failed', `${id} could not be made: ${messageOf(error)}`, { channel: name });
    return false;
  } finally {
    limit.end();
  }
}

/** What is held against nobody just after a start or a reload would be called protected: it is waited until it is known. */
async function stateOnceKnown(id: string, options: DueDigestOptions): Promise<ProtectionState> {
  for (;;) {
    const known = options.state();
    if (known !== undefined && isSettled(known)) return known;
    await wait(id, LOOK_MS, options);
  }
}

/** Where it is not to go on, it waits to its end. */
async function wait(id: string, ms: number, { current, stopping, waiting }: DueDigestOptions): Promise<void> {
  waiting.add(id);
  await current().context.clock.sleep(ms, stopping);
  waiting.delete(id);
}

/** Servers and storages were tried once, and WAL is judged. A try takes seconds, whatever hangs. */
function isSettled({ at, probes, wal }: ProtectionState): boolean {
  return probes.length > 0 && !wal.some((each) => isBeginning(each, at));
}
