import { inParallel } from '../../common/in-parallel.ts';
import { kindOfId } from '../../repository/ids.ts';
import type { Manifest } from '../../repository/manifest.ts';
import { findReaders } from '../../repository/readers.ts';
import type { Repository } from '../../repository/repository.ts';
import { parseWalKey, type WalFolder, type WalObject, walPrefix } from '../../repository/wal-keys.ts';
import { listWalRecords } from '../../repository/wal-record.ts';
import type { WalStretch } from '../../retention/wal.ts';
import type { ObjectInfo, ObjectStore } from '../../storage/object-store.ts';
import { physicalUnderWay } from '../under-way.ts';
import { isLocked, keptWal, stretchOf, type TailLoss, type WalLock } from './kept-wal.ts';

export interface WalPruneRequest extends WalLock {
  readonly repository: Repository;
  readonly source: string;
  /** Backups that go, or have gone, in the same prune. */
  readonly removing: readonly Manifest[];
  /** How far back recovery has to reach. Undefined: as far as the oldest base backup. */
  readonly keepMs: number | undefined;
  readonly dryRun: boolean;
  /** Let more than half of the base backups lose the log that goes on behind them. */
  readonly force: boolean;
  /** Awaited before each batch of deletions; nothing is deleted if it throws. */
  readonly confirm: () => Promise<void>;
  readonly signal: AbortSignal;
}

/** What went of one server's WAL, or would. */
export interface WalPruneOutcome extends WalFolder {
  readonly segments: number;
  /** Parts of segments, partial ones at the end of timelines, labels of backups. */
  readonly otherObjects: number;
  readonly bytes: number;
  /** Uploads that a receiver which was killed had left open. */
  readonly uploads: number;
  /** Segments that nothing needs, and that nobody can delete yet. */
  readonly locked: number;
  /** In a sentence, why nothing goes but what is there twice. */
  readonly keepsAll: string | undefined;
  /** More than half of the base backups would lose the log that goes on behind them: nothing goes without force. */
  readonly refused: TailLoss | undefined;
}

/** Deletions between two looks at the lease and at backups that have begun. */
const BATCH_OBJECTS = 500;
const DELETES_AT_ONCE = 8;
/**
 * No put of a piece of WAL lasts nearly as long, on any usual line: an upload that is still open so long after its object came is
 * nobody's. It was opened before that, since none is opened for an object that is there.
 */
const UPLOAD_LEFT_MS = 3_600_000;

/** Removes the WAL of a source that no base backup needs which stays, and that the recovery window does not either. */
export async function pruneWal(request: WalPruneRequest): Promise<readonly WalPruneOutcome[]> {
  const { repository, source, removing, signal } = request;
  const call = { signal };
  // It may need any WAL from before its start. Before the manifests: one that ends in between is in one of the two.
  const isBusy = (await physicalUnderWay(repository.store, source, call)).length > 0;
  const { manifests, damaged } = await repository.backups({ source, kind: 'physical' }, call);
  const [unreadable] = damaged;
  if (unreadable) throw unreadable.error;
  const goes = new Set(removing.map(({ id }) => id));
  const removed = removing.filter((manifest) => manifest.source === source && kindOfId(manifest.id) === 'physical');
  const kept = manifests.filter(({ id }) => !goes.has(id));
  const outcomes: WalPruneOutcome[] = [];
  for (const [systemIdentifier, segmentBytes] of await archivesOf(repository.store, source, [...kept, ...removed])) {
    const isOfServer = ({ server }: Manifest): boolean => server.systemIdentifier === systemIdentifier;
    const archive = { source, systemIdentifier };
    const backups = { kept: kept.filter(isOfServer), removed: removed.filter(isOfServer) };
    outcomes.push(await new ArchivePrune(request, archive, segmentBytes).run(backups, isBusy));
  }
  return outcomes;
}

/** By system identifier the size of segments, as the archives' records or the backups say it. */
async function archivesOf(
  store: ObjectStore,
  source: string,
  manifests: readonly Manifest[],
): Promise<ReadonlyMap<string, number>> {
  const found = new Map<string, number>();
  for (const { server, walNeeded } of manifests) {
    if (server.systemIdentifier === undefined || walNeeded?.segmentBytes === undefined) continue;
    found.set(server.systemIdentifier, walNeeded.segmentBytes);
  }
  for (const { systemIdentifier, segmentBytes } of await listWalRecords(store, source)) {
    found.set(systemIdentifier, segmentBytes);
  }
  return found;
}

const UNDER_WAY = 'a physical backup is under way, which may need it';
const BEING_READ = 'a physical backup is being restored, which may need it';

interface Found {
  readonly wal: WalObject;
  readonly info: ObjectInfo;
}

class ArchivePrune {
  readonly #request: WalPruneRequest;
  readonly #store: ObjectStore;
  readonly #archive: WalFolder;
  readonly #segmentBytes: number;
  #needs: (stretch: WalStretch) => boolean = () => true;
  #kept: readonly Manifest[] = [];
  #keepsAll: string | undefined;
  #batch: Found[] = [];
  #count = { segments: 0, otherObjects: 0, bytes: 0, uploads: 0, locked: 0 };

