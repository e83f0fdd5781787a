import type { Command } from 'commander';
import { asPgarkError, isPgarkError, PgarkError } from '../common/errors.ts';
import { acceptBackup } from '../operations/accept-size.ts';
import { describeSuspicions, type Manifest } from '../repository/manifest.ts';
import { action, type CliWorld } from './command.ts';
import { describeError } from './errors.ts';
import { addExamples } from './help.ts';
import { filterFor } from './list.ts';
import { text } from './option-text.ts';
import { openStorages } from './runs.ts';

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
    const selector = name === 'latest' ? ({ kind: 'latest' } as const) : ({ kind: 'name', name } as const);
    const filter = filterFor(config, text(options.database));
    const opened = await openStorages(run, config, options.storage);
    const failures = [...opened.failures];
    const found: { readonly storage: string; readonly manifest: Manifest }[] = [];
    let missing: PgarkError | undefined;
    for (const { name: storage, store } of opened.storages) {
      try {
        found.push({ storage, manifest: await acceptBackup({ store, selector, filter }, run.context(config)) });
      } catch (error) {
        world.signal.throwIfAborted();
        if (isPgarkError(error, 'backup-not-found')) missing ??= error;
        else failures.push({ storage, error: asPgarkError(error) });
      }
    }
    const [failure] = failures;
    if (found.length === 0)
      throw failure?.error ?? missing ?? new PgarkError('config-missing', 'no storage is configured');
    const accepted = found.map(({ storage, manifest }) => ({
      storage,
      id: manifest.id,
      accepted: manifest.suspicions !== undefined,
    }));
    run.result({ backups: accepted }, () => found.map(({ storage, manifest }) => describe(storage, manifest)).join(''));
    if (failure === undefined) return;
    for (const { storage, error } of failures) run.note(`storage ${storage}: ${describeError(error)}`);
    throw new PgarkError('partial', `${failures.length} of ${failures.length + found.length} storages failed`);
  });
}

function describe(storage: string, manifest: Manifest): string {
  const why = describeSuspicions(manifest);
  if (why === undefined) return `${storage}: ${manifest.id} is not suspicious: there is nothing to accept\n`;
  return `${storage}: accepted the size of ${manifest.id} (${why})\n`;
}
