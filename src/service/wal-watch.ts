import { asPgarkError, type PgarkError } from '../common/errors.ts';
import type { Config, SourceConfig, StorageConfig } from '../config/model.ts';
import type { NotificationEvent } from '../notify/message.ts';
import {
  judgeWal,
  type WalFailure,
  type WalProtection,
  type WalSlot,
  type WalStorage,
} from '../observability/wal-protection.ts';
import type { OperationContext } from '../operations/context.ts';
import { type WalAlarm, walLagBytes, walLagMs, type WalReceiverState } from '../operations/wal/receive-request.ts';
import type { WalReceiver } from '../operations/wal/receive.ts';
import { judgeGaps, type RecoveryTimeline, recoveryTimelines, windowStart } from '../operations/wal/recovery-window.ts';
import type { SlotStatus } from '../operations/wal/server-monitor.ts';
import { judgeSlot, slotLimitBytes } from '../operations/wal/slot-guard.ts';
import type { WalStatusRequest } from '../operations/wal/status.ts';
import { UnusedSlot } from '../operations/wal/unused-slot.ts';
import { dateOf } from '../postgres/wal/server-time.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import type { Teller } from './tell.ts';
import { archivedLag, baseWantedFrom } from './archived-wal.ts';
import { LATER_MS, MissingWal, soonAndLater } from './missing-wal.ts';
import { walEvents } from './wal-events.ts';
import { type WalSettings, walSettingsOf } from './wal.ts';

/** What the archives hold is looked at anew so often: it takes a listing. */
const LOOK_EVERY_MS = 15 * 60_000;
/** And so often while nothing is received here: it may be that somebody else does, and that the archive alone says how far. */
const LOOK_INSTEAD_MS = LATER_MS;
const JUDGE_EVERY_MS = 60_000;
/** What stays as it is is handed on again this often: for reminders, and for messages that could not be delivered. */
const TELL_AGAIN_MS = 15 * 60_000;

export interface WalWatchOptions {
  readonly config: Config;
  readonly source: SourceConfig;
  /** Default: the configuration's. */
  readonly slot?: string;
  /** Its signal is not looked at. */
  readonly context: OperationContext;
  readonly openStore: (storage: StorageConfig) => Promise<ObjectStore>;
  readonly teller: Pick<Teller, 'tell'>;
  /** Aborted: nobody watches any more. */
  readonly stop: AbortSignal;
  /** Since when this process has received the WAL as it does now. Default: since now. */
  readonly since?: Date | undefined;
  /** What another watch knew of the same WAL, until this one has looked itself. */
  readonly known?: KnownWal | undefined;
  /** Told, perhaps again and again, that the newest WAL is reached by no base backup since some is missing; says whether one may follow soon. */
  readonly onBaseWanted: () => boolean;
}

interface ArchivedUntil {
  readonly until: Date;
  /** Segments came then, and no receiver has noted whether that was all. */
  readonly isGuess: boolean;
  readonly systemIdentifier: string;
}

/** What the first of a source's storages holds. */
export interface KnownWal {
  readonly earliest?: Date | undefined;
  /** All that was committed by then is archived, of that server. */
  readonly archived?: ArchivedUntil | undefined;
  readonly gaps?: number | undefined;
  readonly storedBytes?: number | undefined;
  readonly baseWantedFrom?: string | undefined;
}

/**
 * Watches over how the WAL of one source is archived: asks its receiver, looks through what lies in the first of its storages, and
 * tells the notifications what somebody has to look after, and when that is over.
 */
export class WalWatch {
  receiver: WalReceiver | undefined;
  /** Why there is none. */
  failure: PgarkError | undefined;
  /** The slot, while there is no receiver. */
  readonly unused: UnusedSlot;
  readonly #options: WalWatchOptions;
  readonly #settings: WalSettings;
  readonly #since: Date;
  /** As the archive said when it was looked through. */
  #known: KnownWal;
  /** On timelines, as they were found last. */
  #warnings: readonly string[] = [];
  readonly #missing = new MissingWal();
  /** How often in a row it could not be looked through. */
  #failures = 0;
  /** Ends the pause before the archive is looked through again. */
  #look = new AbortController();
  /** What was wrong, and what surely was not, when that was told last; and when that was. */
  #judged: { readonly what: string; readonly atMs: number } | undefined;
  #told: Promise<unknown> = Promise.resolve();

  constructor(options: WalWatchOptions) {
    const { config, source, context } = options;
    this.#options = options;
    this.#settings = walSettingsOf(config, source);
    this.#since = options.since ?? context.clock.now();
    this.#known = options.known ?? {};
    this.unused = new UnusedSlot({
      source: source.name,
      connection: source.connection,
      slot: this.#slotName,
      slotBudgetBytes: this.#settings.slotBudgetBytes,
      onAlarm: (alarm) => this.heard(alarm),
    });
  }

