import type { Command } from 'commander';
import { PgarkError } from '../common/errors.ts';
import { describeHolder, pinBackup, type PinOutcome, unpinBackup } from '../operations/pin.ts';
import { isBackupId } from '../repository/ids.ts';
import { action, type CliWorld } from './command.ts';
import { attempt, type Try } from './attempt.ts';
import { conclude, findCopies } from './copies.ts';
import { placesOf } from './find-storage.ts';
import { addExamples } from './help.ts';
import { pinJson } from './json.ts';
import { text } from './option-text.ts';

type Options = Readonly<Record<string, unknown>>;

const FOREIGN = {
  why: ', and there is no pin for it',
  hint: 'nothing is needed: pgark never deletes what it did not write',
};

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
    const { id, having, away } = await findCopies(run, config, places, { name, options, refusal: FOREIGN });
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
    const id = isBackupId(name)
      ? name
      : (await findCopies(run, config, places, { name, options, refusal: FOREIGN })).id;
    const tries = await Promise.all(
      places.map((place) =>
        attempt(place.name, run, async () => unpinBackup({ store: await place.open(), id }, run.context(config))),
      ),
    );
    const isKnown = tries.some((each) => 'error' in each || each.value);
    if (!isKnown) await findCopies(run, config, places, { name: id, options, refusal: FOREIGN });
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
