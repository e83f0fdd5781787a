import type { Config, SourceConfig, StorageConfig } from '../config/model.ts';
import type { Schedule } from '../config/schedule.ts';
import type { PlannedProof } from '../observability/proof-facts.ts';

/** What proves backups by schedule: reading them, or restoring one. */
export interface ProofJob {
  /** `shop (drill)`, as logs show it; no job of a configuration is called so. */
  readonly id: string;
  readonly kind: 'verify' | 'drill';
  readonly source: SourceConfig;
  /** Without one it is carried out only when somebody asks. */
  readonly schedule: Schedule | undefined;
  /** Where backups of the source lie. */
  readonly storages: readonly StorageConfig[];
}

function proofStorages({ storages }: Config, { jobs, wal }: SourceConfig): readonly StorageConfig[] {
  const named = new Set([...[...jobs.values()].flatMap(({ to }) => to), ...(wal?.to ?? [])]);
  const all = [...storages.values()];
  // Who makes no backups may still try those that others make.
  return named.size === 0 ? all : all.filter(({ name }) => named.has(name));
}

/** All that is configured. */
export function planProofs(config: Config): readonly ProofJob[] {
  return [...config.databases.values()].flatMap((source) =>
    (['verify', 'drill'] as const).flatMap((kind): readonly ProofJob[] => {
      const settings = source[kind];
      if (settings === undefined) return [];
      const { schedule } = settings;
      const storages = proofStorages(config, source);
      return [{ id: `${source.name} ${claimNameOf(kind)}`, kind, source, schedule, storages }];
    }),
  );
}

/** The same as the state of protection needs to know it, a line for each storage. */
export function plannedProofs(config: Config): readonly PlannedProof[] {
  return planProofs(config).flatMap(({ kind, source, schedule, storages }) =>
    storages.map((storage) => ({
      kind,
      source: source.name,
      storage: storage.name,
      schedule,
      canOpen: hasKeysFor(config, source),
      hasJobs: source.jobs.size > 0,
    })),
  );
}

/**
 * Whether keys here are meant to open the source's backups. One that is encrypted to somebody else's public key is not to be opened
 * here, whatever keys there are for others; of one that is not backed up here any of them may be.
 */
export function hasKeysFor({ decryptionKeys }: Config, { jobs }: SourceConfig): boolean {
  const { identities, passphrases, encryptions } = decryptionKeys;
  const used = [...jobs.values()].flatMap(({ encryption }) => encryption ?? []);
  return identities.length + passphrases.length > 0 && used.every(({ name }) => encryptions.has(name));
}

/** Stands where claims have the name of a job. */
export function claimNameOf(kind: ProofJob['kind']): string {
  return `(${kind})`;
}
