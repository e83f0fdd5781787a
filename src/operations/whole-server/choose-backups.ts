import { isPgarkError, PgarkError } from '../../common/errors.ts';
import { parseManifestKey } from '../../repository/keys.ts';
import type { Manifest } from '../../repository/manifest.ts';
import { Repository } from '../../repository/repository.ts';
import type { ObjectStore } from '../../storage/object-store.ts';
import type { OperationContext } from '../context.ts';
import { findAcross, finding, type Place, ruleOf } from '../find-across.ts';
import { severalSources } from './find-globals.ts';
import { lookEverywhere } from './look-everywhere.ts';

/** For each database: the newest backup, or the newest that began not after a time. */
export type MomentSelector = { readonly kind: 'latest' } | { readonly kind: 'at'; readonly time: Date };

export interface ChosenBackup {
  readonly manifest: Manifest;
  /** Where it is taken from. */
  readonly storage: string;
  readonly store: ObjectStore;
}

export interface ChosenBackups {
  readonly source: string;
  /** By the names of the databases. */
  readonly chosen: readonly ChosenBackup[];
  /** Databases that have backups, but none that is so old. */
  readonly younger: readonly string[];
}

export interface BackupsWanted {
  readonly places: readonly Place[];
  readonly source: string | undefined;
  readonly selector: MomentSelector;
  readonly without: readonly string[];
}

/**
 * A backup of each database that a source has logical backups of, whether it is still configured or not, from whatever place has
 * the newest. Errors: `backup-not-found`, `usage` where there are several sources or an excluded name is none, `store-…` where no place answers.
 */
export async function chooseBackups(wanted: BackupsWanted, context: OperationContext): Promise<ChosenBackups> {
  const { places, selector } = wanted;
  const { source, databases } = await databasesOf(wanted, context);
  // What is chosen here is restored by its id: whatever there is to say of its time is said now.
  const rule = { ...ruleOf(selector), isLookedForAgain: false };
  const chosen: ChosenBackup[] = [];
  const younger: string[] = [];
  for (const database of databases) {
    const find = finding(selector, { source, database, kind: 'logical' });
    try {
      const { chosen: best } = await findAcross(places, find, rule, context);
      const { found, name: storage, store } = best;
      if (found.kind === 'own') chosen.push({ manifest: found.manifest, storage, store });
    } catch (error) {
      if (selector.kind !== 'at' || !isPgarkError(error, 'backup-not-found')) throw error;
      younger.push(database);
    }
  }
  if (chosen.length > 0) return { source, chosen, younger };
  throw new PgarkError(
    'backup-not-found',
    selector.kind === 'at' && younger.length > 0
      ? `no database of ${source} has a backup that is as old as ${selector.time.toISOString()}`
      : `no database of ${source} is left to be restored`,
    { hint: 'pgark list shows what there is' },
  );
}

async function databasesOf(
  { places, source, without }: BackupsWanted,
  context: OperationContext,
): Promise<{ readonly source: string; readonly databases: readonly string[] }> {
  const { signal } = context;
  const looks = await lookEverywhere(places, (store) => namesIn(store, context), context);
  const all = Map.groupBy(
    looks.flatMap(({ value }) => value),
    (each) => each.source,
  );
  signal.throwIfAborted();
  if (source === undefined && all.size > 1) throw severalSources([...all.keys()]);
  const [found = '', names = []] = source === undefined ? ([...all][0] ?? []) : [source, all.get(source)];
  if (names.length === 0) {
    const others = all.size === 0 ? '' : `; there are backups of ${[...all.keys()].join(', ')}`;
    throw new PgarkError(
      'backup-not-found',
      `there is no backup of a database${source === undefined ? '' : ` of ${source}`}${others}`,
      { hint: 'physical backups are restored as a whole: pgark restore latest --to-dir DIR' },
    );
  }
  const databases = new Set(names.map(({ database }) => database));
  const unknown = without.find((name) => !databases.has(name));
  if (unknown !== undefined) {
    throw new PgarkError('usage', `${found} has no backup of a database called ${unknown}, which is to be left out`, {
      hint: `it has those of ${[...databases].toSorted().join(', ')}`,
    });
  }
  return { source: found, databases: [...databases].filter((name) => !without.includes(name)).toSorted() };
}

async function namesIn(
  store: ObjectStore,
  context: OperationContext,
): Promise<readonly { readonly source: string; readonly database: string }[]> {
  const repository = new Repository(store, context);
  await repository.checkLayout(context);
  const names = new Map<string, { source: string; database: string }>();
  for await (const { key } of repository.manifestKeys({ kind: 'logical' }, context)) {
    const parsed = parseManifestKey(key);
    if (parsed !== undefined) names.set(key.slice(0, key.lastIndexOf('/')), parsed);
  }
  return [...names.values()];
}
