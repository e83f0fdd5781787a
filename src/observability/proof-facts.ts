import type { Clock } from '../common/clock.ts';
import type { Schedule } from '../config/schedule.ts';
import type { BackupId } from '../repository/ids.ts';
import type { ProofKind } from '../repository/keys.ts';
import type { CallOptions, ObjectStore } from '../storage/object-store.ts';
import { type BackupFacts, newestOf } from './backup-facts.ts';

/** A backup that is known not to be what it should be, and by what. */
export interface DisproofFacts {
  readonly id: BackupId;
  readonly kind: ProofKind;
  readonly at: Date;
}

/**
 * The newest proof of each kind that there is of a backup; `unknown` is one that a newer version has written, `stored` one that found
 * all as it was stored, and no key for it.
 */
export type ProofFacts = Readonly<
  Partial<
    Record<
      ProofKind,
      { readonly at: Date; readonly passed: boolean | 'unknown' | 'stored'; readonly errorCode?: string | undefined }
    >
  >
>;

/** Reads what was found out of these backups, by their ids. Rejects with the store's error. */
export type ProofReader = (
  store: ObjectStore,
  backups: readonly Pick<BackupFacts, 'id' | 'source' | 'database'>[],
  options: CallOptions & { readonly clock: Clock },
) => Promise<ReadonlyMap<string, ProofFacts>>;

/** A verification or a drill that the configuration wants of a source's backups in a storage. */
export interface PlannedProof {
  readonly kind: ProofKind;
  readonly source: string;
  readonly storage: string;
  /** Without one it is carried out only when somebody asks. */
  readonly schedule: Schedule | undefined;
  /** Whether there is a key here that is meant to open what is encrypted of the source: without one it cannot be proven. */
  readonly canOpen: boolean;
  /** Whether the source is backed up here too, whatever its patterns choose at the moment. */
  readonly hasJobs: boolean;
}

/** Who makes no backups of a source may still try those that others make. */
export function isOnlyTried(
  { source, storage }: Pick<PlannedProof, 'source' | 'storage'>,
  { proofs = [] }: { readonly proofs?: readonly PlannedProof[] | undefined },
): boolean {
  return proofs.some((proof) => !proof.hasJobs && proof.source === source && proof.storage === storage);
}

/** The newest backup of each line: of others nobody asks what was found out. */
export function newestOfLines(backups: Iterable<BackupFacts>, now: Date): readonly BackupFacts[] {
  const lines = Map.groupBy(backups, ({ source, database, format }) => JSON.stringify([source, database, format]));
  return [...lines.values()].flatMap((line) => newestOf(line, now) ?? []);
}

/**
 * Whether a proof of the backup has failed and none has passed since then. One that a drill could not restore is proven by a
 * drill again and by nothing less, as for retention; but one that only took too long says nothing of the backup. What a newer
 * version has found out is not known.
 */
export function disproofOf(
  newest: Pick<BackupFacts, 'id'> | undefined,
  proofs: ReadonlyMap<string, ProofFacts> = new Map(),
): DisproofFacts | undefined {
  if (newest === undefined) return undefined;
  const { id } = newest;
  const { verify, drill } = proofs.get(id) ?? {};
  if (drill?.passed === false && drill.errorCode !== 'drill-too-slow') return { id, kind: 'drill', at: drill.at };
  if (verify?.passed !== false || (drill?.passed === true && drill.at > verify.at)) return undefined;
  return { id, kind: 'verify', at: verify.at };
}
