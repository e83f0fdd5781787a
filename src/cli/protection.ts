import { systemClock } from '../common/clock.ts';
import { systemRandom } from '../common/random.ts';
import type { Config } from '../config/model.ts';
import { examineProtection, type Protection } from '../service/protection.ts';
import { chooseSources, type CommandRun } from './command.ts';

/** Looks at the sources named (all without names) and their storages now; no daemon is asked. */
export async function lookAt(run: CommandRun, config: Config, names: readonly string[]): Promise<Protection> {
  return examineProtection(config, chooseSources(config, names), {
    clock: systemClock,
    random: systemRandom,
    signal: run.world.signal,
    openStore: (storage) => run.open(storage, config),
  });
}
