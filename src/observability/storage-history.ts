import type { Clock } from '../common/clock.ts';
import { isPgarkError } from '../common/errors.ts';
import { readAcceptedSizes } from '../repository/accepted-sizes.ts';
import type { RunId } from '../repository/ids.ts';
import { type LeaseFact, leaseFacts } from '../repository/lease-facts.ts';
import type { Repository } from '../repository/repository.ts';
import { newestRuns } from '../runs/newest-runs.ts';
import type { RunRecord } from '../runs/run-record.ts';
import type { CallOptions, ObjectKey } from '../storage/object-store.ts';
import { type BackupFacts, backupFacts } from './backup-facts.ts';
import { addDrills, type DrillHistory, readDrills } from './drill-history.ts';
import { newestOfLines, type ProofFacts, type ProofReader } from './proof-facts.ts';
import { readVerifications, type VerifyHistory } from './verify-history.ts';
import { addRuns, emptyTally, type EndedRun, outcomeOf, type RunTally } from './run-tally.ts';

/** Covers the month that is counted, and the last attempt of a monthly schedule. */
const HISTORY_MS = 35 * 86_400_000;
/** Runs that started this long before the last reading are looked for again: hosts' clocks differ, and records come late. */
const OVERLAP_MS = 2 * 86_400_000;
const READS_IN_FLIGHT_MAX = 16;
/** Whoever makes a proof here says so; those of others are looked for this often. */
const PROOFS_EVERY_MS = 15 * 60_000;
/**
 * Records that are read at once, the newest: more than compaction keeps of so many days, 2,500 of each. A limit that a
 * month can reach would have a restart count less than was counted before.
 */
const RECORDS_MAX = 100_000;
/** Runs that are held before they become part of the sums. */
const RUNS_HELD_MAX = 1_000;

/** What a storage says happened in it. A plain value, made of nothing but what lies in the storage. */
export interface StorageHistory {
  readonly readAt: Date;
  /** The store's clock at that moment. */
  readonly storeNow: Date;
  /** Runs that started before this were not looked for. It never goes back, so that no run is added twice. */
  readonly runsSince: Date;
  /** By the manifest's key and etag: a manifest that did not change is not read again. */
  readonly backups: ReadonlyMap<string, BackupFacts>;
  readonly damagedManifests: number;
  /** Ids of backups that were suspicious, and whose size somebody has called right. */
  readonly acceptedSizes: ReadonlySet<string>;
  /** By the ids of backups that were the newest of their kind, what was found out of them. */
  readonly proofs: ReadonlyMap<string, ProofFacts>;
  readonly verifications: VerifyHistory;
  readonly proofsReadAt: Date;
  readonly tally: RunTally;
  /** The last drills that passed. */
  readonly drills: DrillHistory;
  /** Runs whose record says `running`, dead ones among them. */
  readonly openRuns: readonly RunRecord[];
  readonly leases: readonly LeaseFact[];
  /** Recent runs that are in the tally already, with the time of their start. */
  readonly tallied: ReadonlyMap<RunId, Date>;
  /** Objects of compacted records that were read: they never change. */
  readonly compactedRead: ReadonlySet<ObjectKey>;
}

export interface ReadHistoryOptions extends CallOptions {
  readonly clock: Clock;
  readonly readProofs: ProofReader;
  /** What an earlier reading of the same storage returned: only what is new is read then. */
  readonly previous?: StorageHistory | undefined;
  /** Whether there are new proofs. Default: nobody knows. */
  readonly hasNewProofs?: boolean;
  /** Whether anybody asks when verifications passed last. Default: somebody does. */
  readonly readsVerifications?: boolean;
}

