import { formatDuration } from '../common/bytes.ts';
import type { Clock } from '../common/clock.ts';
import { assert, isPgarkError, messageOf, type PgarkError } from '../common/errors.ts';
import { allOf } from '../common/in-parallel.ts';
import type { Logger } from '../common/log.ts';
import { readStored, type SealedOutlet } from '../formats/sealed-object.ts';
import type { ConnectionParameters } from '../postgres/client/connection-parameters.ts';
import type { Lease } from '../repository/held-lease.ts';
import { IntentLog, type OpenIntent } from '../repository/intents.ts';
import type { Leases } from '../repository/leases.ts';
import type { Manifest, ManifestObject } from '../repository/manifest.ts';
import { Repository } from '../repository/repository.ts';
import { ID_METADATA } from '../repository/owned-objects.ts';
import { removeBackup } from '../repository/remove-backup.ts';
import { sweep } from '../repository/sweep.ts';
import type { RunRecordKeeper, RunResult } from '../runs/record-keeper.ts';
import { asRunError, type SpreadRun } from '../runs/run.ts';
import type { ObjectLock, ObjectStore, UploadInfo } from '../storage/object-store.ts';
import { cleanUp } from './backup-clean-up.ts';
import type { BackupFile, BackupName } from './backup-format.ts';
import { acquireAfterSweep, leasesFor } from './backup-locks.ts';
import { makeManifest, type ManifestFacts } from './backup-manifest.ts';
import type { OperationContext } from './context.ts';
import { DestinationSteps } from './destination-steps.ts';
import { letGo } from './let-go.ts';
import { warnOfOtherServer } from './other-server.ts';

/** A store may tell whole seconds, and requests take their time. */
const CLOCKS_APART_MS_MAX = 60_000;
/** How long tidying up may take in all, where a store does not answer. The next run removes what is left. */
const CLEAN_UP_MS = 120_000;

const INTENT_STAYS = 'the intent of a committed backup stays until the next run';

/** One place that a backup goes to. */
export interface BackupDestination {
  /** What outcomes and messages call it: the storage's name in the configuration. */
  readonly name: string;
  readonly store: ObjectStore;
  /** Whether retention will want to delete there: then deleting is tried in the checks before. */
  readonly needsDelete: boolean;
}

/** What came of a backup in one of its destinations. */
export type DestinationOutcome = {
  readonly name: string;
  /** The place for people, without credentials. */
  readonly location: string;
} & (
  | { readonly manifest: Manifest; readonly error?: undefined }
  | { readonly manifest?: undefined; readonly error: PgarkError }
);

export interface DestinationWorld {
  readonly run: SpreadRun;
  readonly context: OperationContext;
  /** Aborted when the whole run ends early. */
  readonly signal: AbortSignal;
  readonly stallMs: number;
  readonly leaseTermMs: number;
}

/** What is being backed up here, once it has a name. */
interface Begun {
  readonly name: BackupName;
  readonly connection: ConnectionParameters;
  readonly intent: OpenIntent;
}

/** A file that lies in the store. */
interface PutFile {
  readonly object: ManifestObject;
  readonly isListed: boolean;
}

/** The order in which a backup goes through one destination, step by step. Each step rejects if it fails. */
export class DestinationRun {
  readonly name: string;
  readonly store: ObjectStore;
  readonly repository: Repository;
  /** Bytes that the store has accepted so far. */
  bytesStored = 0;
  readonly #needsDelete: boolean;
  readonly #world: DestinationWorld;
  readonly #logger: Logger;
  readonly #clock: Clock;
  readonly #record: RunRecordKeeper;
  readonly #leases: Leases;
  readonly #steps: DestinationSteps;
  readonly #files: PutFile[] = [];
  #lease: Lease | undefined;
  #begun: Begun | undefined;
  #commitBegun = false;
  #lock: ObjectLock | undefined;
  #isRepository = false;

