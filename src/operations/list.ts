import { type ForeignName, looksLikeDump, readForeignName } from '../formats/plain/foreign-names.ts';
import { suspiciousAmong } from '../repository/accepted-sizes.ts';
import { type GlobalsRecord, listGlobals } from '../repository/globals.ts';
import { IntentLog } from '../repository/intents.ts';
import type { Manifest } from '../repository/manifest.ts';
import { type BackupFilter, type DamagedManifest, Repository } from '../repository/repository.ts';
import type { CallOptions, ObjectStore } from '../storage/object-store.ts';
import type { OperationContext } from './context.ts';
import { DamagedData } from './damaged-data.ts';
import { newestProofs, type Proofs } from './proofs.ts';
import { warnOfUnseen } from './unseen.ts';

export interface ForeignObject {
  readonly key: string;
  readonly bytes: number;
  readonly modified: Date;
}

/** A dump of another tool, and what its name says. */
export type ForeignDump = ForeignObject & ForeignName;

interface ListedBackup {
  readonly manifest: Manifest;
  readonly pinned: boolean;
  /** Suspicious, and not accepted. */
  readonly isSuspicious: boolean;
  /** What came of the last verification and the last drill of it. */
  readonly proofs: Proofs;
}

export interface Listing {
  /** Oldest first. */
  readonly backups: readonly ListedBackup[];
  /** Roles, tablespaces and settings of servers, oldest first: of the source asked for, or of those of the backups. */
  readonly globals: readonly GlobalsRecord[];
  /** Dumps of other tools that `pgark restore NAME` can restore; never changed or deleted. */
  readonly foreign: readonly ForeignDump[];
  /** Data of a run that is going on or died before its commit; no backup. */
  readonly unfinished: readonly ForeignObject[];
  readonly damaged: readonly DamagedManifest[];
  /** Data of backups whose manifests are damaged, as far as it can be told; `manifest` is the manifest's key. */
  readonly ofDamaged: readonly (ForeignObject & { readonly manifest: string })[];
}

/** What lies in the storage. Foreign objects are left out when one database is asked for. */
export async function list(
  request: { readonly store: ObjectStore; readonly filter: BackupFilter },
  context: OperationContext,
): Promise<Listing> {
  const { store, filter } = request;
  const options = { signal: context.signal };
  const repository = new Repository(store, context);
  await repository.checkLayout(options);
  const [all, pins, planned, globals] = await Promise.all([
    repository.backups({}, options),
    repository.pins(options),
    plannedKeys(store, options),
    listGlobals(store, {}, options),
  ]);
  const matches = (manifest: Manifest): boolean =>
    (filter.source === undefined || manifest.source === filter.source) &&
    (filter.database === undefined || manifest.database.name === filter.database);
  const foreign: ForeignDump[] = [];
  const unfinished: ForeignObject[] = [];
  const ofDamaged: Listing['ofDamaged'][number][] = [];
  if (filter.source === undefined && filter.database === undefined) {
    const lost = new DamagedData(store, all.damaged);
    const unseen: string[] = [];
    const looking = { ...options, onUnseen: (path: string) => void unseen.push(path) };
    for await (const info of repository.unclaimedObjects(all.manifests, looking)) {
      const { key, bytes, modified } = info;
      const manifest = planned.has(key) ? undefined : await lost.manifestOf(info, options);
      if (planned.has(key)) unfinished.push({ key, bytes, modified });
      else if (manifest !== undefined) ofDamaged.push({ key, bytes, modified, manifest });
      else if (looksLikeDump(key)) foreign.push({ key, bytes, modified, ...readForeignName(key) });
    }
    warnOfUnseen(unseen, store.location, context.logger);
  }
  const backups = all.manifests.filter(matches);
  const sources = new Set(backups.map(({ source }) => source));
  const proofs = await newestProofs(store, backups, context);
  const suspicious = await suspiciousAmong(store, backups, options);
  const everything = filter.source === undefined && filter.database === undefined;
  return {
    backups: backups.map((manifest) => ({
      manifest,
      pinned: pins.has(manifest.id),
      isSuspicious: suspicious.has(manifest.id),
      proofs: proofs.get(manifest.id) ?? {},
    })),
    globals: globals.records.filter(({ source }) => everything || sources.has(source)),
    foreign,
    unfinished,
    ofDamaged,
    damaged: [...all.damaged, ...globals.damaged],
  };
}

/** Keys that runs have said they would write and not yet committed. */
export async function plannedKeys(store: ObjectStore, options: CallOptions): Promise<ReadonlySet<string>> {
  const planned = new Set<string>();
  for await (const found of new IntentLog(store).list(options)) {
    if ('intent' in found) for (const key of found.intent.keys) planned.add(key);
  }
  return planned;
}
