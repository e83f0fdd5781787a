import { isPgarkError, PgarkError } from '../common/errors.ts';
import { looksLikeDump, readForeignName } from '../formats/plain/foreign-names.ts';
import { nearest } from '../common/nearest.ts';
import { compactTime, isBackupId } from '../repository/ids.ts';
import { parseManifestKey, STATE_PREFIX } from '../repository/keys.ts';
import type { Manifest } from '../repository/manifest.ts';
import { type BackupFilter, dataFolderOf, type ManifestKey, type Repository } from '../repository/repository.ts';
import type { CallOptions, ObjectInfo } from '../storage/object-store.ts';
import { plannedKeys } from './list.ts';
import { type LookOptions, newestFirst } from './newest-first.ts';
import { warnOfUnseen } from './unseen.ts';

/**
 * Which backup is meant: the newest, the newest not after a time, or one by id, file name, key or URL; or the newest dump of
 * another tool, as far as names and the store tell when they were made.
 */
export type BackupSelector =
  | { readonly kind: 'latest' }
  | { readonly kind: 'at'; readonly time: Date }
  | { readonly kind: 'name'; readonly name: string }
  | { readonly kind: 'foreign'; readonly notAfter?: Date };

/** What a selector found: a backup of pgark's own, or an object that some other tool wrote. */
export type FoundBackup =
  | { readonly kind: 'own'; readonly manifest: Manifest }
  | {
      readonly kind: 'foreign';
      readonly key: string;
      readonly bytes: number;
      /** When it was made, as far as its name or the store tell. */
      readonly at: Date;
    };

const SUGGESTIONS_MAX = 3;

/** Finds one backup. Error: `backup-not-found`, with what there is instead. */
export async function findBackup(
  repository: Repository,
  selector: BackupSelector,
  filter: BackupFilter,
  options: LookOptions,
): Promise<FoundBackup> {
  await repository.checkLayout(options);
  switch (selector.kind) {
    case 'latest':
      return findNewest(repository, undefined, filter, options);
    case 'at':
      return findNewest(repository, selector.time, filter, options);
    case 'name':
      return findByName(repository, selector.name, filter, options);
    case 'foreign':
      return findForeign(repository, selector.notAfter, filter, options);
    default:
      return selector satisfies never;
  }
}

/**
 * The newest backup of one database, or the newest not after a time. One LIST and as a rule one GET: ids begin with the
 * second of the start, so the keys tell which manifests come into question.
 */
async function findNewest(
  repository: Repository,
  notAfter: Date | undefined,
  filter: BackupFilter,
  options: LookOptions,
): Promise<FoundBackup> {
  const keysOfFolder = new Map<string, ManifestKey[]>();
  for await (const { key, id } of repository.manifestKeys(filter, options)) {
    const folder = key.slice(0, key.lastIndexOf('/'));
    const known = keysOfFolder.get(folder);
    if (known === undefined) keysOfFolder.set(folder, [{ key, id }]);
    else known.push({ key, id });
  }
  if (keysOfFolder.size > 1) throw severalDatabases([...keysOfFolder.values()].flatMap(([first]) => first ?? []));
  const [manifestKeys = []] = keysOfFolder.values();
  const limit = notAfter === undefined ? undefined : compactTime(notAfter);
  const inQuestion = manifestKeys.filter(({ id }) => limit === undefined || id.slice(0, limit.length) <= limit);
  const ordered = await newestFirst(repository, inQuestion, options);
  for (const sameSecond of Map.groupBy(ordered, ({ id }) => id.slice(0, SECOND_CHARACTERS)).values()) {
    const manifests: Manifest[] = [];
    for (const { key } of sameSecond) {
      const manifest = await repository.manifestAt(key, options);
      if (manifest && startsInTime(manifest, notAfter)) manifests.push(manifest);
    }
    const [newest] = manifests.sort((a, b) => Date.parse(b.startedAt) - Date.parse(a.startedAt));
    if (newest) return { kind: 'own', manifest: newest };
  }
  if (notAfter === undefined || manifestKeys.length === 0) {
    throw await noneAtAll(repository, filter, options);
  }
  throw new PgarkError('backup-not-found', `no ${describeFilter(filter)} is as old as ${notAfter.toISOString()}`, {
    hint: `the oldest is ${manifestKeys.map(({ id }) => id).sort()[0] ?? ''}`,
  });
}