  constructor({ name, store, needsDelete }: BackupDestination, world: DestinationWorld) {
    const { run, context, stallMs } = world;
    this.name = name;
    this.store = store;
    this.repository = new Repository(store, context);
    this.#needsDelete = needsDelete;
    this.#world = world;
    this.#logger = run.logger;
    this.#clock = context.clock;
    this.#record = run.recordIn(store);
    this.#leases = leasesFor(store, run, context, world.leaseTermMs);
    const { clock } = context;
    this.#steps = new DestinationSteps({ clock, stallMs, signal: world.signal, location: store.location });
  }

  /** Whether a backup can be written here. */
  async check(): Promise<void> {
    const [profile, isRepository] = await this.#steps.run((signal) =>
      allOf([
        this.store.probe({ write: true, delete: this.#needsDelete, signal }),
        this.repository.checkLayout({ signal }).catch(beforeFirstWrite),
      ]),
    );
    this.#lock = profile.lock;
    this.#isRepository = isRepository;
  }

  /** Makes the repository where there is none yet. The first write that stays. */
  async initialise(): Promise<void> {
    if (this.#isRepository) return;
    const { pgarkVersion } = this.#world.context;
    await this.#steps.run((signal) => this.repository.initialise({ pgarkVersion, signal }));
  }

  /**
   * Takes the lease, and writes the record of the run, which tells nobody anything before the lock on the server is held too.
   * `destinations`: the names of all that the run works on, if they are several.
   */
  async open(leaseName: string, destinations: readonly string[] | undefined): Promise<void> {
    await allOf([
      this.#steps.run(async (signal) => {
        this.#lease = await acquireAfterSweep(this.#leases, leaseName, { clock: this.#clock, signal });
      }),
      this.#steps.run(() => this.#record.open(destinations)),
    ]);
    this.#steps.endBy(this.#heldLease().lost);
  }

  /** The lease, if it is held and worth something: the store's conditional writes decide who holds it. */
  get holdsLeaseSurely(): boolean {
    return this.#lease?.mode === 'conditional' && !this.#lease.lost.aborted;
  }

  /** Removes what earlier, dead runs left. Its failure never stops a backup. */
  async sweep(): Promise<void> {
    const lease = this.#heldLease();
    await this.#steps.run(async (signal) => {
      try {
        const { repository } = this;
        await sweep({ repository, leases: this.#leases, logger: this.#logger, held: [lease], signal });
      } catch (error) {
        signal.throwIfAborted();
        this.#logger.warning('sweep.failed', `what a dead run left could not be removed: ${messageOf(error)}`);
      }
    });
  }

  /** Says so if the backup joins those of another server. Its failure never stops a backup. */
  async warnOfOtherServer(current: Parameters<typeof warnOfOtherServer>[1]): Promise<void> {
    await this.#steps.run((signal) => warnOfOtherServer(this.repository, current, { logger: this.#logger, signal }));
  }

  /** Whether an object of this name is there already. */
  async hasObject(key: string): Promise<boolean> {
    return this.#steps.run(async (signal) => (await this.store.head(key, { signal })) !== undefined);
  }

