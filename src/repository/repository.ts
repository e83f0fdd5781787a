import { z } from 'zod';
import type { Clock } from '../common/clock.ts';
import { isPgarkError, PgarkError } from '../common/errors.ts';
import type { Random } from '../common/random.ts';
import type { CallOptions, ObjectInfo, ObjectKey, ObjectStore } from '../storage/object-store.ts';
import { isGlobalsData } from './globals.ts';
import { type BackupId, type BackupKind, isBackupId, isOfFuture, kindOfId } from './ids.ts';
import { readStateBytes } from './state-object.ts';
import { storeTimeIfKnown } from './store-clock.ts';
import { keys, parseManifestKey, STATE_END, STATE_PREFIX } from './keys.ts';
import { LAYOUT, parseManifest, refuseHigherLayout, serialiseManifest, type Manifest } from './manifest.ts';
import { walFolderEnd } from './wal-keys.ts';

/** Manifests read at once while listing. */
const READS_IN_FLIGHT_MAX = 16;

const repositoryRecord = z.object({ layout: z.number().int(), id: z.string(), createdAt: z.string() });

export interface BackupFilter {
  readonly source?: string;
  readonly database?: string;
  /** Default: both. */
  readonly kind?: BackupKind;
}

/** What one listing shows of a manifest. */
export interface ManifestKey {
  readonly key: string;
  readonly id: string;
}

export interface UnclaimedOptions extends CallOptions {
  /**
   * Called for what a storage in files holds beside the backups and may not be looked at by this user: it is left out. Default, and
   * for what is a backup's in any case: an error that names it.
   */
  readonly onUnseen?: (path: string) => void;
}

/** One whose id tells when its backup was begun. */
type DatedKey = ManifestKey & { readonly id: BackupId };

/** A manifest that is there but cannot be read. Listings go on without it and say so. */
export interface DamagedManifest {
  readonly key: string;
  readonly error: PgarkError;
}

/**
 * One repository: what lies under a prefix of a store. It knows where manifests and pins are;
 * data objects pass through the store itself.
 */
export class Repository {
  readonly store: ObjectStore;
  readonly #clock: Clock;
  readonly #random: Random;

  constructor(store: ObjectStore, options: { readonly clock: Clock; readonly random: Random }) {
    this.store = store;
    this.#clock = options.clock;
    this.#random = options.random;
  }

