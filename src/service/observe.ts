import type { Clock } from '../common/clock.ts';
import { messageOf } from '../common/errors.ts';
import type { Logger } from '../common/log.ts';
import type { Random } from '../common/random.ts';
import type { Config, StorageConfig } from '../config/model.ts';
import { planBackups, seriesKey } from '../observability/expectations.ts';
import {
  type BackupProtection,
  buildProtectionState,
  isOverdue,
  type Probe,
  type ProtectionState,
} from '../observability/protection-state.ts';
import { readStorageHistory, type StorageHistory } from '../observability/storage-history.ts';
import type { WalProtection } from '../observability/wal-protection.ts';
import { Repository } from '../repository/repository.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import type { DatabaseChoice } from './database-patterns.ts';
import { freshnessEvents } from './freshness.ts';
import { probeDatabases, probeStorage } from './probes.ts';
import { plannedProofs } from './proof-jobs.ts';
import { readProofs } from './read-proofs.ts';
import type { Teller } from './tell.ts';
import { timeLimit } from './time-limit.ts';
import { VerifiedLines } from './verified-lines.ts';
import { wantedDatabases } from './wanted-databases.ts';

const READ_EVERY_MS = 60_000;
const PROBE_EVERY_MS = 300_000;
const JUDGE_EVERY_MS = 60_000;
/** A storage with a long history takes its time at first; one that hangs is given up and tried again. */
const READ_MS_MAX = 10 * 60_000;
/** Metrics and health do not wait longer than this for a storage that has not been read yet. */
const FIRST_READ_MS_MAX = 60_000;
/**
 * What stays as it is is handed on again this often, overdue or fresh: for reminders, and for messages that could not be
 * delivered. What is fresh is handed on after that time first: the run that has made the backup, if it tells anybody, tells of
 * the end of all that was wrong in one message.
 */
const TELL_AGAIN_MS = 15 * 60_000;

export interface ObserveOptions {
  readonly config: Config;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  /** Whoever opens a storage closes it, after `close`; asked for several times. */
  readonly openStore: (storage: StorageConfig) => Promise<ObjectStore>;
  /** Is told what is overdue, and what is fresh; its failures are counted in the state. */
  readonly teller: Teller;
  /** How far the runs of this process are, by their ids, 0 to 1. Default: nothing is known. */
  readonly progressRatios?: () => ReadonlyMap<string, number>;
  /** How far WAL is archived by this process. Default: it archives none. */
  readonly wal?: () => readonly WalProtection[];
  /** What this process has verified. Default: nothing but what is recorded. */
  readonly verified?: VerifiedLines;
  /** Since when sources have been wanted as they are, by their names. Default: since now. */
  readonly watchedSince?: ReadonlyMap<string, Date>;
}

export interface Observation {
  /** How well everything is protected at this moment; undefined until every storage was tried once, or a minute passed. */
  state(): ProtectionState | undefined;
  /** A run has ended: reads the storages again now; of proofs too, if it has made some. */
  refresh(ended?: { readonly hasProven: boolean }): void;
  /** Ends what is under way, and resolves when all of it has. */
  close(): Promise<void>;
}

/**
 * Watches over what is protected, for as long as a process lives: reads the storages' histories each minute and after runs,
 * tries servers, which say what databases they have, and storages every five minutes, and tells of backups that are overdue. None of it depends on whether any
 * backup runs. For a changed configuration, close it and start another.
 */
export function startObserving(options: ObserveOptions): Observation {
  const observer = new Observer(options);
  return { state: () => observer.state(), refresh: (ended) => observer.refresh(ended), close: () => observer.close() };
}

class Observer {
  readonly #options: ObserveOptions;
  readonly #closing = new AbortController();
  readonly #startedAt: Date;
  readonly #startedMs: number;
  readonly #histories = new Map<string, StorageHistory | undefined>();
  readonly #tried = new Set<string>();
  /** By series, whether it was overdue when it was looked at last, and when that began or was handed on. */
  readonly #judged = new Map<string, { readonly overdue: boolean; readonly atMs: number }>();
  #probes: readonly Probe[] = [];
  /** Of each source with patterns, by its name, what they chose when its server answered last. */
  readonly #chosen = new Map<string, DatabaseChoice>();
  /** How often `refresh` was called, and what it wakes. */
  #refreshes = 0;
  /** How many runs of this process have proven something; and how many had when a storage was read, by its name. */
  #provenRuns = 0;
  readonly #provenRunsRead = new Map<string, number>();
  readonly #asleep = new Set<AbortController>();
  readonly #loops: Promise<unknown>;

