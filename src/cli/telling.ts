import { systemClock } from '../common/clock.ts';
import { systemRandom } from '../common/random.ts';
import type { Config } from '../config/model.ts';
import type { TellWorld } from '../service/tell.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import type { CommandRun } from './command.ts';

/** What notifications of a command are sent in. Its storages are opened at most once more, and closed with the command. */
export function tellWorld(run: CommandRun, config: Config): TellWorld {
  const opened = new Map<string, Promise<ObjectStore>>();
  return {
    clock: systemClock,
    random: systemRandom,
    logger: run.logger(config),
    openStore: (storage) => {
      const store = opened.get(storage.name) ?? run.open(storage, config);
      opened.set(storage.name, store);
      return store;
    },
    hurry: run.world.signal,
  };
}
