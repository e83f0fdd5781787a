import { formatDuration } from '../../common/bytes.ts';
import { isPgarkError, messageOf, PgarkError } from '../../common/errors.ts';
import { type CopiedWal, copySpan } from '../../formats/physical/copy-span.ts';
import { spanOf } from '../../formats/physical/needed-wal.ts';
import { tallyOf } from '../../pipeline/meter.ts';
import { acceptSize, readAcceptedSizes } from '../../repository/accepted-sizes.ts';
import type { Lease } from '../../repository/held-lease.ts';
import { type BackupId, kindOfId } from '../../repository/ids.ts';
import { keys } from '../../repository/keys.ts';
import { Leases } from '../../repository/leases.ts';
import { type Manifest, sizesOf } from '../../repository/manifest.ts';
import { encodeName } from '../../repository/names.ts';
import { Repository } from '../../repository/repository.ts';
import { readStateBytes } from '../../repository/state-object.ts';
import { sweep } from '../../repository/sweep.ts';
import type { RunResult } from '../../runs/record-keeper.ts';
import type { ObjectKey } from '../../storage/object-store.ts';
import { asRunError, type Run, runEnveloped } from '../../runs/run.ts';
import { acquireAfterSweep } from '../backup-locks.ts';
import type { OperationContext } from '../context.ts';
import { letGo } from '../let-go.ts';
import { prune } from '../prune.ts';
import { STALL_MS, StallWatch } from '../stall-watch.ts';
import { whileHeld } from '../while-held.ts';
import { checkPlaces, confirmSourceWal, hasNeededWal, isAnythingMissing } from './copy-checks.ts';
import { type CopyItem, CopyUnderWay, type CopyWorld } from './copy-item.ts';
import { type CopyPlan, planCopy, type PlannedBackup } from './copy-plan.ts';
import type { CopiedBackup, CopyOutcome, CopyPlace, CopyRequest } from './copy-request.ts';
import { fromFirst } from './copy-source.ts';

/** How long what was aborted may take to let go. Adapters tidy up within less. */
const LET_GO_MS = 90_000;
/** How long tidying up may take in all, where a store does not answer. The next run removes what is left. */
const CLEAN_UP_MS = 120_000;

/**
 * Copies a backup into another storage as it is stored, without a key: plan → lease → sweep → intents → globals, objects
 * and WAL, each compared with its digest on the way → manifest. What an incremental backup needs comes first. In the other
 * storage it exists when its manifest does; whatever fails before leaves nothing behind there, or what the next run sweeps by
 * its intent. Nothing that is there is replaced. No prune deletes it meanwhile where it comes from.
 */
export async function copyBackup(request: CopyRequest, context: OperationContext): Promise<CopyOutcome> {
  const { manifest, to, dryRun } = request;
  const { source, database } = manifest;
  const spec = { kind: 'copy', source, database: database.name, format: manifest.format } as const;
  return runEnveloped<CopyOutcome>({ ...context, store: to.store }, spec, async (run) => {
    context.onProgress({ phase: 'checking', subject: manifest.id, bytes: 0 });
    const plan = await run.span.span('plan', {}, () => planCopy(request, { ...context, logger: run.logger }));
    const hasWal = await hasNeededWal(plan, request, context);
    if (hasWal && !isAnythingMissing(plan)) return { value: outcomeOf(plan, 'planned'), result: {} };
    await to.store.probe({ write: true, signal: context.signal });
    if (dryRun) {
      await checkPlaces(plan, request, context);
      return { value: { ...outcomeOf(plan, 'planned'), isWalMissing: !hasWal }, result: {} };
    }
    const outcome = await new CopyRun(request, context, run).carryOut(plan);
    const letGoOf = await pruned(request, outcome, context);
    return { value: { ...outcome, letGo: letGoOf }, result: resultOf(outcome) };
  });
}

/** From the first write to the last, under a lease where it goes to, and holds where it comes from. */
class CopyRun {
  readonly #request: CopyRequest;
  readonly #context: OperationContext;
  readonly #run: Run;
  #wal: CopiedWal | undefined;
  #isPinned = false;
  /** Pins and accepted sizes that came before their backups. */
  readonly #marks: { readonly manifest: Manifest; readonly key: ObjectKey }[] = [];

