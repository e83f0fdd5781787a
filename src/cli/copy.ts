import type { Command } from 'commander';
import { formatBytes } from '../common/bytes.ts';
import { PgarkError } from '../common/errors.ts';
import type { Config } from '../config/model.ts';
import type { CopyOutcome, CopyState } from '../operations/copy/copy-request.ts';
import type { BackupKind } from '../repository/ids.ts';
import { action, chooseStorage, type CliWorld, type CommandRun } from './command.ts';
import { findCopies } from './copies.ts';
import { placesOf } from './find-storage.ts';
import { addExamples } from './help.ts';
import { manifestJson } from './json.ts';
import { text } from './option-text.ts';
import { keysOf } from './given-keys.ts';
import { policyFor } from './retention.ts';
import { formatCount } from './table.ts';

const FOREIGN = {
  why: ', and nothing is recorded by which a copy could be compared',
  hint: 'copy the file with a tool of the storage',
};

export function registerCopy(program: Command, world: CliWorld): void {
  const command = program
    .command('copy')
    .summary('copy a backup into another storage')
    .description(
      'Copies a backup as it is stored into another storage, under the same id and names, compared with its digests on the way: no key is needed, and nothing touches the local disk. What an incremental backup needs is copied with it, and so is the WAL without which a physical backup is none, and the roles and tablespaces that go with a database. Nothing that is there is replaced.',
    )
    .argument('<backup>', 'latest, an id or a file name')
    .requiredOption('--to <name>', 'the storage to copy it into')
    .option('--from <name>', 'the storage to copy it from (default: those that have it)')
    .option('--database <name>', 'of this source or database, where the storages hold several')
    .option('--dry-run', 'say what would be copied, write nothing');
  addExamples(command, [
    ['pgark copy latest --to offsite', 'the newest backup of all storages, into one more'],
    ['pgark copy latest --database shop --from disk --to offsite', 'the newest one of shop that is on disk'],
  ]);
  action(command, world, async (run, [name = ''], options) => {
    const config = await run.config(['storage']);
    const target = chooseStorage(config, text(options['to']));
    const fromName = text(options['from']);
    if (fromName === target.name) {
      throw new PgarkError('usage', `--from and --to are both ${target.name}`, { hint: 'name two storages' });
    }
    const places = placesOf(run, config, { storage: fromName });
    const found = await findCopies(run, config, places, { name, options, refusal: FOREIGN });
    const [first] = found.having;
    if (first === undefined) throw new PgarkError('backup-not-found', `Backup not found: ${name}`);
    const place = places.find((each) => each.name === target.name);
    const store = place === undefined ? await run.open(target, config) : await place.open();
    const { copyBackup } = await import('../operations/copy/copy.ts');
    const dryRun = options['dryRun'] === true;
    const outcome = await copyBackup(
      {
        manifest: first.manifest,
        from: found.having.filter((each) => each.name !== target.name),
        to: { name: target.name, store },
        keys: await keysOf(config, {}),
        retention: {
          policyOf: (source: string, database: string, kind: BackupKind) =>
            policyFor(config, target.name, source, database, kind),
          timezone: config.timezone,
        },
        leaseTermMs: config.leaseTermMs,
        dryRun,
      },
      run.context(config),
    );
    warnOfRetention(run, config, outcome, target.name);
    const from = found.having.map((each) => each.name).filter((each) => each !== target.name);
    run.result(
      { id: found.id, to: target.name, location: store.location, from, dry_run: dryRun, ...outcomeJson(outcome) },
      () => describe(outcome, target.name),
    );
  });
}

function warnOfRetention(run: CommandRun, config: Config, { letGo, isPinned }: CopyOutcome, storage: string): void {
  if (letGo.length === 0 || isPinned) return;
  const what = `the next prune of ${storage} deletes ${letGo.join(', ')}, which its retention lets go; to keep it: pgark pin ${letGo.at(-1)} --storage ${storage}`;
  run.logger(config).warning('copy.let_go', what, { storage, backupIds: letGo.join(' ') });
}

function outcomeJson({ backups, globals, wal, isWalMissing, isPinned, letGo }: CopyOutcome): Record<string, unknown> {
  return {
    backups: backups.map(({ manifest, state, objects, storedBytes }) => ({
      state,
      objects_copied: state === 'copied' ? objects : 0,
      bytes_copied: state === 'copied' ? storedBytes : 0,
      ...manifestJson(manifest),
    })),
    ...(globals && { globals }),
    ...(wal && { wal: { objects_copied: wal.objects, bytes_copied: wal.bytes } }),
    ...(isWalMissing && { wal_missing: true }),
    pinned: isPinned,
    let_go: letGo,
  };
}

const VERBS: Readonly<Record<CopyState, string>> = {
  copied: 'copied',
  present: 'already there, and the same:',
  planned: 'would copy',
};

function describe({ backups, globals, wal, isWalMissing, isPinned }: CopyOutcome, storage: string): string {
  const lines = backups.map(({ manifest, state, objects, storedBytes }, index) => {
    const role = index === backups.length - 1 ? '' : ', which the last one needs';
    const amount = `${formatCount(objects, 'object')}, ${formatBytes(storedBytes)}`;
    return `${VERBS[state]} ${manifest.id} of ${manifest.database.name} ${state === 'present' ? 'in' : 'to'} ${storage}: ${amount}${role}\n`;
  });
  const last = backups.at(-1)?.manifest;
  if (globals !== undefined) lines.push(`  roles    ${VERBS[globals.state]} ${globals.id}\n`);
  if (wal !== undefined)
    lines.push(`  WAL      ${formatCount(wal.objects, 'object')} copied, ${formatBytes(wal.bytes)}\n`);
  if (isWalMissing) lines.push(`  WAL      would copy what is missing of it in ${storage}\n`);
  if (last?.format === 'physical') {
    lines.push(
      `  restore  pgark restore ${last.id} --storage ${storage} --to-dir DIR --immediate: to the end of the backup; WAL behind that is not copied\n`,
    );
  }
  if (isPinned) lines.push('  pinned   there too, as it is where it came from\n');
  return lines.join('');
}