  constructor(request: WalPruneRequest, archive: WalFolder, segmentBytes: number) {
    this.#request = request;
    this.#store = request.repository.store;
    this.#archive = archive;
    this.#segmentBytes = segmentBytes;
  }

  async run(
    backups: { readonly kept: readonly Manifest[]; readonly removed: readonly Manifest[] },
    isBusy: boolean,
  ): Promise<WalPruneOutcome> {
    const { keepMs, signal, force } = this.#request;
    const call = { signal };
    const place = { store: this.#store, folder: this.#archive, segmentBytes: this.#segmentBytes };
    this.#kept = backups.kept;
    const busy = isBusy ? UNDER_WAY : await this.#beingRead();
    const lock = this.#request;
    const plan = busy === undefined ? await keptWal({ ...place, ...backups, keepMs, lock }, call) : { keepsAll: busy };
    const loses = 'rule' in plan && plan.loses.lostCount * 2 > plan.loses.totalCount ? plan.loses : undefined;
    const refused = force ? undefined : loses;
    if ('keepsAll' in plan) this.#keepsAll = plan.keepsAll;
    else if (refused === undefined) this.#needs = plan.rule.needs;
    let group: Found[] = [];
    for await (const info of this.#store.list(walPrefix(this.#archive), call)) {
      const wal = parseWalKey(info.key);
      if (wal === undefined || wal.kind === 'history') continue;
      if (segmentNameOf(group[0]?.wal) !== segmentNameOf(wal)) {
        await this.#judge(group);
        group = [];
      }
      group.push({ wal, info });
    }
    await this.#judge(group);
    await this.#deleteBatch();
    await this.#endUploads();
    return { ...this.#archive, ...this.#count, keepsAll: this.#keepsAll, refused };
  }

  /** All objects of one segment. */
  async #judge(group: readonly Found[]): Promise<void> {
    const hasWhole = group.some(({ wal }) => wal.kind === 'segment');
    for (const { wal, info } of group) {
      const isThereTwice = wal.kind === 'delta' && hasWhole;
      if (!isThereTwice && this.#isNeeded(wal, info.modified)) continue;
      // To delete it would only hide it, and its room would be taken as long. Parts are never locked.
      if (wal.kind !== 'delta' && isLocked(info.modified, this.#request)) {
        if (wal.kind === 'segment') this.#count.locked += 1;
        continue;
      }
      this.#batch.push({ wal, info });
    }
    if (this.#batch.length >= BATCH_OBJECTS) await this.#deleteBatch();
  }

  #isNeeded(wal: WalObject, storedAt: Date): boolean {
    const stretch = stretchOf(wal, this.#segmentBytes);
    return stretch === undefined || this.#needs({ ...stretch, storedAt });
  }

  async #deleteBatch(): Promise<void> {
    const { dryRun, confirm, signal, source } = this.#request;
    const batch = this.#batch;
    this.#batch = [];
    if (!dryRun && batch.length > 0) {
      await confirm();
      const busy = this.#keepsAll === undefined ? await this.#busy(source) : undefined;
      if (busy !== undefined) {
        this.#keepsAll = busy;
        this.#needs = () => true;
        return;
      }
      await inParallel(batch, DELETES_AT_ONCE, signal, async (take, either) => {
        for (let found = take(); found !== undefined; found = take()) {
          await this.#store.delete(found.info.key, { signal: either });
        }
      });
    }
    for (const { wal, info } of batch) {
      if (wal.kind === 'segment') this.#count.segments += 1;
      else this.#count.otherObjects += 1;
      this.#count.bytes += info.bytes;
    }
  }

  async #busy(source: string): Promise<string | undefined> {
    const begun = await physicalUnderWay(this.#store, source, { signal: this.#request.signal });
    return begun.length > 0 ? UNDER_WAY : this.#beingRead();
  }

  /** A recovery goes on for long in the log behind its base, of which a shorter part may be wanted meanwhile. */
  async #beingRead(): Promise<string | undefined> {
    const { reading } = await findReaders(this.#store, { signal: this.#request.signal });
    return this.#kept.some(({ id }) => reading.has(id)) ? BEING_READ : undefined;
  }

  /** What a receiver that was killed left of segments that are archived by now, or not needed any more. */
  async #endUploads(): Promise<void> {
    const { dryRun, now, signal } = this.#request;
    const call = { signal };
    for await (const upload of this.#store.listUploads(walPrefix(this.#archive), call)) {
      const wal = parseWalKey(upload.key);
      if (wal?.kind !== 'segment') continue;
      const info = await this.#store.head(upload.key, call);
      const isLeft = info !== undefined && info.modified.getTime() < now.getTime() - UPLOAD_LEFT_MS;
      if (!isLeft && (info !== undefined || this.#isNeeded(wal, new Date(0)))) continue;
      if (!dryRun) await this.#store.abortUpload(upload, call);
      this.#count.uploads += 1;
    }
  }
}

/** The name of the segment that an object holds something of. */
function segmentNameOf(wal: WalObject | undefined): string | undefined {
  return wal?.name.slice(0, 24);
}