/** Reads a storage's history: backups, runs, leases. Rejects with the store's error; then the previous history still stands. */
export async function readStorageHistory(repository: Repository, options: ReadHistoryOptions): Promise<StorageHistory> {
  const { clock, readProofs, previous, signal, hasNewProofs = false, readsVerifications = true } = options;
  const now = clock.now();
  const call: CallOptions = signal === undefined ? {} : { signal };
  const { backups, damagedManifests } = await readBackups(repository, previous, call);
  const runs = await readRuns(repository, previous, now, call);
  // After the records: a run that gave its lease back before it was looked for has written its last record by then, or is
  // given the time to.
  const storeNow = await repository.store.now(call);
  const oldestOpen = runs.openRuns.map((record) => Date.parse(record.startedAt)).sort((a, b) => a - b)[0];
  const leases =
    oldestOpen === undefined
      ? []
      : await leaseFacts(repository.store, { ...call, since: new Date(oldestOpen), storeNow });
  const isAnySuspicious = [...backups.values()].some(({ suspicion }) => suspicion !== undefined);
  const acceptedSizes = isAnySuspicious ? await readAcceptedSizes(repository.store, call) : new Set<string>();
  const isDue = previous === undefined || now.getTime() - previous.proofsReadAt.getTime() >= PROOFS_EVERY_MS;
  const known =
    isDue || hasNewProofs
      ? {
          proofs: await readProofs(repository.store, newestOfLines(backups.values(), now), { ...call, clock }),
          verifications: readsVerifications
            ? await readVerifications(repository.store, backups.values(), {
                ...call,
                now,
                previous: previous?.verifications,
              })
            : new Map<string, Date>(),
          proofsReadAt: now,
        }
      : { proofs: previous.proofs, verifications: previous.verifications, proofsReadAt: previous.proofsReadAt };
  return {
    readAt: now,
    storeNow,
    backups,
    damagedManifests,
    acceptedSizes,
    ...known,
    ...runs,
    leases,
  };
}

async function readBackups(
  repository: Repository,
  previous: StorageHistory | undefined,
  call: CallOptions,
): Promise<Pick<StorageHistory, 'backups' | 'damagedManifests'>> {
  const backups = new Map<string, BackupFacts>();
  let damagedManifests = 0;
  const unread: { readonly key: ObjectKey; readonly version: string }[] = [];
  for await (const { key, etag } of repository.manifestKeys({}, call)) {
    const version = JSON.stringify([key, etag]);
    const known = previous?.backups.get(version);
    if (known === undefined) unread.push({ key, version });
    else backups.set(version, known);
  }
  for (let start = 0; start < unread.length; start += READS_IN_FLIGHT_MAX) {
    await Promise.all(
      unread.slice(start, start + READS_IN_FLIGHT_MAX).map(async ({ key, version }) => {
        try {
          const manifest = await repository.manifestAt(key, call);
          if (manifest !== undefined) backups.set(version, backupFacts(manifest));
        } catch (error) {
          if (!isPgarkError(error, 'repository-damaged') && !isPgarkError(error, 'repository-unknown-layout'))
            throw error;
          damagedManifests += 1;
        }
      }),
    );
  }
  return { backups, damagedManifests };
}

async function readRuns(
  repository: Repository,
  previous: StorageHistory | undefined,
  now: Date,
  call: CallOptions,
): Promise<Pick<StorageHistory, 'runsSince' | 'tally' | 'drills' | 'openRuns' | 'tallied' | 'compactedRead'>> {
  const since = runsSince(previous, now);
  const tallied = new Map([...(previous?.tallied ?? [])].filter(([, startedAt]) => startedAt >= since));
  const openRuns: RunRecord[] = [];
  const compactedRead = new Set<ObjectKey>();
  let tally = previous?.tally ?? emptyTally(now);
  let drills = previous?.drills ?? (await readDrills(repository.store, call));
  let held: EndedRun[] = [];
  const addHeld = (): void => {
    tally = addRuns(tally, held, now);
    drills = addDrills(drills, held);
    held = [];
  };
  const records = newestRuns(repository.store, {
    ...call,
    since,
    recordsMax: RECORDS_MAX,
    knownRuns: new Set(tallied.keys()),
    knownCompacted: previous?.compactedRead ?? new Set(),
    onCompacted: (key) => compactedRead.add(key),
  });
  for await (const record of records) {
    const outcome = outcomeOf(record);
    if (outcome === undefined) {
      openRuns.push(record);
      continue;
    }
    tallied.set(record.id, new Date(record.startedAt));
    held.push({ record, outcome });
    if (held.length >= RUNS_HELD_MAX) addHeld();
  }
  addHeld();
  return { runsSince: since, tally, drills, openRuns: openRuns.reverse(), tallied, compactedRead };
}

/** How far back to look: all that is kept at first; then what is recent, and what was not over yet. */
function runsSince(previous: StorageHistory | undefined, now: Date): Date {
  const horizonMs = now.getTime() - HISTORY_MS;
  if (previous === undefined) return new Date(horizonMs);
  const recentMs = previous.readAt.getTime() - OVERLAP_MS;
  const openMs = previous.openRuns.map((record) => Date.parse(record.startedAt));
  return new Date(Math.max(previous.runsSince.getTime(), horizonMs, Math.min(recentMs, ...openMs)));
}
