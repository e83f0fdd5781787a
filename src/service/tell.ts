import type { Clock } from '../common/clock.ts';
import { messageOf, PgarkError } from '../common/errors.ts';
import type { Logger } from '../common/log.ts';
import type { Random } from '../common/random.ts';
import type { Config, StorageConfig } from '../config/model.ts';
import type { Channel } from '../notify/channel.ts';
import type { Digest } from '../notify/digest.ts';
import {
  afterDispatch,
  type Delivery,
  dispatch,
  type NotifyContext,
  sendDigest,
  testNotification,
} from '../notify/dispatcher.ts';
import type { NotificationEvent } from '../notify/message.ts';
import {
  afterDigest,
  emptyNotificationState,
  type LastDigest,
  lastDigestTo,
  type NotificationState,
  type OpenProblem,
} from '../notify/state.ts';
import type { CallOptions, ObjectStore } from '../storage/object-store.ts';
import { damagedByProofs, newestBackupAt } from './lookups.ts';
import { NotificationMemory } from './notification-memory.ts';
import {
  backupEvents,
  type BackupReport,
  type BackupStart,
  drillEvents,
  type DrillReport,
  pruneEvents,
  type PruneReport,
  startEvents,
  unverifiedEvents,
  type UnverifiedReport,
  verifiedSources,
  verifyEvents,
  type VerifyReport,
} from './reports.ts';
import { timeLimit, timeLimitAfter, untilAborted } from './time-limit.ts';

export interface TellWorld {
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  /** A storage to look up and to keep what was told. Whoever opens it closes it; asked for several times. */
  readonly openStore: (storage: StorageConfig) => Promise<ObjectStore>;
  /**
   * Aborted when somebody wants the process gone (SIGTERM): all is told within eight seconds then, since a container is
   * killed after ten, and starts are not told any more. Default: never.
   */
  readonly hurry?: AbortSignal;
  /** How long one telling may take, everything included. Default: 60 seconds. */
  readonly budgetMs?: number;
  readonly retry?: NotifyContext['retry'];
  readonly telegramApiUrl?: string;
}

/** What was told before. */
export interface KnownBefore {
  /** What the channel's last digest noted; undefined if there was none. */
  readonly last: LastDigest | undefined;
  /** Of all sources. */
  readonly problems: readonly OpenProblem[];
}

const BUDGET_MS = 60_000;
const HURRIED_BUDGET_MS = 8_000;
/** For looking up what was told before at most this much, and a quarter of the budget; and the same for keeping it. */
const STATE_MS_MAX = 10_000;

/**
 * Tells the channels of the configuration what runs came to. Nothing here rejects, and nothing takes longer than the
 * budget: what became of a backup is never a matter of who could be told of it. Keep one for the life of the process.
 */
export class Teller {
  readonly #world: TellWorld;
  readonly #memory: NotificationMemory;
  #failures = 0;

  constructor(world: TellWorld) {
    this.#world = world;
    this.#memory = new NotificationMemory(world.logger);
  }

  /** Messages that could not be delivered since the start; for metrics and health. */
  get failures(): number {
    return this.#failures;
  }

  /** Runs begin: for watchdogs that measure, and for machines. */
  async starts(config: Config, starts: readonly BackupStart[]): Promise<void> {
    const events = startEvents(starts);
    await this.#tellWithin(config, events, () => Promise.resolve(events), { passing: true });
  }