async function noneAtAll(repository: Repository, filter: BackupFilter, options: CallOptions): Promise<PgarkError> {
  const { location } = repository.store;
  if (filter.kind === 'logical') {
    for await (const { id } of repository.manifestKeys({ ...filter, kind: 'physical' }, options)) {
      return new PgarkError(
        'backup-not-found',
        `there is no ${describeFilter(filter)} in ${location} that can be loaded into a database, only physical ones such as ${id}`,
        { hint: 'restore those as a server of their own: pgark restore latest --to-dir DIR' },
      );
    }
  }
  return new PgarkError('backup-not-found', `there is no ${describeFilter(filter)} in ${location}`, {
    hint: 'pgark list shows what there is; pgark backup makes one',
  });
}

/** A time of whole seconds means the whole second: backups are shown by the second of their start. */
function startsInTime(manifest: Manifest, notAfter: Date | undefined): boolean {
  if (notAfter === undefined) return true;
  const started = Date.parse(manifest.startedAt);
  return (notAfter.getTime() % 1_000 === 0 ? Math.floor(started / 1_000) * 1_000 : started) <= notAfter.getTime();
}

const SECOND_CHARACTERS = '20261120T020000Z'.length;

function severalDatabases(firstKeys: readonly ManifestKey[]): PgarkError {
  const names = firstKeys.map(({ key }) => {
    const parsed = parseManifestKey(key);
    return parsed === undefined || parsed.source === parsed.database
      ? (parsed?.database ?? key)
      : `${parsed.source}/${parsed.database}`;
  });
  return new PgarkError(
    'usage',
    `there are backups of ${names.length} databases: ${names.slice(0, 5).join(', ')}${names.length > 5 ? ' …' : ''}`,
    {
      hint: 'say which one: pgark restore DATABASE latest, pgark show latest --database DATABASE; or use an id that pgark list shows',
    },
  );
}

/**
 * The newest dump of another tool: of the database asked for, by their names, or without any database in its name where
 * none has this one's. A folder that may not be read is an error: the newest may be there.
 */
async function findForeign(
  repository: Repository,
  notAfter: Date | undefined,
  filter: BackupFilter,
  options: CallOptions,
): Promise<FoundBackup> {
  const [{ manifests }, planned] = await Promise.all([
    repository.backups({}, options),
    plannedKeys(repository.store, options),
  ]);
  const dumps: { key: string; bytes: number; database: string | undefined; at: Date }[] = [];
  for await (const { key, bytes, modified } of repository.unclaimedObjects(manifests, options)) {
    if (planned.has(key) || !looksLikeDump(key)) continue;
    const { database, takenAt } = readForeignName(key);
    dumps.push({ key, bytes, database, at: takenAt ?? modified });
  }
  const wanted = filter.database;
  const named = dumps.filter(({ database }) => wanted === undefined || database === wanted);
  const candidates = named.length > 0 ? named : dumps.filter(({ database }) => database === undefined);
  const databases = new Set(candidates.map(({ database }) => database));
  if (databases.size > 1) {
    const names = [...databases].map((name) => name ?? 'no name').slice(0, 5);
    throw new PgarkError('usage', `there are dumps of ${databases.size} databases: ${names.join(', ')}`, {
      hint: 'say which one: pgark restore DATABASE latest --foreign …, or name the file',
    });
  }
  const inTime = candidates.filter(({ at }) => notAfter === undefined || at.getTime() <= notAfter.getTime());
  const newest = inTime.toSorted((a, b) => a.at.getTime() - b.at.getTime() || (a.key < b.key ? -1 : 1)).at(-1);
  if (newest !== undefined) return { kind: 'foreign', key: newest.key, bytes: newest.bytes, at: newest.at };
  const when = notAfter === undefined ? '' : ` that is as old as ${notAfter.toISOString()}`;
  throw new PgarkError(
    'backup-not-found',
    `there is no dump of another tool${describeFilter(filter)} in ${repository.store.location}${when}`,
    { hint: 'pgark list shows what there is; any file can be named: pgark restore FILE …' },
  );
}

