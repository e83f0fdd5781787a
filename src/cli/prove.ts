import type { PgarkError } from '../common/errors.ts';
import type { Config } from '../config/model.ts';
import { gravest } from '../service/gravest.ts';
import { TriedSeries } from '../service/drill-series.ts';
import { planProofs } from '../service/proof-jobs.ts';
import { runProof } from '../service/proof-run.ts';
import { Stores } from '../service/stores.ts';
import { Teller } from '../service/tell.ts';
import type { CommandRun } from './command.ts';
import { fetchProgramOf } from './fetch-program.ts';
import { tellWorld } from './telling.ts';

/** Carries out every verification and drill of a configuration, whatever its schedule. Resolves with the gravest failure. */
export async function proveAll(run: CommandRun, config: Config): Promise<PgarkError | undefined> {
  const context = run.context(config);
  const stores = new Stores(run.world.adapters, context.logger, run.throttle(config));
  const teller = new Teller(tellWorld(run, config));
  const tried = new TriedSeries();
  const failures: PgarkError[] = [];
  try {
    for (const job of planProofs(config)) {
      const fetchFrom = ({ name }: { readonly name: string }) => fetchProgramOf(run, { storage: name });
      const failure = await runProof(job, { config, stores, context, teller, tried, fetchFrom });
      if (failure !== undefined) failures.push(failure);
    }
  } finally {
    await stores.close();
  }
  return gravest(failures);
}