  constructor(request: CopyRequest, context: OperationContext, run: Run) {
    this.#request = request;
    this.#context = context;
    this.#run = run;
  }

  async carryOut(planned: CopyPlan): Promise<CopyOutcome> {
    const { to, leaseTermMs, manifest } = this.#request;
    const { clock, random, host, pid, signal, pgarkVersion } = this.#context;
    const { logger, id: runId } = this.#run;
    const repository = new Repository(to.store, this.#context);
    await repository.initialise({ pgarkVersion, signal });
    await this.#run.open();
    const holder = { host, pid, runId, command: 'pgark copy' };
    const leases = new Leases(to.store, { clock, random, logger, termMs: leaseTermMs, holder });
    const lease = await acquireAfterSweep(leases, leaseNameOf(manifest), this.#context);
    let plan: CopyPlan;
    try {
      await sweep({ repository, leases, logger, held: [lease], signal: AbortSignal.any([signal, lease.lost]) });
      plan = await this.#asOfNow(planned);
      await this.#held(plan, () => this.#transfer(plan, lease));
    } catch (error) {
      throw lease.lost.aborted && !isPgarkError(error) ? lease.lost.reason : error;
    } finally {
      await lease.release();
    }
    return { ...outcomeOf(plan, 'copied'), wal: this.#wal, isPinned: this.#isPinned };
  }

  /** Another copy may have brought some of it before this one had the lease. */
  async #asOfNow(plan: CopyPlan): Promise<CopyPlan> {
    const { to } = this.#request;
    const { signal } = this.#context;
    for (const { recordKey } of itemsOf(plan)) {
      if ((await to.store.head(recordKey, { signal })) === undefined) continue;
      return planCopy(this.#request, { ...this.#context, logger: this.#run.logger });
    }
    return plan;
  }

  /** No prune deletes what is read, in whichever storage it is. */
  async #held(plan: CopyPlan, work: () => Promise<void>): Promise<void> {
    const { manifest, from } = this.#request;
    const { logger, id: runId } = this.#run;
    const parents = (place: CopyPlace): Manifest['parents'] =>
      plan.backups
        .filter((each) => each.manifest.id !== manifest.id && each.from.includes(place))
        .map((each) => each.manifest.id);
    const main = plan.backups.at(-1);
    const nested = from
      .filter((place) => main?.from.includes(place))
      .reduceRight<() => Promise<void>>(
        (inner, place) => () => {
          const held = { store: place.store, manifest: { ...manifest, parents: parents(place) } };
          return whileHeld({ ...held, command: 'copy', logger, runId }, this.#context, inner);
        },
        work,
      );
    await nested();
  }

  async #transfer(plan: CopyPlan, lease: Lease): Promise<void> {
    const { to, stallMs = STALL_MS, manifest } = this.#request;
    const { clock, signal: interrupt, onProgress } = this.#context;
    using watch = new StallWatch({
      clock,
      stallMs,
      isDue: () => true,
      stalled: () => stalledError(manifest.id, to, stallMs),
    });
    const signal = AbortSignal.any([interrupt, lease.lost, watch.signal]);
    const bytesTotal = itemsOf(plan).reduce((sum, { objects }) => sum + bytesOf(objects), 0);
    const tally = tallyOf((bytes) => onProgress({ phase: 'copying', subject: manifest.id, bytes, bytesTotal }));
    const onMoved = (): void => watch.moved();
    const world: CopyWorld = { to, run: this.#run, lease, signal, onMoved, tally };
    const begun: CopyUnderWay[] = [];
    const work = this.#copyAll(plan, world, begun);
    try {
      await letGo(work, { signal, clock, patienceMs: LET_GO_MS });
    } catch (thrown) {
      const stalled = watch.signal.aborted && !isPgarkError(thrown) ? watch.signal.reason : thrown;
      const error = asRunError('copy', stalled, interrupt);
      const deadline = AbortSignal.timeout(CLEAN_UP_MS);
      for (const each of begun) {
        await letGo(each.giveUp(error, deadline), { signal: deadline, clock, patienceMs: 0 }).catch(() => undefined);
      }
      await this.#unmark();
      throw error;
    }
  }

  /** `begun`: those under way, for whoever tidies up. */
  async #copyAll({ backups, globals }: CopyPlan, world: CopyWorld, begun: CopyUnderWay[]): Promise<void> {
    const { logger, span } = this.#run;
    const { to } = this.#request;
    const begin = async (item: CopyItem | undefined): Promise<CopyUnderWay | undefined> => {
      if (item === undefined) return undefined;
      const under = await CopyUnderWay.begin(item, world);
      begun.push(under);
      return under;
    };
    // The backup itself first: while its intent is there, no prune deletes what it needs, its WAL, or its globals.
    const under = new Map<PlannedBackup, CopyUnderWay>();
    for (const backup of backups.toReversed()) {
      const each = await begin(backup.item);
      if (each !== undefined) under.set(backup, each);
    }
    const roles = await begin(globals?.item);
    if (roles !== undefined) {
      await roles.putAll();
      await roles.commit();
      logger.info('copy.globals', `copied the roles and tablespaces of ${roles.item.source} to ${to.name}`, {
        globalsId: roles.item.id,
        storage: to.name,
      });
    }
    for (const backup of backups) {
      await span.span('copy', { 'pgark.backup_id': backup.manifest.id }, () =>
        this.#copyOne(backup, under.get(backup), world),
      );
    }
  }

  async #copyOne(backup: PlannedBackup, under: CopyUnderWay | undefined, world: CopyWorld): Promise<void> {
    const { manifest } = backup;
    const { logger } = this.#run;
    const { to } = this.#request;
    await confirmParents(manifest, world);
    if (under === undefined) return this.#copyWal(backup, world);
    const { id } = manifest;
    logger.info('copy.started', `copying ${id} of ${manifest.database.name} to ${to.name}`, { backupId: id });
    await confirmSourceWal(backup, { logger, signal: world.signal });
    await under.putAll();
    // Behind the data: WAL is never taken back, since a receiver may count on it by then.
    await this.#copyWal(backup, world);
    await confirmParents(manifest, world);
    if (id === this.#request.manifest.id) await this.#copyPin(backup, world);
    await this.#copyAcceptance(backup, world);
    await under.commit();
    const { storedBytes } = sizesOf(manifest);
    const from = backup.from.map(({ name }) => name).join(', ');
    logger.success('copy.committed', `copied ${id} of ${manifest.database.name} from ${from} to ${to.store.location}`, {
      backupId: id,
      storage: to.name,
      storedBytes,
    });
  }

  /** Also of one that is there: without it, it is none. */
  async #copyWal({ manifest, from }: PlannedBackup, { to, onMoved, signal }: CopyWorld): Promise<void> {
    if (kindOfId(manifest.id) !== 'physical' || from.length === 0) return;
    const { keys: opening = { identities: [], passphrases: [] } } = this.#request;
    const { logger } = this.#run;
    const work = { what: `the WAL of ${manifest.id}`, logger, signal };
    const { objects, bytes } = await fromFirst(from, work, ({ store }) =>
      copySpan(spanOf(manifest), { from: store, to: to.store, keys: opening, logger, signal, onMoved }),
    );
    const { objects: before = 0, bytes: bytesBefore = 0 } = this.#wal ?? {};
    this.#wal = { objects: before + objects, bytes: bytesBefore + bytes };
  }

  /** What is held where it comes from is held where it goes to, before retention there sees it. */
  async #copyPin({ manifest, from }: PlannedBackup, { to, signal }: CopyWorld): Promise<void> {
    const { id } = manifest;
    for (const { store } of from) {
      const pin = await readStateBytes(store, keys.pin(id), { signal });
      if (pin === undefined) continue;
      this.#isPinned = true;
      this.#marks.push({ manifest, key: keys.pin(id) });
      await to.store.putSmall(keys.pin(id), pin.bytes, { signal, contentType: 'application/json' });
      return;
    }
  }

