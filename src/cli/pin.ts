import type { Command } from 'commander';
import { asPgarkError, PgarkError } from '../common/errors.ts';
import type { Config } from '../config/model.ts';
import { findAcross, finding, type FoundAcross, type Place, ruleOf } from '../operations/find-across.ts';
import type { BackupSelector } from '../operations/find-backup.ts';
import { describeHolder, pinBackup, type PinOutcome, unpinBackup } from '../operations/pin.ts';
import { type BackupId, isBackupId } from '../repository/ids.ts';
import type { Manifest } from '../repository/manifest.ts';
import { action, type CliWorld, type CommandRun } from './command.ts';
import { reportError } from './errors.ts';
import { placesOf, reportChoice } from './find-storage.ts';
import { addExamples } from './help.ts';
import { pinJson } from './json.ts';
import { filterFor } from './list.ts';
import { text } from './option-text.ts';

type Options = Readonly<Record<string, unknown>>;

/** It is one line of what people read. */
const REASON_CHARACTERS_MAX = 500;

export function registerPin(program: Command, world: CliWorld): void {
  const command = program
    .command('pin')
    .summary('keep a backup whatever retention says')
    .description(
      'Pins a backup: no prune deletes it, nor the backups and the WAL that it needs, until it is unpinned. It is pinned in every storage that has it.',
    )
    .argument('<backup>', 'latest, an id or a file name')
    .option('--reason <text>', 'why, for whoever finds the pin later')
    .option('--database <name>', 'of this source or database, where the storage holds several')
    .option('--storage <name>', 'only in this storage (default: in all that have it)');
  addExamples(command, [['pgark pin latest --reason "before the upgrade"', 'the newest backup stays']]);
  action(command, world, async (run, [name = ''], options) => {
    const reason = reasonOf(options);
    const config = await run.config(['storage']);
    const places = placesOf(run, config, options);
    const { id, having, away } = await findCopies(run, config, places, name, options);
    const { leaseTermMs } = config;
    const tries: Try<PinOutcome>[] = await Promise.all(
      having.map(({ name: storage, store, manifest }) =>
        attempt(storage, run, () => pinBackup({ store, manifest, reason, leaseTermMs }, run.context(config))),
      ),
    );
    conclude(run, id, [...tries, ...away], ({ pin, isNew }) => ({
      json: { state: 'pinned', changed: isNew, pin: pinJson(pin) },
      words: isNew
        ? `pinned ${id}`
        : `${id} is pinned already, by ${describeHolder(pin)} at ${pin.pinnedAt}${pin.reason === undefined ? '' : `: ${pin.reason}`}`,
    }));
  });
}

export function registerUnpin(program: Command, world: CliWorld): void {
  const command = program
    .command('unpin')
    .summary('let retention decide about a backup again')
    .description(
      'Removes the pin of a backup in every storage where it is pinned: the next prune treats it as any other.',
    )
    .argument('<backup>', 'latest, an id or a file name')
    .option('--database <name>', 'of this source or database, where the storage holds several')
    .option('--storage <name>', 'only in this storage (default: in all)');
  action(command, world, async (run, [name = ''], options) => {
    const config = await run.config(['storage']);
    const places = placesOf(run, config, options);
    // A pin may be left of a backup that somebody has removed by hand.
    const id = isBackupId(name) ? name : (await findCopies(run, config, places, name, options)).id;
    const tries = await Promise.all(
      places.map((place) =>
        attempt(place.name, run, async () => unpinBackup({ store: await place.open(), id }, run.context(config))),
      ),
    );
    const isKnown = tries.some((each) => 'error' in each || each.value);
    if (!isKnown) await findCopies(run, config, places, id, options);
    conclude(run, id, tries, (wasPinned) => ({
      json: { state: 'not-pinned', changed: wasPinned },
      words: wasPinned ? `unpinned ${id}` : `${id} is not pinned`,
    }));
  });
}

