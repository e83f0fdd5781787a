import type { Config, NotificationConfig, StorageConfig } from '../config/model.ts';
import type { Schedule } from '../config/schedule.ts';
import { asPgarkError } from '../common/errors.ts';
import type { Digest } from '../notify/digest.ts';
import type { LastDigest, OpenProblem } from '../notify/state.ts';
import { DueTimes } from '../observability/expectations.ts';
import type { ProtectionState } from '../observability/protection-state.ts';
import type { OperationContext } from '../operations/context.ts';
import { listRuns, type NamedStore, type RunListing } from '../operations/list-runs.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { digestOf, sourcesOf } from './digest-of.ts';
import { CLOCK_TRUST_MS } from './due-times.ts';
import { timeLimit, untilAborted } from './time-limit.ts';

/** What is summed up the first time, where no schedule says how often it is done. */
const FIRST_MS = 7 * 86_400_000;
/** Runs that began so long before are looked for too: they may have ended since. */
const RUN_MS_MAX = 2 * 86_400_000;
/** As many are read; more are more than anybody reads of. */
const RUNS_MAX = 10_000;
/** So far back a digest goes that nobody took for longer; further, where the next one is not due sooner. */
const BACK_MS_MAX = 35 * 86_400_000;
/** A storage that takes longer to open, or to tell of the next run, is told of in the digest instead. */
const STORAGE_MS_MAX = 2 * 60_000;

export interface DigestRequest {
  readonly channel: NotificationConfig;
  readonly state: ProtectionState;
  /** What was noted of the channel's last digest. */
  readonly last: LastDigest | undefined;
  /** What was told as a problem and is not over. */
  readonly problems: readonly OpenProblem[];
  /** Default: since the last one. */
  readonly since?: Date | undefined;
}

interface DigestWorld {
  readonly context: OperationContext;
  readonly openStore: (storage: StorageConfig) => Promise<ObjectStore>;
}

/** A digest as of the state given. A storage that cannot be read is told of in it. Rejects with the signal's reason only. */
export async function makeDigest(
  config: Config,
  { channel, state, last, problems, since: wanted }: DigestRequest,
  world: DigestWorld,
): Promise<Digest> {
  const since = wanted ?? sinceWhen(channel.digest, last, { timezone: config.timezone, now: state.at });
  const runs = await runsSince(config, channel.name, new Date(since.getTime() - RUN_MS_MAX), world);
  return digestOf(config, { channel: channel.name, since, state, runs, last, problems });
}

/** Since the last one, or as long as it is from one to the next. One of a time that has not come was noted by a wrong clock. */
function sinceWhen(
  schedule: Schedule | undefined,
  last: LastDigest | undefined,
  { timezone, now }: { readonly timezone: string; readonly now: Date },
): Date {
  const dueTimes = new DueTimes(timezone);
  const next = schedule && dueTimes.firstAfter([schedule], now);
  const afterNext = schedule && next && dueTimes.firstAfter([schedule], next);
  const periodMs = next && afterNext ? afterNext.getTime() - next.getTime() : FIRST_MS;
  if (last === undefined || !isBelieved(last, now)) return new Date(now.getTime() - periodMs);
  return new Date(Math.max(Date.parse(last.until), now.getTime() - Math.max(BACK_MS_MAX, periodMs)));
}

export function isBelieved({ until }: LastDigest, now: Date): boolean {
  return Date.parse(until) <= now.getTime() + CLOCK_TRUST_MS;
}

async function runsSince(
  config: Config,
  channel: string,
  since: Date,
  { context, openStore }: DigestWorld,
): Promise<RunListing> {
  const used = new Set(
    sourcesOf(config, channel).flatMap(({ jobs, wal }) => [
      ...[...jobs.values()].flatMap(({ to }) => to),
      ...(wal?.to ?? []),
    ]),
  );
  const failures: RunListing['failures'][number][] = [];
  const opened = async (storage: StorageConfig): Promise<readonly NamedStore[]> => {
    const words = `no answer within ${STORAGE_MS_MAX / 1_000} s`;
    const limit = timeLimit(context.clock, STORAGE_MS_MAX, words, context.signal);
    try {
      return [{ name: storage.name, store: await untilAborted(openStore(storage), limit.signal) }];
    } catch (error) {
      context.signal.throwIfAborted();
      failures.push({ storage: storage.name, error: asPgarkError(error) });
      return [];
    } finally {
      limit.end();
    }
  };
  const wanted = [...config.storages.values()].filter(({ name }) => used.has(name));
  const storages = (await Promise.all(wanted.map(opened))).flat();
  const listing = await listRuns(
    { storages, since, limit: RUNS_MAX, state: undefined, filter: {}, waitMsMax: STORAGE_MS_MAX },
    context,
  );
  return { ...listing, failures: [...failures, ...listing.failures] };
}
