import { formatBytes, formatDuration } from '../common/bytes.ts';
import { messageOf, PgarkError } from '../common/errors.ts';
import type { StorageConfig } from '../config/model.ts';
import type { OperationContext } from '../operations/context.ts';
import { letGo } from '../operations/let-go.ts';
import { STALL_MS, StallWatch } from '../operations/stall-watch.ts';
import { storageUsage } from '../operations/storage-usage.ts';
import type { JobResult } from './job-report.ts';
import type { Stores } from './stores.ts';

/** How long a call that was aborted may take to end. */
const LET_GO_MS = 5_000;

/** What is pgark's own in a storage, and the size that it was given by `max_size`. */
export interface StorageSize {
  readonly storage: string;
  readonly usedBytes: number;
  readonly maxBytes: number;
}

/**
 * Measures those of the storages that were given a backup and have a `max_size`, and warns of the ones that hold more. The
 * size is watched and never enforced: docs/adr/0082-size-of-a-storage.md. What cannot be measured, or not in time, is a warning too. Never
 * rejects; where the end is wanted, nothing is measured.
 */
export async function measureReached(
  storages: readonly StorageConfig[],
  results: readonly Pick<JobResult, 'storage' | 'outcome'>[],
  { stores, context }: { readonly stores: Stores; readonly context: OperationContext },
): Promise<readonly StorageSize[]> {
  const reached = new Set(results.flatMap(({ storage, outcome }) => (outcome?.kind === 'committed' ? [storage] : [])));
  const sizes: StorageSize[] = [];
  for (const config of storages) {
    const { name, maxSizeBytes: maxBytes } = config;
    if (maxBytes === undefined || !reached.has(name) || context.signal.aborted) continue;
    const usedBytes = await measure(config, stores, context);
    if (usedBytes === undefined) continue;
    const size = { storage: name, usedBytes, maxBytes };
    sizes.push(size);
    if (!isOver(size)) continue;
    const words = `storage ${name}: ${describeOver(size)}; ${overHint(name)}`;
    context.logger.warning('storage.over_size', words, { storage: name, usedBytes, maxBytes });
  }
  return sizes;
}

async function measure(config: StorageConfig, stores: Stores, context: OperationContext): Promise<number | undefined> {
  const { clock } = context;
  using watch = new StallWatch({
    clock,
    stallMs: STALL_MS,
    isDue: () => true,
    stalled: () => new PgarkError('stalled', `it was not measured within ${formatDuration(STALL_MS)}`),
  });
  const signal = AbortSignal.any([context.signal, watch.signal]);
  try {
    const work = stores.open(config).then((store) => storageUsage(store, { ...context, signal }));
    return (await letGo(work, { signal, clock, patienceMs: LET_GO_MS })).own.bytes;
  } catch (error) {
    if (context.signal.aborted) return undefined;
    const words = `the size of storage ${config.name} is not known: ${messageOf(error)}`;
    context.logger.warning('storage.size_unknown', words, { storage: config.name });
    return undefined;
  }
}

export function isOver({ usedBytes, maxBytes }: StorageSize): boolean {
  return usedBytes > maxBytes;
}

/** `52.1 GiB of pgark's own, 2.1 GiB more than its max_size of 50.0 GiB`. */
export function describeOver({ usedBytes, maxBytes }: StorageSize): string {
  const excess = formatBytes(usedBytes - maxBytes);
  return `it holds ${formatBytes(usedBytes)} of pgark’s own, ${excess} more than its max_size of ${formatBytes(maxBytes)}`;
}

export function overHint(storage: string): string {
  return `backups go on, and nothing is deleted for it: pgark storage usage ${storage} says what takes the room; keep fewer backups (retention, max_total_size), or raise max_size`;
}