  /** Creates `repository.json` if this is the first write ever; refuses a layout of a newer version. */
  async initialise(options: CallOptions & { readonly pgarkVersion: string }): Promise<void> {
    if (await this.checkLayout(options)) return;
    const id = Buffer.from(this.#random.bytes(16)).toString('hex');
    const record = {
      layout: LAYOUT,
      id,
      createdAt: this.#clock.now().toISOString(),
      pgarkVersion: options.pgarkVersion,
    };
    try {
      await this.store.putSmall(keys.repository, encode(record), { ...options, condition: { ifAbsent: true } });
    } catch (error) {
      if (!isPgarkError(error, 'store-condition-failed')) throw error;
      await this.checkLayout(options);
    }
  }

  /** Whether this is a repository already. Rejects with `repository-unknown-layout` if a newer version wrote it. */
  async checkLayout(options: CallOptions = {}): Promise<boolean> {
    const bytes = await this.#readSmall(keys.repository, options);
    if (bytes === undefined) return false;
    let value: unknown;
    try {
      value = JSON.parse(new TextDecoder().decode(bytes));
    } catch (error) {
      throw new PgarkError('repository-damaged', `${keys.repository} in ${this.store.location} is no JSON`, {
        cause: error,
      });
    }
    refuseHigherLayout(value, keys.repository);
    if (!repositoryRecord.safeParse(value).success) {
      throw new PgarkError(
        'repository-damaged',
        `${keys.repository} in ${this.store.location} is not what pgark writes`,
      );
    }
    return true;
  }

  /** The commit point: after this resolves, the backup exists. Rejects with `store-condition-failed` if the id is taken. */
  async commit(manifest: Manifest, options: CallOptions = {}): Promise<void> {
    const key = keys.manifest(manifest.source, manifest.database.name, manifest.id);
    await this.store.putSmall(key, serialiseManifest(manifest), {
      ...options,
      condition: { ifAbsent: true },
      isLasting: true,
      contentType: 'application/json',
    });
  }

  /** Manifest by its key, as a listing gave it; undefined if it has been removed since. */
  async manifestAt(key: string, options: CallOptions = {}): Promise<Manifest | undefined> {
    const bytes = await this.#readSmall(key, options);
    return bytes === undefined ? undefined : parseOwnManifest(bytes, key);
  }

  /** Keys of manifests, oldest first within each database, without reading them. */
  async *manifestKeys(
    filter: BackupFilter = {},
    options: CallOptions = {},
  ): AsyncIterable<ObjectInfo & { readonly id: string }> {
    for await (const info of this.store.list(prefixOf(filter), options)) {
      const parsed = parseManifestKey(info.key);
      if (parsed === undefined) continue;
      if (filter.database !== undefined && parsed.database !== filter.database) continue;
      if (filter.kind !== undefined && isBackupId(parsed.id) && kindOfId(parsed.id) !== filter.kind) continue;
      yield { ...info, id: parsed.id };
    }
  }

  /**
   * The same of all databases together, newest first by their ids, without those that a clock has named which was ahead: they lie
   * in the future by this machine's clock and, where that can be had, by the store's.
   */
  async newestKeys(filter: BackupFilter, options: CallOptions): Promise<readonly DatedKey[]> {
    const found: DatedKey[] = [];
    for await (const { key, id } of this.manifestKeys(filter, options)) if (isBackupId(id)) found.push({ key, id });
    found.sort((a, b) => (a.id < b.id ? 1 : -1));
    const here = this.#clock.now();
    const [newest] = found;
    if (newest === undefined || !isOfFuture(newest.id, here)) return found;
    const there = await storeTimeIfKnown(this.store, options);
    return found.filter(({ id }) => !isOfFuture(id, here) || (there !== undefined && !isOfFuture(id, there)));
  }

  /** All backups that match, oldest first by their start, and those manifests that cannot be read. */
  async backups(
    filter: BackupFilter = {},
    options: CallOptions = {},
  ): Promise<{ readonly manifests: readonly Manifest[]; readonly damaged: readonly DamagedManifest[] }> {
    const manifests: Manifest[] = [];
    const damaged: DamagedManifest[] = [];
    let batch: string[] = [];
    const readBatch = async (): Promise<void> => {
      await Promise.all(
        batch.map(async (key) => {
          try {
            const bytes = await this.#readSmall(key, options);
            // Removed between the listing and now: it is no backup any more.
            if (bytes !== undefined) manifests.push(parseOwnManifest(bytes, key));
          } catch (error) {
            if (!isPgarkError(error, 'repository-damaged')) throw error;
            damaged.push({ key, error });
          }
        }),
      );
      batch = [];
    };
    for await (const info of this.manifestKeys(filter, options)) {
      batch.push(info.key);
      if (batch.length === READS_IN_FLIGHT_MAX) await readBatch();
    }
    await readBatch();
    manifests.sort(byStart);
    return { manifests, damaged };
  }

  /** Ids that are held and never pruned. */
  async pins(options: CallOptions = {}): Promise<ReadonlySet<string>> {
    const ids = new Set<string>();
    for await (const info of this.store.list(keys.pinsPrefix, options)) {
      ids.add(info.key.slice(keys.pinsPrefix.length).replace(/\.json$/, ''));
    }
    return ids;
  }

  /** Every object that is neither pgark's state nor globals nor WAL nor named by one of the given manifests, ascending by key. */
  async *unclaimedObjects(manifests: readonly Manifest[], options: UnclaimedOptions = {}): AsyncIterable<ObjectInfo> {
    const { onUnseen, ...call } = options;
    const claimed = new Set(manifests.flatMap(dataKeysOf));
    const globals = new Set<string>();
    for await (const { key } of this.store.list(keys.globalsRecordsPrefix, call)) globals.add(key);
    const folders = new Set(manifests.flatMap((manifest) => dataFolderOf(manifest) ?? []));
    const leaveOut = (path: string, error: PgarkError): void => {
      if ([STATE_PREFIX, ...folders, ...claimed].some((own) => areOneBranch(path, own))) throw error;
      onUnseen?.(path);
    };
    const listing = { ...call, ...(onUnseen && { onUnseen: leaveOut }) };
    for (let startAfter: string | undefined; ; ) {
      let leapTo: string | undefined;
      for await (const info of this.store.list('', startAfter === undefined ? listing : { ...listing, startAfter })) {
        const { key } = info;
        leapTo = endOfOwn(key);
        if (leapTo !== undefined) break;
        const isOurs =
          key.startsWith(STATE_PREFIX) || claimed.has(key) || folders.has(folderOf(key)) || isGlobalsData(key, globals);
        if (!isOurs) yield info;
      }
      if (leapTo === undefined) return;
      startAfter = leapTo;
    }
  }

  async #readSmall(key: string, options: CallOptions): Promise<Uint8Array | undefined> {
    return (await readStateBytes(this.store, key, options))?.bytes;
  }
}

