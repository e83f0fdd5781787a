import type { Config, StorageConfig } from '../config/model.ts';
import {
  describeFound,
  type FindIn,
  findAcross,
  type FindRule,
  type FoundAcross,
  type FoundIn,
  type Place,
} from '../operations/find-across.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { chooseStorage, type CommandRun } from './command.ts';
import { reportError } from './errors.ts';
import { text } from './option-text.ts';

/** Where a backup is taken from. */
interface ChosenStorage {
  readonly storage: StorageConfig;
  readonly store: ObjectStore;
  /** For results: its name, and which others may have held something better. */
  readonly json: Readonly<Record<string, unknown>>;
}

/**
 * The storage that was named, or the only one; else the one of all that has what is sought. Which one that is, and what of the
 * others matters, is said on stderr. Errors: those of `findAcross`.
 */
export async function storageWith(
  run: CommandRun,
  config: Config,
  options: Readonly<Record<string, unknown>>,
  { find, rule }: { readonly find: FindIn; readonly rule: FindRule },
): Promise<ChosenStorage> {
  const name = text(options['storage']);
  if (name !== undefined || config.storages.size < 2) {
    const storage = chooseStorage(config, name);
    return { storage, store: await run.open(storage, config), json: { storage: storage.name } };
  }
  const across = await findAcross(placesOf(run, config, options), find, rule, run.context(config));
  reportChoice(across, rule, run, config);
  const { chosen, passedOver } = across;
  const json = {
    storage: chosen.name,
    passed_over: passedOver.map(({ name: storage, error }) => ({ storage, error: reportError(error) })),
  };
  return { storage: chooseStorage(config, chosen.name), store: chosen.store, json };
}

/** All storages, or the one that is named; each is opened when it is first asked for. Errors: `usage`, `config-missing`. */
export function placesOf(
  run: CommandRun,
  config: Config,
  options: Readonly<Record<string, unknown>>,
): readonly Place[] {
  const name = text(options['storage']);
  const isAny = name === undefined && config.storages.size > 0;
  const storages = isAny ? [...config.storages.values()] : [chooseStorage(config, name)];
  return storages.map((storage) => {
    let opening: Promise<ObjectStore> | undefined;
    return { name: storage.name, open: () => (opening ??= run.open(storage, config)) };
  });
}

/** Says on stderr which storage it is, and what of the others matters. */
export function reportChoice(
  { chosen, others, passedOver }: FoundAcross,
  { takes }: FindRule,
  run: CommandRun,
  config: Config,
): void {
  const logger = run.logger(config);
  const isNewest = takes !== 'first';
  for (const { name, error } of passedOver) {
    const risk = isNewest
      ? `; it may hold something newer than what ${chosen.name} has`
      : chosen.found.reach === undefined
        ? ''
        : '; the server may have gone on there on a newer timeline';
    const words = `storage ${name} is passed over: ${error.message}${risk}`;
    logger.warning('storage.passed_over', words, { storage: name, code: error.code });
  }
  run.note(`${describeChoice(chosen, others, isNewest)}\n`);
}

/** What the others have is told, so that nobody takes an old backup for the newest, or a timeline that was left for the one that goes on. */
function describeChoice({ name, found }: FoundIn, others: readonly FoundIn[], isNewest: boolean): string {
  const why = isNewest ? ', which has the newest' : '';
  const isSame = !isNewest && found.reach === undefined;
  const rest = others.map((each) => (isSame ? `also in ${each.name}` : `${describeFound(each.found)} in ${each.name}`));
  return `taking from ${name}${why}: ${[describeFound(found), ...rest].join('; ')}`;
}
