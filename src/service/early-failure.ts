import { messageOf, type PgarkError } from '../common/errors.ts';
import type { StorageConfig } from '../config/model.ts';
import { Repository } from '../repository/repository.ts';
import { runSpread } from '../runs/run.ts';
import { databaseOf, type Job } from './jobs.ts';
import type { ProofJob } from './proof-jobs.ts';
import type { JobWorld } from './run-job.ts';

/**
 * Leaves a record of a job that failed before any backup of it began, in those of the storages that can be opened: what
 * keeps backups from beginning is a failure that the history is to tell of like any other. Never rejects.
 */
export async function recordEarlyFailure(
  { source, settings }: Job,
  storages: readonly StorageConfig[],
  error: PgarkError,
  { context, stores }: Pick<JobWorld, 'context' | 'stores'>,
): Promise<void> {
  const opened = await Promise.allSettled(storages.map((storage) => stores.open(storage)));
  const database = databaseOf(source);
  const { format } = settings;
  const spec = { kind: 'backup', source: source.name, database, format, recordsEarlyFailure: true } as const;
  const run = runSpread(context, spec, ({ recordIn }) => {
    for (const each of opened) if (each.status === 'fulfilled') recordIn(each.value);
    return Promise.reject(error);
  });
  await run.catch(() => undefined);
}

/**
 * Leaves a record of a verification that did not get at the backups in a storage, in the other storages of the source: of the one that
 * is away nobody could ask what became of it. Never rejects.
 */
export async function recordUnverified(
  { source, storages }: Pick<ProofJob, 'source' | 'storages'>,
  storage: StorageConfig,
  error: PgarkError,
  { context, stores }: Pick<JobWorld, 'context' | 'stores'>,
): Promise<void> {
  const run = runSpread(context, { kind: 'verify', source: source.name }, async ({ recordIn }) => {
    for (const other of storages) {
      if (other === storage) continue;
      try {
        const store = await stores.open(other);
        const isRepository = await new Repository(store, context).checkLayout({ signal: context.signal });
        if (isRepository) await recordIn(store).open();
      } catch (failure) {
        context.logger.debug('verify.failure_not_recorded', `${other.name}: ${messageOf(failure)}`);
      }
    }
    throw error;
  });
  await run.catch(() => undefined);
}
