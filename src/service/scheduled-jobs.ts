import { silentLogger } from '../common/log.ts';
import type { Generation } from './generation.ts';
import { lastStarts, lastStartsOfDigests, lastStartsOfProofs } from './last-starts.ts';
import type { ScheduledJob, Scheduler } from './scheduler.ts';

/** Storages are read as often to watch over what lies in them. */
const ASK_AGAIN_MS = 60_000;

type World = Pick<Generation, 'jobs' | 'proofs' | 'digests' | 'stores' | 'context' | 'logger'>;

/** The jobs, proofs and digests of a configuration that have a schedule, with what the storages know of when each was due last. */
export async function scheduledJobs(world: World, stopping: AbortSignal): Promise<readonly ScheduledJob[]> {
  const jobs = world.jobs.filter(({ settings }) => settings.schedule !== undefined);
  const proofs = world.proofs.filter(({ schedule }) => schedule !== undefined);
  const asked = await Promise.all([
    lastStarts(jobs, world, stopping),
    lastStartsOfProofs(proofs, world, stopping),
    lastStartsOfDigests(world.digests, world, stopping),
  ]);
  const lastOf = (id: string): ScheduledJob['last'] =>
    asked.some(({ unknown }) => unknown.has(id))
      ? 'unknown'
      : asked.map(({ known }) => known.get(id)).find((start) => start !== undefined);
  const timed = [
    ...jobs.map(({ id, settings: { schedule, jitterMs } }) => ({ id, schedule, jitterMs })),
    ...[...proofs, ...world.digests].map(({ id, schedule }) => ({ id, schedule, jitterMs: 0 })),
  ];
  return timed.flatMap(({ id, schedule, jitterMs }) =>
    schedule === undefined ? [] : [{ id, schedule, jitterMs, last: lastOf(id) }],
  );
}

/**
 * Asks storages again, each minute, for what they could not say when the schedule was made, until all of it is known or has
 * begun without: after a power cut a host is often back before its storage, and what was missed meanwhile is in nobody
 * else's memory. Never rejects; ends when the signal is aborted.
 */
export async function askAgain(generation: Generation, scheduler: Scheduler, signal: AbortSignal): Promise<void> {
  const { jobs, proofs, digests, stores, context } = generation;
  while (scheduler.unknown.size > 0) {
    await context.clock.sleep(ASK_AGAIN_MS, signal).catch(() => undefined);
    if (signal.aborted) return;
    const { unknown } = scheduler;
    const asked = {
      jobs: jobs.filter(({ id }) => unknown.has(id)),
      proofs: proofs.filter(({ id }) => unknown.has(id)),
      digests: digests.filter(({ id }) => unknown.has(id)),
      stores,
      context,
      // That they do not answer has been said once; whoever watches over them goes on saying it.
      logger: silentLogger,
    };
    const told = await generation.use(() => scheduledJobs(asked, signal));
    if (!signal.aborted) scheduler.tell(told);
  }
}
