import type { Config } from '../config/model.ts';
import type { JobReport } from '../service/job-report.ts';
import type { Job } from '../service/jobs.ts';
import { runOnce } from '../service/once.ts';
import { Stores } from '../service/stores.ts';
import { runTeller } from '../service/run-teller.ts';
import { Teller } from '../service/tell.ts';
import type { CommandRun } from './command.ts';
import { tellWorld } from './telling.ts';

/** Carries jobs out in the world of a command, and closes what was opened for it. */
export async function carryOut(
  run: CommandRun,
  config: Config,
  jobs: readonly Job[],
  options: Parameters<typeof runOnce>[2],
): Promise<readonly JobReport[]> {
  const { adapters } = run.world;
  const context = run.context(config);
  const stores = new Stores(adapters, context.logger, run.throttle(config));
  const { environment } = run.world;
  const teller = new Teller(tellWorld(run, config));
  const listener = runTeller(config, teller, () => context.clock.now());
  try {
    return await runOnce(jobs, { config, stores, adapters, context, environment, listener }, options);
  } finally {
    await stores.close();
  }
}
