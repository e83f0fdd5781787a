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
import { text } from './option-text.ts';

/** Where a backup is taken from. */
interface ChosenStorage {
  readonly storage: StorageConfig;
  readonly store: ObjectStore;
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
    return { storage, store: await run.open(storage, config) };
  }
  const across = await findAcross(placesOf(run, config, options), find, rule, run.context(config));
  reportChoice(across, rule, run, config);
  const { chosen } = across;
  return { storage: chooseStorage(config, chosen.name), store: chosen.store };
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
    const risk = isNewest ? `; it may hold something newer than what ${chosen.name} has` : '';
    const words = `storage ${name} is passed over: ${error.message}${risk}`;
    logger.warning('storage.passed_over', words, { storage: name, code: error.code });
  }
  run.note(`${isNewest ? describeNewest(chosen, others) : describeFirst(chosen, others)}\n`);
}

/** What the others have is told, so that nobody takes an old backup for the newest. */
function describeNewest({ name, found }: FoundIn, others: readonly FoundIn[]): string {
  const rest = others.map((each) => `${describeFound(each.found)} in ${each.name}`);
  return `taking from ${name}, which has the newest: ${describeFound(found)}${rest.length === 0 ? '' : `; ${rest.join(', ')}`}`;
}

function describeFirst({ name, found }: FoundIn, others: readonly FoundIn[]): string {
  const names = others.map((each) => each.name).join(', ');
  return `taking from ${name}: ${describeFound(found)}${names === '' ? '' : `; ${names} would do as well, and comes later in the configuration`}`;
}
