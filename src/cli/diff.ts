import type { Command } from 'commander';
import { isPgarkError, PgarkError } from '../common/errors.ts';
import type { Config } from '../config/model.ts';
import { finding, ruleOf } from '../operations/find-across.ts';
import type { BackupSelector } from '../operations/find-backup.ts';
import { showBackup } from '../operations/show.ts';
import { isBackupId } from '../repository/ids.ts';
import type { Manifest } from '../repository/manifest.ts';
import type { BackupFilter } from '../repository/repository.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { action, type CliWorld, type CommandRun, findSource } from './command.ts';
import { describeDiff, diffJson } from './diff-report.ts';
import { endWith } from './exit-status.ts';
import { storageWith } from './find-storage.ts';
import { addExamples } from './help.ts';
import { manifestJson } from './json.ts';
import { filterFor, filterOfSource } from './list.ts';
import { text } from './option-text.ts';
import { keysOf } from './given-keys.ts';

type Options = Readonly<Record<string, unknown>>;

/** A backup that was named, and where it is taken from. */
interface Named {
  readonly store: ObjectStore;
  readonly manifest: Manifest;
  readonly json: Readonly<Record<string, unknown>>;
}

const DIFFERS = 1;

export function registerDiff(program: Command, world: CliWorld): void {
  const command = program
    .command('diff')
    .summary('compare two backups')
    .description(
      'Compares two backups without restoring them: of archives the objects, and the rows of each table by number and hash; of others what is recorded of them.',
    )
    .argument('<before>', 'latest, an id, a file name, or a database, whose newest is taken')
    .argument('<after>', 'the same')
    .option('--database <name>', 'latest and file names are of this source or database')
    .option('--identity <file>', 'age identity file to decrypt with')
    .option('--passphrase-file <file>', 'file that holds the passphrase to decrypt with')
    .option('--exit-code', 'end with 1 unless both are known to hold the same')
    .option('--storage <name>', 'the storage to look in (default: the one of all that has it, or the newest)');
  addExamples(command, [
    ['pgark diff 20261119T020000Z-dk2m4xa latest', 'what has changed since that backup'],
    ['pgark diff shop shop_copy', 'the newest backups of two databases'],
  ]);
  action(command, world, async (run, [one, other], options) => {
    if (one === undefined || other === undefined) {
      throw new PgarkError('usage', 'diff needs to know which two backups');
    }
    const config = await run.config(['storage']);
    const before = await named(run, config, one, options);
    const after = await named(run, config, other, options);
    const { diff } = await import('../operations/diff/diff.ts');
    const outcome = await diff({ before, after, keys: await keysOf(config, options) }, run.context(config));
    run.result(
      {
        same: outcome.same ?? null,
        before: { ...before.json, backup: manifestJson(before.manifest) },
        after: { ...after.json, backup: manifestJson(after.manifest) },
        ...diffJson(outcome),
      },
      () => describeDiff(before.manifest, after.manifest, outcome),
    );
    if (options['exitCode'] === true) endWith(outcome.same === true ? 0 : DIFFERS);
  });
}

/**
 * The backup that an argument means: the name of a configured source or database is taken for that before it is taken for a
 * file's, and that of what is not configured behind it. Errors: those of `storageWith`.
 */
async function named(run: CommandRun, config: Config, name: string, options: Options): Promise<Named> {
  const given = filterFor(config, text(options['database']));
  if (name === 'latest') return find(run, config, options, { kind: 'latest' }, given);
  const source = isBackupId(name) ? undefined : findSource(config, name);
  if (source !== undefined) return find(run, config, options, { kind: 'latest' }, filterOfSource(source));
  const attempts: readonly (readonly [BackupSelector, BackupFilter])[] = [
    [{ kind: 'name', name }, given],
    [{ kind: 'latest' }, { source: name }],
    [{ kind: 'latest' }, { database: name }],
  ];
  let first: PgarkError | undefined;
  for (const [selector, filter] of attempts) {
    try {
      return await find(run, config, options, selector, filter);
    } catch (error) {
      if (!isPgarkError(error, 'backup-not-found')) throw error;
      first ??= error;
    }
  }
  throw first;
}

async function find(
  run: CommandRun,
  config: Config,
  options: Options,
  selector: BackupSelector,
  filter: BackupFilter,
): Promise<Named> {
  const rule = ruleOf(selector);
  const { store, json } = await storageWith(run, config, options, { find: finding(selector, filter), rule });
  return { store, json, manifest: await showBackup({ store, selector, filter }, run.context(config)) };
}
