import { parseManifestKey } from '../repository/keys.ts';
import type { Manifest } from '../repository/manifest.ts';
import type { Repository } from '../repository/repository.ts';
import { listWalSources } from '../repository/wal-record.ts';
import type { Run } from '../runs/run.ts';
import type { CallOptions } from '../storage/object-store.ts';
import type { PruneRequest } from './prune.ts';
import { pruneWal, type WalPruneOutcome } from './wal/prune-wal.ts';

/** Besides what each base backup needs to be one. */
export interface WalPolicy {
  /** How far back any moment can be recovered. Undefined: as far as the oldest base backup. */
  readonly keepMs: number | undefined;
  /** For how long the storage locks what is put into it. Default: not at all. */
  readonly lockedMs?: number | undefined;
}

/** What a run's record says of the WAL, where there is any. */
export function walCounts(wal: readonly WalPruneOutcome[]): Readonly<Record<string, number>> {
  if (wal.length === 0) return {};
  const sum = (of: 'segments' | 'otherObjects' | 'bytes' | 'uploads'): number =>
    wal.reduce((total, each) => total + each[of], 0);
  return {
    walSegmentsRemoved: sum('segments'),
    walBytesRemoved: sum('bytes'),
    walUploadsEnded: sum('uploads'),
  };
}

interface ArchivesPrune {
  readonly removing: readonly Manifest[];
  readonly run: Run;
  readonly signal: AbortSignal;
  /** Missing in a dry run. */
  readonly confirm?: () => Promise<void>;
}

/** Of all sources asked for that have a policy for their WAL, after their backups. */
export async function pruneArchives(
  repository: Repository,
  { filter, walPolicyOf, dryRun, force }: PruneRequest,
  { removing, run, signal, confirm = () => Promise.resolve() }: ArchivesPrune,
): Promise<readonly WalPruneOutcome[]> {
  if (walPolicyOf === undefined || filter.kind === 'logical') return [];
  const { store } = repository;
  const sources = filter.source === undefined ? await sourcesOf(repository, { signal }) : [filter.source];
  const now = await store.now({ signal });
  const outcomes: WalPruneOutcome[] = [];
  for (const source of sources) {
    const policy = walPolicyOf(source);
    if (policy === undefined) continue;
    const found = await pruneWal({ repository, source, removing, ...policy, now, dryRun, force, confirm, signal });
    outcomes.push(...found);
    if (!dryRun) for (const outcome of found) logWal(run, outcome);
  }
  return outcomes;
}

/** All that have WAL, or physical backups, which have some too. */
async function sourcesOf(repository: Repository, call: CallOptions): Promise<ReadonlySet<string>> {
  const sources = new Set(await listWalSources(repository.store, call));
  for await (const { key } of repository.manifestKeys({ kind: 'physical' }, call)) {
    const found = parseManifestKey(key);
    if (found !== undefined) sources.add(found.source);
  }
  return sources;
}

function logWal(run: Run, { source, segments, otherObjects, bytes, uploads, locked, keepsAll }: WalPruneOutcome): void {
  if (locked > 0) {
    const what = `WAL of ${source} that nothing needs stays until its lock is over: ${locked} segments`;
    run.logger.info('prune.wal_locked', what, { source, segments: locked });
  }
  if (keepsAll !== undefined) {
    run.logger.info('prune.wal_kept', `no WAL of ${source} is let go: ${keepsAll}`, { source });
  }
  if (segments + otherObjects + uploads === 0) return;
  run.logger.info('prune.wal_removed', `removed WAL of ${source} that nothing needs: ${segments} segments`, {
    source,
    segments,
    otherObjects,
    storedBytes: bytes,
    uploads,
  });
}