  /** The reports of all destinations of a job's run, and what else it has ended, belong into one call. */
  async backups(
    config: Config,
    reports: readonly BackupReport[],
    ended: readonly NotificationEvent[] = [],
  ): Promise<void> {
    await this.#tellWithin(config, reports, async (call) => [
      ...backupEvents(config, await Promise.all(reports.map((report) => this.#withLastGood(config, report, call)))),
      ...ended,
    ]);
  }

  async prunes(config: Config, reports: readonly PruneReport[]): Promise<void> {
    await this.tell(config, pruneEvents(reports));
  }

  async drill(config: Config, report: DrillReport): Promise<void> {
    await this.tell(config, drillEvents(report));
  }

  async verification(config: Config, report: VerifyReport): Promise<void> {
    await this.#tellWithin(config, verifiedSources(report), async (call) =>
      verifyEvents(report, await this.#stillDamaged(config, report, call)),
    );
  }

  async unverified(config: Config, report: UnverifiedReport): Promise<void> {
    await this.tell(config, unverifiedEvents(report));
  }

  /** Whatever else there is to tell: overdue backups. Resolves to what became of each message. */
  async tell(config: Config, events: readonly NotificationEvent[]): Promise<readonly Delivery[]> {
    return this.#tellWithin(config, events, () => Promise.resolve(events));
  }

  /** What a digest to a channel has to know of before, as far as a storage can say. Never rejects. */
  async known(config: Config, channel: string): Promise<KnownBefore> {
    const { clock } = this.#world;
    const limit = timeLimit(clock, STATE_MS_MAX, 'no time was left');
    try {
      const { state } = await this.#memory.recall(this.#openers(config), { signal: limit.signal });
      return { last: lastDigestTo(state, channel), problems: state.problems };
    } finally {
      limit.end();
    }
  }

  /** Sends a digest, and keeps what the next one has to know of it if it was delivered. Never rejects. */
  async digest(config: Config, channel: Channel, digest: Digest, note: LastDigest): Promise<Delivery> {
    const { clock, hurry } = this.#world;
    const hurried = timeLimitAfter(hurry, clock, HURRIED_BUDGET_MS * 0.75, 'no time was left');
    const sending = timeLimit(clock, BUDGET_MS, 'no time was left', hurried.signal);
    const delivery = await sendDigest(channel, digest, this.#context(sending.signal));
    for (const limit of [hurried, sending]) limit.end();
    if (delivery.outcome === 'failed') {
      this.#failures += 1;
      return delivery;
    }
    const keeping = timeLimit(clock, STATE_MS_MAX, 'no time was left');
    const call = { signal: keeping.signal };
    const recalled = await this.#memory.recall(this.#openers(config), call);
    await this.#memory.keep(recalled, (state) => afterDigest(state, note), call);
    keeping.end();
    return delivery;
  }

  /**
   * `about` says whose channels there may be; where there are none, nothing is looked up. What is passing is of no use to
   * anybody once the process is to end.
   */
  async #tellWithin(
    config: Config,
    about: readonly { readonly source: string }[],
    eventsOf: (call: Required<CallOptions>) => Promise<readonly NotificationEvent[]>,
    { passing = false } = {},
  ): Promise<readonly Delivery[]> {
    if (!about.some(({ source }) => channelsOf(config, source).length > 0)) return [];
    const { clock, logger, budgetMs: ownBudgetMs = BUDGET_MS, hurry } = this.#world;
    const budgetMs = hurry?.aborted === true ? Math.min(ownBudgetMs, HURRIED_BUDGET_MS) : ownBudgetMs;
    const stateMs = Math.min(STATE_MS_MAX, budgetMs / 4);
    const words = 'no time was left';
    // The end may be wanted in the midst of it, too.
    const hurriedSending = timeLimitAfter(hurry, clock, passing ? 0 : HURRIED_BUDGET_MS * 0.75, words);
    const hurriedWhole = timeLimitAfter(hurry, clock, HURRIED_BUDGET_MS, words);
    const lookingUp = timeLimit(clock, stateMs, words, hurriedSending.signal);
    const sending = timeLimit(clock, budgetMs - stateMs, words, hurriedSending.signal);
    const whole = timeLimit(clock, budgetMs, words, hurriedWhole.signal);
    try {
      const events = await eventsOf({ signal: lookingUp.signal });
      // A start neither is a problem nor ends one: nothing needs to be known of what was told.
      const stateless = events.every(({ event }) => event === 'start');
      const recalled = stateless
        ? undefined
        : await this.#memory.recall(this.#openers(config), { signal: lookingUp.signal });
      const told = await this.#dispatchAll(
        groupsOf(config, events),
        recalled?.state ?? emptyNotificationState,
        sending.signal,
      );
      if (recalled !== undefined) {
        const change = (state: NotificationState): NotificationState =>
          told.reduce(
            (before, { group, ...result }) => afterDispatch(group.channels, before, group.events, result),
            state,
          );
        await this.#memory.keep(recalled, change, { signal: whole.signal });
      }
      return told.flatMap(({ deliveries }) => deliveries);
    } catch (error) {
      logger.error('notification.dispatch_failed', `notifications could not be sent: ${messageOf(error)}`);
      return [];
    } finally {
      for (const limit of [hurriedSending, hurriedWhole, lookingUp, sending, whole]) limit.end();
    }
  }