  /** That somebody has called a suspicious size right goes with the backup, before anybody sees it there. */
  async #copyAcceptance({ manifest, from }: PlannedBackup, { to, signal }: CopyWorld): Promise<void> {
    const { id, suspicions } = manifest;
    if (suspicions === undefined) return;
    for (const { store } of from) {
      if (!(await readAcceptedSizes(store, { signal })).has(id)) continue;
      this.#marks.push({ manifest, key: keys.acceptedSize(id) });
      await acceptSize(to.store, id, { acceptedAt: this.#context.clock.now(), signal });
      return;
    }
  }

  /** What is noted of a backup that is not there holds for nothing. */
  async #unmark(): Promise<void> {
    const { to } = this.#request;
    for (const { manifest, key } of this.#marks) {
      if (!(await isCommitted(to, manifest))) await to.store.delete(key).catch(() => undefined);
    }
  }
}

/** Copies of a source go into a storage one after the other; its backups do not wait for them. */
function leaseNameOf({ source }: Manifest): string {
  return `copy:${encodeName(source)}`;
}

/** Error: `backup-not-found` for one that the backup needs and that is not there. */
async function confirmParents({ id, source, database, parents }: Manifest, { to, signal }: CopyWorld): Promise<void> {
  for (const parent of parents) {
    const key = keys.manifest(source, database.name, parent);
    if ((await to.store.head(key, { signal })) !== undefined) continue;
    throw new PgarkError('backup-not-found', `${parent}, which ${id} needs, was removed from ${to.name} meanwhile`, {
      hint: 'run the command again: it copies what is missing',
    });
  }
}