/** Error: `usage` for what is no line of text. */
function reasonOf(options: Options): string | undefined {
  const reason = text(options['reason']);
  if (reason === undefined) return undefined;
  if (reason.trim() !== '' && reason.length <= REASON_CHARACTERS_MAX && !/\p{Cc}/u.test(reason)) return reason;
  throw new PgarkError('usage', `--reason takes one line of 1 to ${REASON_CHARACTERS_MAX} characters`);
}

interface Copies {
  readonly id: BackupId;
  readonly having: readonly {
    readonly name: string;
    readonly store: Awaited<ReturnType<Place['open']>>;
    readonly manifest: Manifest;
  }[];
  readonly away: readonly { readonly storage: string; readonly error: PgarkError }[];
}

/** One backup, and where it lies. Errors: those of `findAcross`. */
async function findCopies(
  run: CommandRun,
  config: Config,
  places: readonly Place[],
  name: string,
  options: Options,
): Promise<Copies> {
  const context = run.context(config);
  const selector: BackupSelector = name === 'latest' ? { kind: 'latest' } : { kind: 'name', name };
  const rule = ruleOf(selector);
  const across = await findAcross(
    places,
    finding(selector, filterFor(config, text(options['database']))),
    rule,
    context,
  );
  const { found } = across.chosen;
  if (found.kind === 'foreign') {
    throw new PgarkError('backup-not-found', `${found.key} was written by another tool, and there is no pin for it`, {
      hint: 'nothing is needed: pgark never deletes what it did not write',
    });
  }
  const { id } = found.manifest;
  if (places.length > 1) reportChoice(across, rule, run, config);
  const everywhere: FoundAcross = rule.isNamed
    ? across
    : await findAcross(places, finding({ kind: 'name', name: id }, {}), ruleOf({ kind: 'name' }), context);
  return {
    id,
    having: [everywhere.chosen, ...everywhere.others].flatMap(({ name: storage, store, found: each }) =>
      each.kind === 'own' ? [{ name: storage, store, manifest: each.manifest }] : [],
    ),
    away: everywhere.passedOver.map(({ name: storage, error }) => ({ storage, error })),
  };
}

/** What came of it in one storage. */
type Try<T> = { readonly storage: string } & ({ readonly value: T } | { readonly error: PgarkError });

async function attempt<T>(storage: string, run: CommandRun, work: () => Promise<T>): Promise<Try<T>> {
  try {
    return { storage, value: await work() };
  } catch (thrown) {
    run.world.signal.throwIfAborted();
    return { storage, error: asPgarkError(thrown) };
  }
}

/** The result of all storages. Errors: the only one's; `partial` where it failed in some of several. */
function conclude<T>(
  run: CommandRun,
  id: BackupId,
  tries: readonly Try<T>[],
  tell: (value: T) => { readonly json: Readonly<Record<string, unknown>>; readonly words: string },
): void {
  const failed = tries.flatMap((each) => ('error' in each ? [each] : []));
  const [first] = failed;
  if (first !== undefined && tries.length === 1) throw first.error;
  if (failed.length < tries.length) {
    run.result(
      {
        id,
        storages: tries.map((each) => ({
          storage: each.storage,
          ...('error' in each ? { state: 'failed', error: reportError(each.error) } : tell(each.value).json),
        })),
      },
      () =>
        tries
          .map((each) => {
            const words = 'error' in each ? `FAILED: ${each.error.message}` : tell(each.value).words;
            return tries.length === 1 ? `${words}\n` : `${each.storage}: ${words}\n`;
          })
          .join(''),
    );
  }
  if (first === undefined) return;
  const words = failed.map(({ storage, error }) => `${storage}: ${error.message}`).join('; ');
  throw new PgarkError(
    failed.length === tries.length ? first.error.code : 'partial',
    `${failed.length} of ${tries.length} storages failed: ${words}`,
    { hint: first.error.hint, cause: first.error },
  );
}