  async begin(name: BackupName, of: { source: string; connection: ConnectionParameters }): Promise<void> {
    const lease = this.#heldLease();
    const { id, startedAt, keys, prefixes } = name;
    const { source, connection } = of;
    const { database } = connection;
    const plan = { id, runId: this.#world.run.id, lease, source, database, startedAt, keys, prefixes };
    await this.#steps.run(async (signal) => {
      const intent = await new IntentLog(this.store).begin(plan, { signal });
      this.#begun = { name, connection, intent };
    });
  }

  /** Stores what comes out of the outlet. Several may be put at once. */
  async put(
    outlet: SealedOutlet,
    { bytesEstimateMax, isListed, filesAtOnce }: Pick<BackupFile, 'bytesEstimateMax' | 'isListed' | 'filesAtOnce'>,
    onProgress: () => void,
  ): Promise<ManifestObject> {
    assert(this.#begun !== undefined, `the backup in ${this.store.location} was begun`);
    const { name, connection, intent } = this.#begun;
    const uploads: UploadInfo[] = [];
    let bytesStored = 0;
    try {
      return await this.#steps.runPutting(outlet, async (signal) => {
        const { object } = await outlet.put(this.store, {
          metadata: {
            [ID_METADATA]: name.id,
            'pgark-timestamp': name.startedAt.toISOString(),
            'pgark-database': connection.database,
            'pgark-host': connection.host,
          },
          bytesEstimateMax,
          // The intent has found the folder empty, and its name tells that it is this backup's.
          nameIsFree: name.prefixes.some((prefix) => outlet.key.startsWith(prefix)),
          putsAtOnce: filesAtOnce,
          onUploadOpened: async (upload) => {
            uploads.push(upload);
            await intent.addUpload(upload);
          },
          onBytesStored: (bytes) => {
            if (bytes > bytesStored) this.#steps.moved();
            this.bytesStored += bytes - bytesStored;
            bytesStored = bytes;
            onProgress();
          },
          onHeldBack: () => this.#steps.moved(),
          signal,
        });
        // Before the step is over: whoever gives up waits for the steps, and tidies up what lies in the store then.
        this.#files.push({ object, isListed });
        return object;
      });
    } finally {
      for (const upload of uploads) intent.uploadEnded(upload);
    }
  }

  /** A step of a format's own, on what is no file of the backup. */
  async work(step: (store: ObjectStore, signal: AbortSignal) => Promise<void>): Promise<void> {
    await this.#steps.run((signal) => step(this.store, signal));
  }

  /** Proof beyond what the store confirmed: every stored byte is fetched again. Error: `corrupt`; nothing is committed. */
  async readBack(): Promise<void> {
    const { onProgress } = this.#world.context;
    const { bytesStored } = this;
    let bytesBefore = 0;
    for (const { object } of this.#files) {
      const onStoredBytes = (bytes: number): void => {
        this.#steps.moved();
        const progress = { bytes: bytesBefore + bytes, bytesTotal: bytesStored };
        onProgress({ phase: 'verifying', subject: object.key, ...progress });
      };
      await this.#steps.run(async (signal) => {
        for await (const _ of readStored(this.store, object, { signal, onStoredBytes })) signal.throwIfAborted();
      });
      bytesBefore += object.storedBytes;
    }
  }

  /** Lock and lease looked at, the manifest, the lease looked at again. From then on the backup exists. */
  async commit(facts: ManifestFacts, confirmLock: () => Promise<void>): Promise<Manifest> {
    const lease = this.#heldLease();
    const objects = this.#files.flatMap(({ object, isListed }) => (isListed ? [object] : []));
    const totals = objects.length === this.#files.length ? undefined : this.#totals();
    const manifest = await this.#steps.run(async (signal) => {
      const endedAt = this.#clock.now();
      const [storeTime] = await allOf([this.store.now({ signal }), confirmLock().then(() => lease.confirm())]);
      signal.throwIfAborted();
      this.#warnOfClock(endedAt, storeTime);
      return makeManifest(facts, { objects, totals, endedAt, storeTime, lock: this.#lock });
    });
    // From here on nothing is taken back: a manifest that may have arrived keeps its data. No signal cuts this short.
    this.#commitBegun = true;
    await this.#steps.runToEnd(async () => {
      await this.repository.commit(manifest);
      await this.#confirmCommit(manifest, lease);
    });
    return manifest;
  }

  /** Retention goes by the store's clock; names, and so what is the newest, by this one. */
  #warnOfClock(here: Date, there: Date): void {
    const aheadMs = here.getTime() - there.getTime();
    if (Math.abs(aheadMs) <= CLOCKS_APART_MS_MAX) return;
    const apart = `${formatDuration(Math.abs(aheadMs))} ${aheadMs > 0 ? 'ahead of' : 'behind'}`;
    this.#logger.warning(
      'backup.clock',
      `this machine's clock is ${apart} that of ${this.store.location}, and the backup is named by it: set the clock`,
      { storage: this.name },
    );
  }

  /** After the commit: tidies up and says in the record how it went. Never rejects. */
  async conclude(result: RunResult): Promise<void> {
    const deadline = AbortSignal.timeout(CLEAN_UP_MS);
    // The backup is committed: an intent that the next run still finds under its lease is removed by its sweep.
    const finishing = this.#begun?.intent.finish({ signal: deadline });
    await allOf([this.#tidy(finishing, deadline, 'intent.finish_failed', INTENT_STAYS), this.#letGoOfLease(deadline)]);
    await this.#end(deadline, () => this.#record.succeed(result));
  }

  /** What was thrown by a step, as it leaves the run. */
  errorOf(thrown: unknown): PgarkError {
    const { signal } = this.#world.context;
    if (isPgarkError(thrown)) return thrown;
    const { reason, aborted } = this.#steps.signal;
    return aborted && isPgarkError(reason) ? reason : asRunError('backup', thrown, signal);
  }

  /** After a failure: what is left of the backup is removed, and the record says how it went. Never rejects. */
  async giveUp(failure: PgarkError): Promise<void> {
    // Nothing may be put any more when it is tidied up.
    await this.#steps.giveUp(failure);
    const deadline = AbortSignal.timeout(CLEAN_UP_MS);
    if (this.#begun !== undefined && !this.#commitBegun) {
      const { name, intent } = this.#begun;
      const etags = new Map(this.#files.map(({ object: { key, etag } }) => [key, etag]));
      const left = { name, etags, intent, lost: this.#lease?.lost.aborted === true, error: failure };
      const cleaning = cleanUp(this.store, left, { logger: this.#logger, signal: deadline });
      await this.#tidy(cleaning, deadline, 'backup.cleanup_failed', 'what the failed backup left stays');
    }
    await this.#end(deadline, () => this.#record.fail(failure));
  }

  /** No step follows; of one that neither committed nor failed. */
  close(): void {
    this.#steps[Symbol.dispose]();
  }

  /**
   * Looks at the lease once more after the commit: a run that was stopped between its last look and the manifest's arrival
   * may have been taken for dead, and its data swept. It takes its backup back, so that a run without its lease has
   * committed nothing. A store that cannot be asked proves nothing, and the commit stands.
   */
  async #confirmCommit(manifest: Manifest, lease: Lease): Promise<void> {
    try {
      await lease.confirm();
    } catch (error) {
      if (!isPgarkError(error, 'lease-lost')) {
        const message = `the lease could not be looked at after the commit: ${messageOf(error)}`;
        this.#logger.warning('lease.unconfirmed', message, { storage: this.name });
        return;
      }
      await removeBackup(this.repository, manifest);
      throw error;
    }
  }

  #totals(): NonNullable<Manifest['totals']> {
    const objects = this.#files.map(({ object }) => object);
    return {
      objects: objects.length,
      storedBytes: objects.reduce((sum, { storedBytes }) => sum + storedBytes, 0),
      plainBytes: objects.reduce((sum, { plainBytes }) => sum + plainBytes, 0),
    };
  }

  #heldLease(): Lease {
    assert(this.#lease !== undefined, `the lease in ${this.store.location} was acquired`);
    return this.#lease;
  }

  async #end(deadline: AbortSignal, writeRecord: () => Promise<void>): Promise<void> {
    this.close();
    await this.#letGoOfLease(deadline);
    await this.#tidy(writeRecord(), deadline, 'run.record_failed', 'the record of this run may not be written');
  }

  async #letGoOfLease(deadline: AbortSignal): Promise<void> {
    await this.#tidy(this.#lease?.release(), deadline, 'lease.release-failed', 'the lease ends with its term');
  }

  /** Waits for something that is good to have, until the deadline. */
  async #tidy(work: Promise<void> | undefined, deadline: AbortSignal, event: string, otherwise: string): Promise<void> {
    if (work === undefined) return;
    try {
      await letGo(work, { signal: deadline, clock: this.#clock, patienceMs: 0 });
    } catch (error) {
      this.#logger.warning(event, `${otherwise}: ${messageOf(error)}`, { storage: this.name });
    }
  }
}

/** Of a place that the first write makes, a folder of a remote: there is nothing yet, and a place that cannot be made fails the probe. */
function beforeFirstWrite(error: unknown): false {
  if (isPgarkError(error, 'store-bucket-missing')) return false;
  throw error;
}
