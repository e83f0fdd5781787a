import type { Command } from 'commander';
import { acceptBackup } from '../operations/accept-size.ts';
import { describeSuspicions, type Manifest } from '../repository/manifest.ts';
import { action, type CliWorld } from './command.ts';
import { attempt, type Try } from './attempt.ts';
import { conclude, findCopies } from './copies.ts';
import { placesOf } from './find-storage.ts';
import { addExamples } from './help.ts';

const FOREIGN = {
  why: ': nothing is recorded of its size',
  hint: 'nothing is needed: pgark calls no dump of another tool suspicious',
};

export function registerAccept(program: Command, world: CliWorld): void {
  const command = program
    .command('accept')
    .summary('say that the size of a suspicious backup is right')
    .description(
      'Says that a backup that is suspicious for its size (expect.min_size, expect.size_change) is as it should be: it counts for retention again, and those that follow are compared with it.',
    )
    .argument('<backup>', 'latest, an id or a file name')
    .option('--database <name>', 'of this source or database, where the storage holds several')
    .option('--storage <name>', 'only in this storage (default: in all that have it)');
  addExamples(command, [
    ['pgark accept latest --database shop', 'many rows of shop were deleted on purpose: its backups are smaller now'],
  ]);
  action(command, world, async (run, [name = ''], options) => {
    const config = await run.config(['storage']);
    const places = placesOf(run, config, options);
    const { id, having, away } = await findCopies(run, config, places, { name, options, refusal: FOREIGN });
    // Only what was looked at: the newest of another storage may be another one, of another size.
    const request = { selector: { kind: 'name', name: id }, filter: {} } as const;
    const tries: Try<Manifest>[] = await Promise.all(
      having.map(({ name: storage, store }) =>
        attempt(storage, run, () => acceptBackup({ store, ...request }, run.context(config))),
      ),
    );
    conclude(run, id, [...tries, ...away], (manifest) => {
      const why = describeSuspicions(manifest);
      return {
        json: { state: why === undefined ? 'not-suspicious' : 'accepted' },
        words:
          why === undefined
            ? `${id} is not suspicious: there is nothing to accept`
            : `accepted the size of ${id} (${why})`,
      };
    });
  });
}