  /** Resolves when it was told to stop. */
  async run(): Promise<void> {
    await Promise.all([this.#lookNowAndThen(), this.#judgeNowAndThen()]);
  }

  /** Resolves when all is told that there was to tell, whether it has arrived or not. */
  get told(): Promise<unknown> {
    return this.#told;
  }

  /** Tells of what is lost; of what passes only if it lasts. */
  heard(alarm: WalAlarm): void {
    if (alarm.kind !== 'gap' && alarm.kind !== 'slot-dropped') return;
    this.#missing.met();
    this.#look.abort();
    const { code, message, hint } = alarm.error;
    this.#tell([{ event: 'wal_gap', at: this.#now(), source: this.#source, error: { code, message, hint } }]);
  }

  state(): WalProtection {
    const state = this.receiver?.state();
    const now = this.#now();
    const receivedLagMs = state && walLagMs(state, now);
    const known = this.#archivedBy(state?.systemIdentifier);
    // Beside what a receiver says a guess says nothing.
    const isGuess = known?.isGuess === true && receivedLagMs === undefined;
    const archived = known?.isGuess === true && !isGuess ? undefined : known?.until;
    const covered = state?.coveredUntil === undefined ? undefined : dateOf(state.coveredUntil);
    const lagMs = least(receivedLagMs, archived && Math.abs(now.getTime() - archived.getTime()));
    return {
      source: this.#source,
      watchedSince: this.#since,
      flushMs: this.#settings.flushMs,
      earliest: this.#known.earliest,
      latest: covered !== undefined && covered >= (archived ?? covered) ? covered : archived,
      lagMs,
      isGuess,
      lagBytes: state && walLagBytes(state),
      gaps: gapsOf(this.#known.gaps, state),
      storedBytes: this.#known.storedBytes,
      storages: this.#settings.storages.map(({ name }) => storageOf(name, state, lagMs, now)),
      failure: failureOf(state === undefined ? this.failure : state.failure),
      slot: this.#slot(state),
      baseWantedFrom: this.#known.baseWantedFrom,
    };
  }

  /** For the watch that follows: what was found, and what the receiver has archived since. */
  known(): KnownWal {
    const { lagMs, isGuess = false, gaps } = this.state();
    const systemIdentifier = this.receiver?.state().systemIdentifier ?? this.#known.archived?.systemIdentifier;
    const isArchived = lagMs !== undefined && systemIdentifier !== undefined;
    const archived = isArchived
      ? { until: new Date(this.#now().getTime() - lagMs), isGuess, systemIdentifier }
      : undefined;
    return { ...this.#known, archived, gaps };
  }

  get #source(): string {
    return this.#options.source.name;
  }

  get #slotName(): string {
    return this.#options.slot ?? this.#settings.slot;
  }

  #now(): Date {
    return this.#options.context.clock.now();
  }

  #slot(state: WalReceiverState | undefined): WalSlot | undefined {
    const status: SlotStatus | undefined = state === undefined ? this.unused.status : state.slot;
    if (status === undefined) return undefined;
    const { slotBudgetBytes } = this.#settings;
    return {
      name: this.#slotName,
      retainedBytes: status.retainedBytes,
      limitBytes: slotLimitBytes(status, slotBudgetBytes),
      state: judgeSlot(status, slotBudgetBytes).kind,
      kept: failureOf(state === undefined ? this.unused.kept : state.slotKept),
    };
  }

  /** In order, however long it takes: an end that is told before the problem ends nothing. */
  #tell(events: readonly NotificationEvent[]): void {
    const { config, teller } = this.#options;
    // Nothing there rejects.
    this.#told = this.#told.then(() => teller.tell(config, events));
  }

  async #judgeNowAndThen(): Promise<void> {
    const { context, stop } = this.#options;
    while (!stop.aborted) {
      await context.clock.sleep(JUDGE_EVERY_MS, stop).catch(() => undefined);
      if (!stop.aborted) this.#judge();
    }
  }