async function findByName(
  repository: Repository,
  given: string,
  filter: BackupFilter,
  options: LookOptions,
): Promise<FoundBackup> {
  const name = keyOfUrl(given, repository.store.location);
  if (name === undefined) {
    throw new PgarkError('backup-not-found', `Backup not found: ${given}`, {
      hint: `the storage is ${repository.store.location}; another one needs its own settings or --storage`,
    });
  }
  // As other tools call an object of the bucket: by its whole key, the storage's prefix included.
  const below = keyBelowPrefix(name, repository.store.location);
  const keys = below === undefined ? [name] : [name, below];
  const id = isBackupId(name) ? name : keys.flatMap((key) => parseManifestKey(key)?.id ?? [])[0];
  if (id !== undefined) {
    const found = await findById(repository, id, filter, options);
    if (found) return { kind: 'own', manifest: found };
  }
  const { manifests, damaged } = await repository.backups(filter, options);
  const own = manifests.filter((manifest) => keys.some((key) => isCalled(manifest, key)));
  const [only] = own;
  if (own.length === 1 && only) return { kind: 'own', manifest: only };
  if (own.length > 1) {
    throw new PgarkError('usage', `"${given}" is the name of ${own.length} backups`, {
      hint: `use an id: ${own.map((each) => each.id).join(', ')}`,
    });
  }
  const names = manifests.flatMap((manifest) => [manifest.id, ...manifest.objects.map((object) => object.key)]);
  // What pgark keeps for itself is no dump.
  if (!keys.some((key) => key.startsWith(STATE_PREFIX))) {
    for (const key of keys) {
      const info = await headIfPossible(repository, key, options);
      if (info) return foreignOf(info);
    }
    const unseen: string[] = [];
    const looking = { ...options, onUnseen: (path: string) => void unseen.push(path) };
    for await (const object of repository.unclaimedObjects(manifests, looking)) {
      if (baseName(object.key) === name) return foreignOf(object);
      names.push(object.key);
    }
    warnOfUnseen(unseen, repository.store.location, options.logger);
  }
  throw notFound(given, name, manifests, names, damaged.length);
}

function foreignOf({ key, bytes, modified }: ObjectInfo): FoundBackup {
  return { kind: 'foreign', key, bytes, at: readForeignName(key).takenAt ?? modified };
}

/** One LIST and one GET, however many backups there are. */
async function findById(
  repository: Repository,
  id: string,
  filter: BackupFilter,
  options: CallOptions,
): Promise<Manifest | undefined> {
  for await (const info of repository.manifestKeys(filter, options)) {
    if (info.id === id) return repository.manifestAt(info.key, options);
  }
  return undefined;
}

/** Undefined also for what could not be the name of any object. */
async function headIfPossible(
  repository: Repository,
  name: string,
  options: CallOptions,
): Promise<ObjectInfo | undefined> {
  try {
    return await repository.store.head(name, options);
  } catch (error) {
    if (isPgarkError(error, 'object-key-invalid')) return undefined;
    throw error;
  }
}

function notFound(
  given: string,
  name: string,
  manifests: readonly Manifest[],
  names: readonly string[],
  damagedCount: number,
): PgarkError {
  const isDatabase = manifests.some((manifest) => manifest.database.name === name || manifest.source === name);
  const close = [
    ...new Set([...nearest(name, names, SUGGESTIONS_MAX), ...names.filter((each) => contains(each, name))]),
  ];
  const hint = isDatabase
    ? `that is a database: say ${name} latest, or ${name} and the name of one of its backups`
    : close.length > 0
      ? `did you mean ${close.slice(0, SUGGESTIONS_MAX).join(' or ')}?`
      : `pgark list shows what there is${damagedCount > 0 ? `; ${damagedCount} of the manifests cannot be read` : ''}`;
  return new PgarkError('backup-not-found', `Backup not found: ${given}`, { hint });
}

function contains(name: string, part: string): boolean {
  return part.length >= 4 && name.toLowerCase().includes(part.toLowerCase());
}

/**
 * `s3://bucket/prefix/name`, or the path of a file, means `name` if that is where the repository lies; undefined for the
 * URL of another place.
 */
function keyOfUrl(given: string, location: string): string | undefined {
  const root = location.endsWith('/') ? location : `${location}/`;
  for (const start of [root, root.replace(/^file:\/\//, '')]) {
    if (given.startsWith(start)) return given.slice(start.length);
  }
  return /^[a-z][a-z0-9+.-]*:\/\//i.test(given) ? undefined : given;
}

/** `shop.sql.gz` of `backups/shop.sql.gz`, where the repository lies in `s3://bucket/backups`. */
function keyBelowPrefix(key: string, location: string): string | undefined {
  const prefix = /^s3:\/\/[^/]+\/(.+?)\/?$/.exec(location)?.[1];
  return prefix !== undefined && key.startsWith(`${prefix}/`) ? key.slice(prefix.length + 1) : undefined;
}

function isCalled(manifest: Manifest, key: string): boolean {
  return (
    dataFolderOf(manifest) === `${key.replace(/\/$/, '')}/` ||
    manifest.objects.some((object) => object.key === key || baseName(object.key) === key)
  );
}

function baseName(key: string): string {
  return key.slice(key.lastIndexOf('/') + 1);
}

/** `physical backup of shop` */
function describeFilter({ kind, database }: BackupFilter): string {
  return `${kind === 'physical' ? 'physical ' : ''}backup${database === undefined ? '' : ` of ${database}`}`;
}
