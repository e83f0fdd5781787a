import type { Logger } from '../common/log.ts';
import { HeldBackup } from '../repository/held-backup.ts';
import type { Manifest } from '../repository/manifest.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import type { OperationContext } from './context.ts';

export interface HeldWork {
  readonly store: ObjectStore;
  readonly manifest: Manifest;
  readonly command: 'restore' | 'download' | 'drill' | 'copy';
  readonly logger: Logger;
  readonly runId?: string;
}

/** Reads a backup while no prune removes it. Errors: those of the work; `backup-not-found` for one that was removed meanwhile. */
export async function whileHeld<T>(
  { store, manifest, command, logger, runId }: HeldWork,
  { clock, random, signal, host, pid }: OperationContext,
  work: () => Promise<T>,
): Promise<T> {
  const held = await HeldBackup.hold(manifest, {
    store,
    clock,
    random,
    logger,
    signal,
    holder: { host, pid, command: `pgark ${command}`, ...(runId === undefined ? {} : { runId }) },
    // A drill takes another backup the next time.
    untakenLevel: command === 'drill' ? 'info' : 'warning',
  });
  try {
    return await work();
  } catch (error) {
    throw await held.explain(error);
  } finally {
    await held.release();
  }
}