/** The manifest that belongs under this key: one of another backup was copied there by somebody, and proves nothing. */
function parseOwnManifest(bytes: Uint8Array, key: string): Manifest {
  const manifest = parseManifest(bytes, key);
  if (keys.manifest(manifest.source, manifest.database.name, manifest.id) === key) return manifest;
  const { id, source, database } = manifest;
  throw new PgarkError(
    'repository-damaged',
    `the manifest ${key} is that of another backup: ${id} of database ${database.name}, source ${source}`,
  );
}

/** The folder that is a backup's own, named by its id: all in it goes with the backup. A plain one has none. */
export function dataFolderOf({ format, source, id }: Pick<Manifest, 'format' | 'source' | 'id'>): string | undefined {
  switch (format) {
    case 'plain':
      return undefined;
    case 'directory':
      return keys.archivePrefix(source, id);
    case 'physical':
      return keys.basePrefix(source, id);
    default:
      return format satisfies never;
  }
}

/**
 * Where what is pgark's own by its place ends, if the key is of such: the state and WAL may be millions of objects, which are
 * leapt over, not read past.
 */
function endOfOwn(key: ObjectKey): ObjectKey | undefined {
  return key.startsWith(STATE_PREFIX) && key < STATE_END ? STATE_END : walFolderEnd(key);
}

/** Whether they are the same, or one is a folder, with its slash at the end, that holds the other. */
function areOneBranch(one: string, other: string): boolean {
  const holds = (folder: string, path: string): boolean => folder.endsWith('/') && path.startsWith(folder);
  return one === other || holds(one, other) || holds(other, one);
}

/** With its slash at the end; of an object at the top the empty one. */
function folderOf(key: ObjectKey): string {
  return key.slice(0, key.lastIndexOf('/') + 1);
}

/** Keys of everything that a manifest names; what else lies in its folder, `dataFolderOf`, is the backup's too. */
export function dataKeysOf(manifest: Manifest): string[] {
  const objects = manifest.companion ? [...manifest.objects, manifest.companion] : manifest.objects;
  return objects.map((object) => object.key);
}

function prefixOf(filter: BackupFilter): string {
  if (filter.source === undefined) return keys.manifestsPrefix;
  return filter.database === undefined
    ? keys.manifestsOfSource(filter.source)
    : keys.manifestsOf(filter.source, filter.database);
}

function byStart(a: Manifest, b: Manifest): number {
  const difference = Date.parse(a.startedAt) - Date.parse(b.startedAt);
  return difference !== 0 ? difference : a.id < b.id ? -1 : 1;
}

function encode(value: unknown): Uint8Array {
  return new TextEncoder().encode(`${JSON.stringify(value, undefined, 2)}\n`);
}