  async #dispatchAll(
    groups: readonly ChannelGroup[],
    state: NotificationState,
    signal: AbortSignal,
  ): Promise<readonly Told[]> {
    const told: Told[] = [];
    let known = state;
    for (const group of groups) {
      const now = this.#world.clock.now();
      const { deliveries, state: after } = await dispatch(group.channels, known, group.events, this.#context(signal));
      known = after;
      this.#failures += deliveries.filter(({ outcome }) => outcome === 'failed').length;
      told.push({ group, deliveries, now });
    }
    return told;
  }

  #context(signal: AbortSignal): NotifyContext {
    const { clock, random, logger, retry, telegramApiUrl } = this.#world;
    return { clock, random, logger, retry, telegramApiUrl, signal };
  }

  #openers(config: Config): ReadonlyMap<string, () => Promise<ObjectStore>> {
    return new Map([...config.storages].map(([name, storage]) => [name, () => this.#world.openStore(storage)]));
  }

  /** A failure says how old the newest backup is that is there. Not knowing it is no reason not to tell the failure. */
  async #withLastGood(config: Config, report: BackupReport, call: Required<CallOptions>): Promise<BackupReport> {
    const storage = config.storages.get(report.storage);
    if (report.error === undefined || report.lastGoodAt !== undefined || storage === undefined) return report;
    try {
      const lookUp = async (): Promise<Date | 'never'> =>
        newestBackupAt(await this.#world.openStore(storage), report, this.#world, call);
      return { ...report, lastGoodAt: await untilAborted(lookUp(), call.signal) };
    } catch {
      return report;
    }
  }

  /** If that cannot be found out, all are taken for damaged that nobody has read now: no false all-clear is given. */
  async #stillDamaged(
    config: Config,
    { storage: name, backups }: VerifyReport,
    call: Required<CallOptions>,
  ): Promise<ReadonlySet<string>> {
    const unread = backups.filter(({ depth }) => depth !== 'read');
    const storage = config.storages.get(name);
    if (storage === undefined || unread.length === 0) return new Set();
    const databases = Map.groupBy(unread, ({ manifest }) => JSON.stringify([manifest.source, manifest.database.name]));
    const lookUp = async (): Promise<ReadonlySet<string>> => {
      const store = await this.#world.openStore(storage);
      let damaged: ReadonlySet<string> = new Set();
      for (const looked of databases.values()) {
        const [first] = looked;
        if (first === undefined || channelsOf(config, first.manifest.source).length === 0) continue;
        damaged = damaged.union(await damagedByProofs(store, looked, this.#world, call));
      }
      return damaged;
    };
    try {
      return await untilAborted(lookUp(), call.signal);
    } catch {
      return new Set(unread.map(({ manifest }) => manifest.id));
    }
  }
}

/** Sends each of the channels named (all without names) a trial message, all at once. Error: `usage` for an unknown name. */
export async function testChannels(
  config: Config,
  names: readonly string[],
  world: Omit<TellWorld, 'openStore'> & { readonly signal?: AbortSignal },
): Promise<readonly Delivery[]> {
  const all = [...config.notifications.keys()];
  const channels = (names.length === 0 ? all : [...new Set(names)]).map((name) => {
    const channel = config.notifications.get(name);
    if (channel !== undefined) return channel;
    throw new PgarkError('usage', `there is no notification called ${name} in the configuration`, {
      hint: all.length === 0 ? 'it has none at all' : `it has: ${all.join(', ')}`,
    });
  });
  return Promise.all(channels.map((channel) => testNotification(channel, world)));
}

/** Whom a source's configuration names. */
function channelsOf(config: Config, source: string): readonly Channel[] {
  const names = new Set(config.databases.get(source)?.notify ?? []);
  return [...names].flatMap((name) => config.notifications.get(name) ?? []);
}

interface ChannelGroup {
  readonly channels: readonly Channel[];
  readonly events: readonly NotificationEvent[];
}

interface Told {
  readonly group: ChannelGroup;
  readonly deliveries: readonly Delivery[];
  readonly now: Date;
}

/** Events of sources that tell the same channels go together, so that these are told of all in order. */
function groupsOf(config: Config, events: readonly NotificationEvent[]): readonly ChannelGroup[] {
  const groups = Map.groupBy(events, ({ source }) =>
    JSON.stringify(
      channelsOf(config, source)
        .map(({ name }) => name)
        .sort(),
    ),
  );
  return [...groups.values()].flatMap((group) => {
    const [first] = group;
    const channels = first === undefined ? [] : channelsOf(config, first.source);
    return channels.length === 0 ? [] : [{ channels, events: group }];
  });
}