  /** News at once; the rest again now and then. */
  #judge(): void {
    const { clock, logger } = this.#options.context;
    const state = this.state();
    const now = clock.now();
    const { problems, isArchivedInTime, isSlotFree } = judgeWal(state, now);
    const kinds = problems.map(({ kind, storage, failure }) => [kind, storage, kind === 'slot' && failure?.code]);
    const what = JSON.stringify([kinds, isArchivedInTime, isSlotFree]);
    const atMs = clock.monotonicMs();
    const isNews = this.#judged?.what !== what;
    if (!isNews && atMs - (this.#judged?.atMs ?? 0) < TELL_AGAIN_MS) return;
    this.#judged = { what, atMs };
    if (isNews) {
      // Of the slot, and of WAL that is lost, it is said when it happens.
      for (const { sentence, kind } of problems) {
        if (kind === 'lag') logger.error('wal.late', `WAL of ${this.#source}: ${sentence}`, { source: this.#source });
      }
    }
    this.#tell(walEvents([state], now));
  }

  async #lookNowAndThen(): Promise<void> {
    const { context, stop } = this.#options;
    while (!stop.aborted) {
      try {
        await this.#lookThrough();
        this.#failures = 0;
      } catch (error) {
        if (stop.aborted) return;
        this.#failures += 1;
        const words = `the WAL of ${this.#source} could not be looked through: ${asPgarkError(error).message}`;
        context.logger.warning('wal.archive_unread', words, { source: this.#source });
      }
      this.#look = new AbortController();
      const woken = AbortSignal.any([stop, this.#look.signal]);
      await context.clock.sleep(this.#lookAgainMs(), woken).catch(() => undefined);
    }
  }

  #lookAgainMs(): number {
    // A storage that is made with its first object, or away for a moment, is not left unknown for long.
    if (this.#failures > 0) return soonAndLater(this.#failures);
    const usual = this.receiver?.state().phase === 'streaming' ? LOOK_EVERY_MS : LOOK_INSTEAD_MS;
    return this.#missing.lookAgainMs ?? usual;
  }

  /** What the archive says, where it is not of another server than the one that is received from. Another process may receive. */
  #archivedBy(systemIdentifier: string | undefined): ArchivedUntil | undefined {
    const { archived } = this.#known;
    if (archived === undefined) return undefined;
    const isOfIt = systemIdentifier === undefined || systemIdentifier === archived.systemIdentifier;
    return isOfIt ? archived : undefined;
  }

  async #lookThrough(): Promise<void> {
    const { source, context, openStore, stop, onBaseWanted } = this.#options;
    const [storage] = this.#settings.storages;
    if (storage === undefined) return;
    const received = streamedBy(this.receiver?.state());
    const request = { store: await openStore(storage), source: source.name, received };
    const [newest] = await recoveryTimelines(request, { ...context, signal: stop });
    // Undefined: recovery has to reach as far back as it can.
    const since = windowStart(source.wal?.keepMs, context.clock.now());
    this.#known = {
      earliest: newest?.windows.at(-1)?.earliest,
      archived: newest && archivedOf(newest, context.clock.now()),
      gaps: newest === undefined ? 0 : judgeGaps(newest, since).missing.length,
      storedBytes: newest?.wal.storedBytes,
      baseWantedFrom: newest && baseWantedFrom(newest),
    };
    this.#warn(newest?.wal.warnings ?? []);
    // With each look: an earlier process may have told of the gap, and what could not be delivered is owed.
    if (this.#missing.isOver(newest?.windows ?? [], this.receiver?.state(), onBaseWanted))
      this.#tell([{ event: 'resolved', of: 'wal_gap', at: this.#now(), source: this.#source }]);
  }

  /** Once, while it is so. */
  #warn(warnings: readonly string[]): void {
    const { logger } = this.#options.context;
    for (const words of warnings) {
      if (!this.#warnings.includes(words)) logger.warning('wal.timelines', words, { source: this.#source });
    }
    this.#warnings = warnings;
  }
}

function least(one: number | undefined, other: number | undefined): number | undefined {
  return one === undefined || other === undefined ? (one ?? other) : Math.min(one, other);
}

function archivedOf(newest: RecoveryTimeline, now: Date): ArchivedUntil | undefined {
  if (newest.windows.length === 0) return undefined;
  const { lagMs, isGuess = false } = archivedLag(newest, now);
  if (lagMs === undefined) return undefined;
  return { until: new Date(now.getTime() - lagMs), isGuess, systemIdentifier: newest.wal.record.systemIdentifier };
}

function storageOf(
  storage: string,
  state: WalReceiverState | undefined,
  lagMs: number | undefined,
  now: Date,
): WalStorage {
  const failing = state?.failingStores.get(storage);
  if (state === undefined || failing === undefined) return { storage, lagMs };
  const { since: begun, failure, left } = failing;
  const ownLagMs = left === undefined ? lagMs : walLagMs({ ...state, coveredUntil: left.coveredUntil }, now);
  return { storage, lagMs: ownLagMs, refuses: { since: begun, failure: plain(failure) } };
}

function failureOf(error: PgarkError | undefined): WalFailure | undefined {
  return error && plain(error);
}

function plain({ code, message, hint }: PgarkError): WalFailure {
  return { code, message, hint };
}

/** Undefined while nothing is streamed: what was streamed before a failover is another timeline. */
function streamedBy(state: WalReceiverState | undefined): WalStatusRequest['received'] {
  const { phase, systemIdentifier, timeline } = state ?? {};
  if (phase !== 'streaming' || systemIdentifier === undefined || timeline === undefined) return undefined;
  return { systemIdentifier, timeline };
}

/**
 * Those that were found, and those that were met since: some of these may be found by now, too. None is no answer before the
 * archive was looked through: the old ones would look like new ones as soon as it was.
 */
function gapsOf(found: number | undefined, state: WalReceiverState | undefined): number | undefined {
  const met = state?.gaps ?? 0;
  if (found === undefined) return met === 0 ? undefined : met;
  return Math.max(found, met);
}