async function isCommitted({ store }: CopyPlace, { source, database, id }: Manifest): Promise<boolean> {
  // What cannot be asked may be there.
  return store.head(keys.manifest(source, database.name, id)).then(
    (info) => info !== undefined,
    () => true,
  );
}

/** Which of the copies the next prune lets go, by what is there now. */
async function pruned(
  request: CopyRequest,
  outcome: CopyOutcome,
  context: OperationContext,
): Promise<readonly BackupId[]> {
  const { retention, to, leaseTermMs, manifest } = request;
  const copies = outcome.backups.filter(({ state }) => state === 'copied').map((each) => each.manifest.id);
  if (retention === undefined || copies.length === 0) return [];
  const filter = { source: manifest.source, database: manifest.database.name, kind: kindOfId(manifest.id) };
  const plan = { store: to.store, filter, ...retention, leaseTermMs, dryRun: true, force: true };
  try {
    const { planned } = await prune(plan, context);
    return planned.map(({ id }) => id).filter((id) => copies.includes(id));
  } catch (error) {
    const what = `whether retention in ${to.name} lets go of the copy could not be seen: ${messageOf(error)}`;
    context.logger.warning('copy.retention_unknown', what);
    return [];
  }
}

function itemsOf({ backups, globals }: CopyPlan): readonly CopyItem[] {
  return [...backups.map(({ item }) => item), globals?.item].flatMap((item) => item ?? []);
}

function bytesOf(objects: CopyItem['objects']): number {
  return objects.reduce((sum, { storedBytes }) => sum + storedBytes, 0);
}

function outcomeOf({ backups, globals }: CopyPlan, done: 'copied' | 'planned'): CopyOutcome {
  const stateOf = (item: CopyItem | undefined): CopiedBackup['state'] => (item === undefined ? 'present' : done);
  return {
    backups: backups.map(({ manifest, objects, item }) => ({
      manifest,
      state: stateOf(item),
      objects: objects.length,
      storedBytes: bytesOf(objects),
    })),
    globals: globals && { id: globals.id, state: stateOf(globals.item) },
    wal: undefined,
    isWalMissing: false,
    isPinned: false,
    letGo: [],
  };
}

function resultOf({ backups, wal }: CopyOutcome): RunResult {
  const copied = backups.filter(({ state }) => state === 'copied');
  const storedBytes = copied.reduce((sum, each) => sum + each.storedBytes, 0);
  const backupId = backups.at(-1)?.manifest.id ?? '';
  return { backupId, copied: copied.length, storedBytes, ...(wal && { walObjects: wal.objects, walBytes: wal.bytes }) };
}

function stalledError(id: BackupId, { store }: CopyPlace, stallMs: number): PgarkError {
  return new PgarkError(
    'stalled',
    `no byte of ${id} has come or gone into ${store.location} for ${formatDuration(stallMs)}: the copy was given up`,
    { hint: 'check that both storages answer, and the network to them, then copy again' },
  );
}
