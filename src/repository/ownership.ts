import { isPgarkError } from '../common/errors.ts';
import type { CallOptions, ObjectKey } from '../storage/object-store.ts';
import { isGlobalsData } from './globals.ts';
import { type BackupId, isBackupId, startSecondOf } from './ids.ts';
import { IntentLog } from './intents.ts';
import { keys, parseManifestKey, STATE_PREFIX } from './keys.ts';
import { type Manifest, parseManifest } from './manifest.ts';
import { decodeName } from './names.ts';
import { dataKeysOf, type Repository } from './repository.ts';
import { readStateBytes } from './state-object.ts';
import { parseWalKey, isWalHistoryDigest } from './wal-keys.ts';

/** Backups of one database in one format. */
export interface OwningBackups {
  readonly kind: Manifest['format'];
  readonly source: string;
  readonly database: string;
}

/**
 * What an object is part of: backups; WAL or globals of a source; pgark's own records; what runs that go on or died, or
 * deletions, have left to be swept (`unfinished`); or nothing of pgark's.
 */
export type Owner =
  | OwningBackups
  | { readonly kind: 'wal' | 'globals'; readonly source: string }
  | { readonly kind: 'records' | 'unfinished' | 'foreign' };

const READS_IN_FLIGHT_MAX = 16;
/** Folders that are a backup's own; the last part is its id. */
const FOLDER = /^[^/]+\/(?:archive|base)\/([^/]+)\//;
const GLOBALS = /^([^/]+)\/globals\/([^/.]+)\./;

const RECORDS: Owner = { kind: 'records' };
const UNFINISHED: Owner = { kind: 'unfinished' };
const FOREIGN: Owner = { kind: 'foreign' };

/**
 * Tells what each object of a repository is part of, by its key alone. What it has to know for that grows with the number
 * of backups, not with that of objects: only manifests of plain backups are read, since users choose those names.
 */
export class Ownership {
  /** Backups by database and format, with the first and the last of them. */
  readonly backups: readonly (OwningBackups & {
    readonly count: number;
    readonly oldest: Date;
    readonly newest: Date;
  })[];
  /** Manifests that cannot be read: what only they name counts as foreign. */
  readonly damaged: readonly ObjectKey[];
  readonly #byFolder: ReadonlyMap<string, Owner>;
  readonly #byKey: ReadonlyMap<ObjectKey, Owner>;
  readonly #globals: ReadonlySet<ObjectKey>;

  private constructor(found: Survey) {
    this.backups = [...found.groups.values()];
    this.damaged = found.damaged;
    this.#byFolder = found.byFolder;
    this.#byKey = found.byKey;
    this.#globals = found.globals;
  }

  static async read(repository: Repository, options: CallOptions): Promise<Ownership> {
    const survey = new Survey(repository, options);
    // In this order a run that commits meanwhile is seen by its intent or by its manifest.
    await survey.readIntents();
    await survey.readDeletions();
    await survey.readManifests();
    await survey.readGlobals();
    return new Ownership(survey);
  }

  ownerOf(key: ObjectKey): Owner {
    const owner = this.#byKey.get(key);
    if (owner !== undefined) return owner;
    if (key.startsWith(STATE_PREFIX)) return RECORDS;
    const [folder, id = ''] = FOLDER.exec(key) ?? [];
    // An id is unique: a folder that is named by one is pgark's, though no manifest may say so.
    if (folder !== undefined && isBackupId(id)) return this.#byFolder.get(folder) ?? UNFINISHED;
    if (isGlobalsData(key, this.#globals)) return ofSource('globals', key);
    if (isBackupId(GLOBALS.exec(key)?.[2] ?? '')) return UNFINISHED;
    return parseWalKey(key) !== undefined || isWalHistoryDigest(key) ? ofSource('wal', key) : FOREIGN;
  }
}

/** By the first part of the key, which is how it spells the source. */
function ofSource(kind: 'wal' | 'globals', key: ObjectKey): Owner {
  const segment = key.slice(0, key.indexOf('/'));
  return { kind, source: decodeName(segment) ?? segment };
}

class Survey {
  readonly groups = new Map<string, OwningBackups & { count: number; oldest: Date; newest: Date }>();
  readonly byFolder = new Map<string, Owner>();
  readonly byKey = new Map<ObjectKey, Owner>();
  readonly globals = new Set<ObjectKey>();
  readonly damaged: ObjectKey[] = [];
  readonly #repository: Repository;
  readonly #options: CallOptions;

  constructor(repository: Repository, options: CallOptions) {
    this.#repository = repository;
    this.#options = options;
  }

  async readIntents(): Promise<void> {
    for await (const found of new IntentLog(this.#repository.store).list(this.#options)) {
      if ('intent' in found) for (const key of found.intent.keys) this.byKey.set(key, UNFINISHED);
    }
  }

  /** Data of backups that are being deleted, or whose deletion was cut off. */
  async readDeletions(): Promise<void> {
    const { store } = this.#repository;
    for await (const { key } of store.list(keys.deletedPrefix, this.#options)) {
      if (!/-p[^/]*$/.test(key)) continue;
      const manifest = await this.#read(key, async () => {
        const found = await readStateBytes(store, key, this.#options);
        return found && parseManifest(found.bytes, key);
      });
      if (manifest !== undefined) for (const each of dataKeysOf(manifest)) this.byKey.set(each, UNFINISHED);
    }
  }

  async readManifests(): Promise<void> {
    let batch: Promise<void>[] = [];
    for await (const { key } of this.#repository.manifestKeys({}, this.#options)) {
      const { source, database, id } = parseManifestKey(key) ?? {};
      if (source === undefined || database === undefined || id === undefined || !isBackupId(id)) continue;
      const kind = formatOf(id);
      const owner = this.#count({ kind, source, database }, id);
      if (kind === 'directory') this.byFolder.set(keys.archivePrefix(source, id), owner);
      else if (kind === 'physical') this.byFolder.set(keys.basePrefix(source, id), owner);
      else batch.push(this.#readPlain(key, owner));
      if (batch.length < READS_IN_FLIGHT_MAX) continue;
      await Promise.all(batch);
      batch = [];
    }
    await Promise.all(batch);
  }

  async readGlobals(): Promise<void> {
    const { store } = this.#repository;
    for await (const { key } of store.list(keys.globalsRecordsPrefix, this.#options)) this.globals.add(key);
  }

  async #readPlain(key: ObjectKey, owner: OwningBackups): Promise<void> {
    const manifest = await this.#read(key, () => this.#repository.manifestAt(key, this.#options));
    if (manifest !== undefined) for (const each of dataKeysOf(manifest)) this.byKey.set(each, owner);
  }

  async #read(key: ObjectKey, read: () => Promise<Manifest | undefined>): Promise<Manifest | undefined> {
    try {
      return await read();
    } catch (error) {
      if (!isPgarkError(error, 'repository-damaged')) throw error;
      this.damaged.push(key);
      return undefined;
    }
  }

  /** One owner for all that share it. */
  #count({ kind, source, database }: OwningBackups, id: BackupId): OwningBackups {
    const name = JSON.stringify([source, database, kind]);
    const at = startSecondOf(id);
    const group = this.groups.get(name) ?? { kind, source, database, count: 0, oldest: at, newest: at };
    group.count += 1;
    if (at < group.oldest) group.oldest = at;
    if (at > group.newest) group.newest = at;
    this.groups.set(name, group);
    return group;
  }
}

function formatOf(id: BackupId): Manifest['format'] {
  if (id.includes('-p')) return 'plain';
  return id.includes('-d') ? 'directory' : 'physical';
}