  constructor(options: ObserveOptions) {
    this.#options = options;
    this.#startedAt = options.clock.now();
    this.#startedMs = options.clock.monotonicMs();
    for (const name of options.config.storages.keys()) this.#histories.set(name, undefined);
    this.#loops = Promise.all([
      ...[...options.config.storages.values()].map((storage) =>
        this.#every(READ_EVERY_MS, () => this.#read(storage), { wakes: true }),
      ),
      this.#every(PROBE_EVERY_MS, () => this.#probe()),
      this.#every(JUDGE_EVERY_MS, () => this.#judge()),
    ]);
  }

  state(): ProtectionState | undefined {
    const { config, clock, progressRatios, wal, verified = new VerifiedLines(), watchedSince, teller } = this.#options;
    const waitedMs = clock.monotonicMs() - this.#startedMs;
    if (this.#tried.size < config.storages.size && waitedMs < FIRST_READ_MS_MAX) return undefined;
    return buildProtectionState({
      now: clock.now(),
      watchedSince: this.#startedAt,
      sourcesWatchedSince: watchedSince,
      timezone: config.timezone,
      plans: planBackups(config, (source) => wantedDatabases(source, this.#histories, this.#chosen.get(source.name))),
      proofs: plannedProofs(config),
      histories: new Map([...this.#histories].map(([name, history]) => [name, verified.addTo(name, history)])),
      progressRatios: progressRatios?.() ?? new Map(),
      probes: this.#probes,
      wal: wal?.(),
      notificationFailures: teller.failures,
    });
  }

  refresh({ hasProven }: { readonly hasProven: boolean } = { hasProven: false }): void {
    this.#refreshes += 1;
    if (hasProven) this.#provenRuns += 1;
    for (const sleeper of this.#asleep) sleeper.abort();
  }

  async close(): Promise<void> {
    this.#closing.abort(new Error('the watch over backups ends'));
    await this.#loops;
  }

  /** Works, waits, works again until `close`. What goes wrong is logged, and tried again next time. */
  async #every(ms: number, work: () => Promise<void>, { wakes = false } = {}): Promise<void> {
    const { clock, logger } = this.#options;
    const { signal } = this.#closing;
    while (!signal.aborted) {
      // Taken before the work: what is wanted while it goes on is wanted after it.
      const refreshes = this.#refreshes;
      try {
        await work();
      } catch (error) {
        if (!signal.aborted) logger.error('observe.failed', `the watch over backups failed: ${messageOf(error)}`);
      }
      if (wakes && refreshes !== this.#refreshes) continue;
      const sleeper = new AbortController();
      if (wakes) this.#asleep.add(sleeper);
      await clock.sleep(ms, AbortSignal.any([signal, sleeper.signal])).catch(() => undefined);
      this.#asleep.delete(sleeper);
    }
  }

  async #read(storage: StorageConfig): Promise<void> {
    const { clock, random, logger, openStore } = this.#options;
    const { name } = storage;
    const limit = timeLimit(
      clock,
      READ_MS_MAX,
      `it took longer than ${READ_MS_MAX / 60_000} min`,
      this.#closing.signal,
    );
    try {
      const repository = new Repository(await openStore(storage), { clock, random });
      const previous = this.#histories.get(name);
      const provenRuns = this.#provenRuns;
      const hasNewProofs = provenRuns !== (this.#provenRunsRead.get(name) ?? 0);
      const read = { clock, readProofs, previous, hasNewProofs, signal: limit.signal };
      this.#histories.set(name, await readStorageHistory(repository, read));
      this.#provenRunsRead.set(name, provenRuns);
    } catch (error) {
      if (this.#closing.signal.aborted) return;
      // What was known stands, so that deadlines go on passing; health says how old it is.
      const sentence = `the storage ${name} could not be read: ${messageOf(error)}`;
      logger.warning('observe.storage_unread', sentence, { storage: name });
    } finally {
      limit.end();
      this.#tried.add(name);
    }
  }

  async #probe(): Promise<void> {
    const { config, clock, logger, openStore } = this.#options;
    const world = { clock, signal: this.#closing.signal };
    const [sources, storages] = await Promise.all([
      probeDatabases(config.databases.values(), world),
      Promise.all(
        [...config.storages.values()].map((storage) => probeStorage(storage.name, () => openStore(storage), world)),
      ),
    ]);
    const before = new Map(this.#probes.map((known) => [probeKey(known), known.failure]));
    this.#probes = [...sources, ...storages].map(({ probe }) => probe);
    for (const { probe, chosen } of sources) if (chosen !== undefined) this.#chosen.set(probe.name, chosen);
    for (const probe of this.#probes) {
      const { kind, name, failure } = probe;
      if (failure === before.get(probeKey(probe))) continue;
      if (failure === undefined) logger.info('probe.recovered', `${kind} ${name} answers again`, { kind, name });
      else logger.warning('probe.failed', `${kind} ${name}: ${failure}`, { kind, name });
    }
  }

  /**
   * Tells what is overdue, wherever the reason lies: in a scheduler that hangs as well as in a run that fails. And what is so
   * no more, since whoever made the backup may tell nobody.
   */
  async #judge(): Promise<void> {
    const { config, teller } = this.#options;
    const state = this.state();
    if (state === undefined) return;
    const keysNow = new Set(state.backups.map(seriesKey));
    for (const key of this.#judged.keys()) if (!keysNow.has(key)) this.#judged.delete(key);
    const due = state.backups.filter((backup) => this.#isToTell(backup, isOverdue(backup, state.at)));
    await teller.tell(config, freshnessEvents(config, state, due));
  }

  #isToTell(backup: BackupProtection, overdue: boolean): boolean {
    const key = seriesKey(backup);
    const nowMs = this.#options.clock.monotonicMs();
    const before = this.#judged.get(key);
    const isNews = before?.overdue !== overdue;
    if (!isNews && nowMs - before.atMs < TELL_AGAIN_MS) return false;
    this.#judged.set(key, { overdue, atMs: nowMs });
    if (isNews && overdue) this.#logOverdue(backup);
    return overdue || !isNews;
  }

  #logOverdue({ source, database, storage }: BackupProtection): void {
    const sentence = `the backup of ${source}/${database} to ${storage} is overdue`;
    this.#options.logger.error('backup.overdue', sentence, { source, database, storage });
  }
}

function probeKey({ kind, name }: Probe): string {
  return JSON.stringify([kind, name]);
}
