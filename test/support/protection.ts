import { silentLogger } from '../../src/common/log.ts';
import { systemRandom } from '../../src/common/random.ts';
import { parseSchedule, type Schedule } from '../../src/config/schedule.ts';
import type { PlannedBackup } from '../../src/observability/expectations.ts';
import type { ProtectionInputs } from '../../src/observability/protection-state.ts';
import {
  type ReadHistoryOptions,
  readStorageHistory,
  type StorageHistory,
} from '../../src/observability/storage-history.ts';
import type { WalProtection } from '../../src/observability/wal-protection.ts';
import { makeBackupId, makeRunId } from '../../src/repository/ids.ts';
import { keys } from '../../src/repository/keys.ts';
import { Leases } from '../../src/repository/leases.ts';
import type { Manifest } from '../../src/repository/manifest.ts';
import { Repository } from '../../src/repository/repository.ts';
import { type RunRecord, serialiseRunRecord } from '../../src/runs/run-record.ts';
import { readProofs } from '../../src/service/read-proofs.ts';
import { ManualClock } from './manual-clock.ts';
import { MemoryStore } from './memory-store.ts';
import { manifestOf } from './repository-place.ts';

export const HOUR_MS = 3_600_000;
const LETTERS = { plain: 'p', directory: 'd', physical: 'f' } as const;

/** `2026-11-20T02:00Z` and the like. */
export function at(text: string): Date {
  return new Date(text);
}

function schedule(text: string): Schedule {
  const parsed = parseSchedule(text);
  if (typeof parsed === 'string') throw new Error(parsed);
  return parsed;
}

/** What the configuration wants: shop, plain, to r2, each night at two, if nothing else is said. */
export function plan(said: Partial<PlannedBackup> & { readonly every?: string } = {}): PlannedBackup {
  const { every = '0 2 * * *', ...rest } = said;
  const schedules = every === '' ? [] : [schedule(every)];
  return { source: 'shop', database: 'shop', format: 'plain', storage: 'r2', schedules, jitterMs: 0, ...rest };
}

/** Archived WAL of shop of which nothing is known but what is said, as a command finds it. */
export function walOf(said: Partial<WalProtection> = {}): WalProtection {
  return {
    source: 'shop',
    watchedSince: undefined,
    flushMs: 10_000,
    earliest: undefined,
    latest: undefined,
    lagMs: undefined,
    lagBytes: undefined,
    gaps: undefined,
    storedBytes: undefined,
    storages: [],
    failure: undefined,
    slot: undefined,
    baseWantedFrom: undefined,
    ...said,
  };
}

export const REFUSAL = { code: 'store-access-denied', message: 'AccessDenied (403)', hint: 'grant s3:PutObject' };

/** A storage in memory with a history that tests write. */
export class HistoryPlace {
  readonly clock: ManualClock;
  readonly store: MemoryStore;
  readonly repository: Repository;

  constructor(start: Date) {
    this.clock = new ManualClock(start);
    this.store = new MemoryStore({ clock: this.clock });
    this.repository = new Repository(this.store, { clock: this.clock, random: systemRandom });
  }

  /** A committed backup with the record of its run. */
  async backup(
    startedAt: Date,
    said: {
      minutes?: number;
      bytes?: number;
      source?: string;
      database?: string;
      format?: Manifest['format'];
      storeTime?: Date;
      suspicions?: Manifest['suspicions'];
    } = {},
  ): Promise<Manifest> {
    const { minutes = 10, bytes = 1_000, source = 'shop', database = 'shop', format = 'plain' } = said;
    const endedAt = new Date(startedAt.getTime() + minutes * 60_000);
    const record = await this.run('succeeded', startedAt, endedAt, { source, database, format });
    const manifest = madeManifest({ startedAt, endedAt, bytes, source, database, format, runId: record.id });
    const { suspicions } = said;
    const storeTime = (said.storeTime ?? endedAt).toISOString();
    const made = { ...manifest, storeTime, ...(suspicions && { suspicions }) };
    await this.repository.commit(made);
    return made;
  }

  /** The record of a run; `endedAt` is left out of one that is running. */
  async run(
    state: RunRecord['state'],
    startedAt: Date,
    endedAt?: Date,
    said: Partial<RunRecord> = {},
  ): Promise<RunRecord> {
    const failed = { code: 'dump-failed', message: 'pg_dump was killed', hint: 'look at its last words', exit: 1 };
    const record: RunRecord = {
      layout: 1,
      id: makeRunId(startedAt, systemRandom),
      kind: 'backup',
      state,
      source: 'shop',
      database: 'shop',
      ...(said.kind === undefined ? { format: 'plain' } : {}),
      host: 'tester',
      pid: 1,
      startedAt: startedAt.toISOString(),
      ...(endedAt === undefined ? {} : { endedAt: endedAt.toISOString() }),
      ...(state === 'failed' ? { error: failed } : {}),
      pgarkVersion: '0.0.0',
      ...said,
    };
    await this.write(record);
    return record;
  }

  /** A proof of a backup, as a verification or a drill leaves it. */
  async prove(backup: Manifest, kind: 'verify' | 'drill', time: Date, said: object): Promise<void> {
    const key = keys.proof(backup.source, backup.database.name, backup.id, time, kind);
    const text = JSON.stringify({ layout: 1, at: time.toISOString(), ...said });
    await this.store.putSmall(key, new TextEncoder().encode(text));
  }

  async write(record: RunRecord): Promise<void> {
    await this.store.putSmall(keys.run(new Date(record.startedAt), record.id), serialiseRunRecord(record));
  }

  /** The lease of a run, as its process holds it. */
  leasesOf(runId: string): Leases {
    const holder = { host: 'tester', pid: 1, runId, command: 'pgark backup' };
    const { clock } = this;
    return new Leases(this.store, {
      clock,
      random: systemRandom,
      logger: silentLogger,
      termMs: 90_000,
      timers: { after: (ms, callback) => clock.after(ms, callback) },
      holder,
    });
  }

  async history(previous?: StorageHistory, said: Partial<ReadHistoryOptions> = {}): Promise<StorageHistory> {
    return readStorageHistory(this.repository, { clock: this.clock, readProofs, previous, ...said });
  }

  /** All that a state is made of, at the clock's time, with this storage as r2. */
  async inputs(said: Partial<ProtectionInputs> = {}): Promise<ProtectionInputs> {
    return {
      now: this.clock.now(),
      watchedSince: this.clock.now(),
      timezone: 'UTC',
      plans: [plan()],
      histories: new Map([['r2', await this.history()]]),
      progressRatios: new Map(),
      probes: [],
      notificationFailures: 0,
      ...said,
    };
  }
}

function madeManifest(made: {
  readonly startedAt: Date;
  readonly endedAt: Date;
  readonly bytes: number;
  readonly source: string;
  readonly database: string;
  readonly format: Manifest['format'];
  readonly runId: string;
}): Manifest {
  const { source, format, runId } = made;
  const id = makeBackupId(made.startedAt, LETTERS[format], systemRandom);
  const manifest = manifestOf(id, made.database, [`${id}.sql`]);
  return {
    ...manifest,
    source,
    format,
    runId,
    startedAt: made.startedAt.toISOString(),
    endedAt: made.endedAt.toISOString(),
    storeTime: made.endedAt.toISOString(),
    objects: manifest.objects.map((object) => ({ ...object, storedBytes: made.bytes })),
  };
}
