import type { Random } from '../common/random.ts';
import type { StorageConfig } from '../config/model.ts';
import type { OperationContext } from '../operations/context.ts';
import { type BackupKind, isBackupId, kindOfId } from '../repository/ids.ts';
import { keys, parseManifestKey, parseProofKey } from '../repository/keys.ts';
import { Repository } from '../repository/repository.ts';
import type { Stores } from './stores.ts';

/** Backups of one kind, of one database of a source in one storage: what a drill is a drill of. */
export interface DrillSeries {
  readonly source: string;
  readonly storage: StorageConfig;
  readonly database: string;
  readonly kind: BackupKind;
  /** When one of them was tried last, by the keys of the proofs; they sort by time as text. */
  readonly triedAt: string | undefined;
}

/** All of a source in one storage. Rejects with the store's error. */
export async function drillSeriesIn(
  source: string,
  storage: StorageConfig,
  { stores, context }: { readonly stores: Stores; readonly context: OperationContext },
): Promise<readonly DrillSeries[]> {
  const call = { signal: context.signal };
  const found: DrillSeries[] = [];
  const store = await stores.open(storage);
  const kindsOf = new Map<string, Set<BackupKind>>();
  for await (const { key, id } of new Repository(store, context).manifestKeys({ source }, call)) {
    const database = parseManifestKey(key)?.database;
    if (database === undefined || !isBackupId(id)) continue;
    kindsOf.set(database, (kindsOf.get(database) ?? new Set()).add(kindOfId(id)));
  }
  for (const [database, kinds] of kindsOf) {
    const prefix = keys.proofsOfDatabase(source, database);
    const triedAt = new Map<BackupKind, string>();
    for await (const { key } of store.list(prefix, call)) {
      const proof = parseProofKey(key);
      if (proof.kind !== 'drill' || !isBackupId(proof.id)) continue;
      const kind = kindOfId(proof.id);
      const at = key.slice(key.lastIndexOf('/') + 1);
      if (at > (triedAt.get(kind) ?? '')) triedAt.set(kind, at);
    }
    for (const kind of kinds) found.push({ source, storage, database, kind, triedAt: triedAt.get(kind) });
  }
  return found;
}

/** When this process has tried them: nobody else knows where no proof could be recorded. */
export class TriedSeries {
  readonly #times = new Map<string, string>();

  note(series: DrillSeries, at: Date): void {
    this.#times.set(nameOf(series), at.toISOString());
  }

  /** The later of what is recorded and what is known here; empty where neither is. */
  lastOf(series: DrillSeries): string {
    const [recorded, known] = [series.triedAt ?? '', this.#times.get(nameOf(series)) ?? ''];
    return recorded > known ? recorded : known;
  }
}

function nameOf({ source, storage, database, kind }: DrillSeries): string {
  return JSON.stringify([source, storage.name, database, kind]);
}

/**
 * Those first that have waited for the longest, so that each has its turn, however many there are. Among equals chance decides: a
 * process that lives for one drill knows of none before it.
 */
export function inTurn(series: readonly DrillSeries[], tried: TriedSeries, random: Random): readonly DrillSeries[] {
  const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);
  return series
    .map((each) => ({ each, at: tried.lastOf(each), lot: random.fraction() }))
    .toSorted((a, b) => compare(a.at, b.at) || a.lot - b.lot)
    .map(({ each }) => each);
}
