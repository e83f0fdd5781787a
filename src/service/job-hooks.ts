import { messageOf } from '../common/errors.ts';
import type { SourceConfig } from '../config/model.ts';
import { sizesOf } from '../repository/manifest.ts';
import { type HookFacts, runHooks } from './hooks.ts';
import { type JobWork, runIdOf, stateOf } from './job-report.ts';
import { databaseOf } from './jobs.ts';
import type { JobRequest, JobWorld } from './run-job.ts';

type Request = Pick<JobRequest, 'job' | 'storages'>;
type World = Pick<JobWorld, 'context' | 'environment'>;

/** What is configured to run before a backup. Rejects with `hook-failed`: then none is to be made. */
export async function callHooksBefore(request: Request, world: World): Promise<void> {
  await callHooks('before_backup', request, world);
}

/** What is configured to run after a backup, whatever came of it. Never rejects. */
export async function callHooksAfter(request: Request, world: World, work: JobWork): Promise<void> {
  try {
    await callHooks('after_backup', request, world, work);
  } catch (error) {
    // What is stored is stored, whatever a program made of it.
    if (!world.context.signal.aborted)
      world.context.logger.error('hook.failed', `${messageOf(error)}; the backups are not touched by that`);
  }
}

async function callHooks(
  when: 'before_backup' | 'after_backup',
  { job, storages }: Request,
  { context, environment }: World,
  work?: JobWork,
): Promise<void> {
  const { source, settings } = job;
  const hooks = when === 'before_backup' ? source.hooks?.beforeBackup : source.hooks?.afterBackup;
  if (hooks === undefined || hooks.length === 0) return;
  const facts: HookFacts = {
    source: source.name,
    // What patterns choose is asked after the hooks before a backup: one of them may have to wake the server up.
    database: databaseOf(source),
    job: settings.name,
    storages: (storages ?? job.storages).map(({ name }) => name),
    ...(work === undefined ? {} : resultFacts(source, work)),
  };
  const { clock, logger, signal } = context;
  await runHooks(hooks, when, facts, { clock, logger, signal, environment });
}

function resultFacts(source: SourceConfig, work: JobWork): Partial<HookFacts> {
  const { results } = work;
  const manifests = results.flatMap(({ outcome }) => (outcome?.kind === 'committed' ? [outcome.manifest] : []));
  // Of several databases each has a run and a backup of its own.
  const [manifest] = source.databases === undefined ? manifests : [];
  const error = [...results, ...work.standing].find((each) => each.error !== undefined)?.error;
  const state = stateOf(work);
  return {
    result: error?.code === 'interrupted' ? 'interrupted' : state === 'locked' ? 'failed' : state,
    databases: [...new Set(manifests.map(({ database }) => database.name))],
    runId: source.databases === undefined ? runIdOf(results) : undefined,
    error,
    backupId: manifest?.id,
    storedBytes: manifest && sizesOf(manifest).storedBytes,
  };
}
