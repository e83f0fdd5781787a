import type { Command } from 'commander';
import { formatBytes, formatDuration } from '../common/bytes.ts';
import { PgarkError } from '../common/errors.ts';
import type { Config, SourceConfig } from '../config/model.ts';
import type { BackupSelector } from '../operations/find-backup.ts';
import { describeServer } from '../operations/other-server.ts';
import type { AroundRestore } from '../operations/restore-around.ts';
import type { RestoreOutcome } from '../operations/restore.ts';
import type { BackupFilter } from '../repository/repository.ts';
import { restoreHooks } from '../service/restore-hooks.ts';
import { finding, ruleOf } from '../operations/find-across.ts';
import { findingRecovery, type SoughtRecovery } from '../operations/recovery/find-recovery.ts';
import { action, type CliWorld, type CommandRun, findSource } from './command.ts';
import { fetchProgramOf } from './fetch-program.ts';
import { storageWith } from './find-storage.ts';
import { keysOf } from './given-keys.ts';
import { addExamples } from './help.ts';
import { manifestJson } from './json.ts';
import { filterFor, filterOfSource } from './list.ts';
import { namesBackup, onlySource } from './meant-backup.ts';
import { parallelOf } from './parallel.ts';
import { recoveryOf, recoveryOptions } from './recovery-options.ts';
import {
  describeDirectory,
  directoryJson,
  refuseOptionsOfDatabases,
  refuseOptionsOfDirectories,
  restoreIntoDirectory,
} from './restore-directory.ts';
import { checkOutOfBase, outOfBase, outOfBaseOptions } from './restore-out-of-base.ts';
import { selectionOf, selectionOptions, several } from './restore-selection.ts';
import { checkDatabaseName, leftOutOf, restoreTarget } from './restore-target.ts';
import {
  isWholeServer,
  refuseOptionsOfServers,
  restoreWholeServer,
  wholeServerOptions,
} from './restore-whole-server.ts';
import { parseTime } from './time.ts';
import { text } from './option-text.ts';

type Options = Readonly<Record<string, unknown>>;

export function registerRestore(program: Command, world: CliWorld): void {
  const command = program
    .command('restore')
    .summary('restore a backup')
    .description(
      'Restores a backup by file name, id, "latest" or time. The target has to be said; nothing is destroyed that was not named, and a failure leaves the target as it was.',
    )
    .argument('[what...]', 'DATABASE, or BACKUP, or DATABASE BACKUP; a BACKUP is latest, an id or a file name')
    .option(
      '--at <time>',
      'the newest backup not after this time, such as 2026-11-20T02:00:00Z; with --to-dir: all that was committed by then',
    )
    .option('--to-db <name>', 'into this database on the configured server, made for it if need be')
    .option(
      '--to-url <url>',
      'into the database that this connection URL names; with --all and --globals, into its server',
    )
    .option('--to-dir <directory>', 'a physical backup: into this empty directory, for a server to start on')
    .option(
      '--tablespace-mapping <old=new>',
      'with --to-dir: put the tablespace of one path into another (repeatable; default: into the directory)',
      several,
    )
    .option(
      '--replace-unfinished',
      'with --to-dir: remove what a restore that was killed has left there; anything else is refused all the same',
    )
    .option('--in-place', 'into the configured database; the old one is kept under another name')
    .option('--yes <name>', 'the name of the database to replace: confirms --in-place, and --clean of a protected one')
    .option('--from-other-server', 'with --in-place: also a backup that was taken from another server')
    .option('--drop-old', 'with --in-place: drop the old database once the new one is in its place')
    .option('--clean', 'drop what the target holds, in one transaction with the load')
    .option('--identity <file>', 'age identity file to decrypt with')
    .option('--passphrase-file <file>', 'file that holds the passphrase to decrypt with')
    .option('--verify-first', 'read and check all that is stored before the target is touched (default below 1 GiB)')
    .option('--no-verify-first', 'do not; damage is then found before the restore ends');
  for (const option of [...recoveryOptions(), ...outOfBaseOptions(), ...wholeServerOptions(), ...selectionOptions()]) {
    command.addOption(option);
  }
  command
    .option(
      '--jobs <number>',
      'connections to gather statistics by, and to load by where the format is directory (default: one a processor, at most 8)',
    )
    .option('--role <name>', 'work as this role after the login, from the first statement on (SET ROLE)')
    .option('--no-owner', 'leave out who owned what: all belongs to the role that restores')
    .option('--no-privileges', 'leave out grants and default privileges')
    .option('--no-tablespaces', 'make no tablespaces; all lies where the server puts what is new')
    .option(
      '--verify',
      'read every row once more when it is loaded, and compare it with what was recorded (format directory)',
    )
    .option('--no-analyze', 'do not gather statistics at the end')
    .option('--storage <name>', 'the storage to restore from (default: the one of all that has it, or the newest)')
    .option('--foreign', 'latest and --at mean dumps that other tools left in the storage')
    .option('--no-hooks', 'do not run the hooks that the configuration has for restores')
    .option('--plan', 'say what would be done, then stop');
  addExamples(command, [
    ['pgark restore latest --to-db shop_copy', 'into a new database beside the configured one'],
    ['pgark restore latest --in-place --yes shop', 'replace shop; the old one is kept under another name'],
    ['pgark restore --at 2026-11-20T02:00:00Z --to-url postgres://db2/shop', 'onto another server'],
    ['pgark restore --to-dir /var/lib/postgresql/restored', 'the whole server, with all that is archived of it'],
    ['pgark restore --at 2026-11-20T09:41:07Z --to-dir /srv/restored --start', 'as it was at that moment'],
    ['pgark restore --database shop --table orders --at 2026-11-20 --to-db old', 'one table, as it was then'],
    ['pgark restore --all --to-url postgres://db2', 'roles, tablespaces and every database, into a new server'],
    ['pgark restore --globals --to-url postgres://db2 --plan', 'which roles and tablespaces that server lacks'],
    ['pgark restore old.sql.gz --to-db old', 'a dump that another tool wrote into the same storage'],
  ]);
  action(command, world, async (run, args, options) => {
    if (isWholeServer(options)) {
      await restoreWholeServer(run, command, args, {
        keysOf: (config) => keysOf(config, options),
        around: (config, storage) => hooksWanted(run, config, storage, undefined, options),
        verifyFirst: explicitVerifyFirst(command, options),
      });
      return;
    }
    refuseOptionsOfServers(command);
    checkUsage(args, options);
    if (options.toDir !== undefined) refuseOptionsOfDatabases(command);
    const jobs = parallelOf(options.jobs);
    const needsDatabase = options.toUrl === undefined && options.toDir === undefined;
    const config = await run.config(needsDatabase ? ['database', 'storage'] : ['storage']);
    const { source, isNamed, filter, selector } = choose(config, args, options);
    const sought = { selector, filter, keys: await keysOf(config, options) };
    const aroundFrom = (storage: string): AroundRestore | undefined =>
      hooksWanted(run, config, storage, source, options);
    if (typeof options.toDir === 'string') {
      const verifyFirst = explicitVerifyFirst(command, options);
      const { storage, store, json } = await storageWith(run, config, options, recoverySought(sought, run, options));
      const chosen = { ...options, verifyFirst, storage: storage.name };
      const from = { ...sought, store, around: aroundFrom(storage.name) };
      const outcome = await restoreIntoDirectory(run, config, from, options.toDir, chosen);
      run.result({ ...directoryJson(outcome), ...json }, () => describeDirectory(outcome));
      return;
    }
    const target = restoreTarget(source, config, options, world.environment);
    const how = {
      target,
      verifyFirst: explicitVerifyFirst(command, options),
      ...(jobs === undefined ? {} : { jobs }),
      ...selectionOf(options),
      leaveOut: leftOutOf(options),
      verifyRows: options.verify === true,
      analyse: options.analyze !== false,
      planOnly: options.plan === true,
    };
    if (typeof options.database === 'string') {
      const { storage, store, json } = await storageWith(run, config, options, recoverySought(sought, run, options));
      const chosen = { ...options, storage: storage.name };
      const load = { ...how, around: aroundFrom(storage.name) };
      const { recovered, loaded } = await outOfBase(run, config, { ...sought, store }, load, chosen);
      if (loaded !== undefined) run.result({ ...outcomeJson(loaded), ...json }, () => describeOutcome(loaded));
      else run.result({ ...directoryJson(recovered), ...json }, () => describeDirectory(recovered));
      return;
    }
    const of = selector.kind === 'name' ? filter : { ...filter, kind: 'logical' as const };
    const { storage, store, json } = await storageWith(run, config, options, {
      find: finding(selector, of),
      rule: ruleOf(selector),
    });
    // Loaded for this command only: the others start without it, and a daemon keeps its memory.
    const { restore } = await import('../operations/restore.ts');
    const expected = target.kind === 'in-place' && !isNamed ? { expectedDatabase: target.connection.database } : {};
    const from = { ...sought, store, around: aroundFrom(storage.name) };
    const outcome = await restore({ ...from, ...how, ...expected }, run.context(config));
    run.result({ ...outcomeJson(outcome), ...json }, () => describeOutcome(outcome));
  });
}

/** How the storage is found from which a server is brought back. */
function recoverySought(
  sought: Omit<SoughtRecovery, 'recovery'>,
  run: CommandRun,
  options: Options,
): ReturnType<typeof findingRecovery> {
  return findingRecovery({ ...sought, recovery: recoveryOf(options, fetchProgramOf(run, options)) });
}

function checkUsage(args: readonly string[], options: Options): void {
  const recovers = options.toDir !== undefined || options.database !== undefined;
  if (args.length === 0 && options.at === undefined && !recovers) {
    throw new PgarkError('usage', 'restore needs to know which backup: latest, an id, a file name, or --at TIME', {
      hint: 'for example: pgark restore latest --to-db NAME; pgark list shows what there is',
    });
  }
  const isMoment = options.at !== undefined && !recovers;
  if (isMoment && (args.length > 1 || namesBackup(args[0] ?? ''))) {
    throw new PgarkError('usage', 'say a backup or --at TIME, not both');
  }
  if (args.length > 2) throw new PgarkError('usage', `restore takes a database and a backup, not ${args.length} names`);
  const targets = ['toDb', 'toUrl', 'toDir', 'inPlace'].filter(
    (name) => options[name] !== undefined && options[name] !== false,
  );
  if (targets.length !== 1) {
    throw new PgarkError(
      'usage',
      targets.length === 0 ? 'restore needs to know where to' : 'restore takes one target, not several',
      {
        hint: 'say one of --to-db NAME, --to-url URL, --to-dir DIR, or --in-place --yes NAME',
      },
    );
  }
  if (typeof options.toDb === 'string') checkDatabaseName('--to-db', options.toDb);
  if (!recovers) refuseOptionsOfDirectories(options);
  checkOutOfBase(options);
  if (options.dropOld === true && options.inPlace !== true)
    throw new PgarkError('usage', '--drop-old goes with --in-place');
  if (options.fromOtherServer === true && options.inPlace !== true)
    throw new PgarkError('usage', '--from-other-server goes with --in-place');
  if (options.dropOld === true && options.clean === true) {
    throw new PgarkError('usage', '--clean empties the database itself, so there is no old one for --drop-old to drop');
  }
}

/** A dump of another tool is of the source on whose server it is loaded, unless a URL leads elsewhere. */
function hooksWanted(
  run: CommandRun,
  config: Config,
  storage: string,
  source: SourceConfig | undefined,
  { hooks, toUrl }: Options,
): AroundRestore | undefined {
  if (hooks === false) return undefined;
  const { clock, logger, signal } = run.context(config);
  const sourceOfForeign = toUrl === undefined ? source : undefined;
  const { environment } = run.world;
  return restoreHooks({ config, storage, sourceOfForeign }, { clock, logger, signal, environment });
}

interface Choice {
  /** The configured database whose server, or whose place, the restore goes to. */
  readonly source: SourceConfig | undefined;
  /** Whether the command line names the database that the backup is of. */
  readonly isNamed: boolean;
  readonly filter: BackupFilter;
  readonly selector: BackupSelector;
}

function choose(config: Config, args: readonly string[], options: Options): Choice {
  const [first, second] = args;
  // A server is brought back to that moment by WAL, from whatever base backup is best.
  const recovers = options.toDir !== undefined || options.database !== undefined;
  const at = recovers ? undefined : text(options.at);
  const source = first === undefined ? undefined : findSource(config, first);
  const isNamed = second !== undefined || source !== undefined || (at !== undefined && first !== undefined);
  const target = source ?? onlySource(config);
  const selector = selectorOf(isNamed ? second : first, at, options.foreign === true);
  // A name or an id says enough by itself; the newest of what, only a database can say.
  const filterOfTarget = selector.kind === 'name' || target === undefined ? {} : filterOfSource(target);
  const filter = isNamed ? filterFor(config, first) : filterOfTarget;
  return { source: target, isNamed, filter, selector };
}

function selectorOf(backup: string | undefined, at: string | undefined, foreign: boolean): BackupSelector {
  const newest = backup === undefined || backup === 'latest';
  if (foreign && newest) return { kind: 'foreign', ...(at === undefined ? {} : { notAfter: parseTime('--at', at) }) };
  if (at !== undefined) return { kind: 'at', time: parseTime('--at', at) };
  return newest ? { kind: 'latest' } : { kind: 'name', name: backup };
}

function explicitVerifyFirst(command: Command, options: Options): boolean | undefined {
  return command.getOptionValueSource('verifyFirst') === 'cli' ? options.verifyFirst === true : undefined;
}

function outcomeJson(outcome: RestoreOutcome): Record<string, unknown> {
  const { backup } = outcome;
  return {
    state: outcome.done ? 'restored' : 'planned',
    backup: backup.kind === 'own' ? manifestJson(backup.manifest) : { key: backup.key, stored_bytes: backup.bytes },
    database: outcome.database,
    kept_as: outcome.keptAs,
    duration_ms: outcome.durationMs,
    plan: outcome.plan,
  };
}

function describeOutcome(outcome: RestoreOutcome): string {
  const { backup } = outcome;
  const name =
    backup.kind === 'own'
      ? `${backup.manifest.id} of ${backup.manifest.startedAt}`
      : `${backup.key} (${formatBytes(backup.bytes)})`;
  if (!outcome.done) {
    const from = backup.kind === 'own' ? `, taken from ${describeServer(backup.manifest.server)}` : '';
    return `would restore ${name}${from}:\n${outcome.plan.map((step, index) => `  ${index + 1}. ${step}\n`).join('')}`;
  }
  const kept = outcome.keptAs === undefined ? '' : `  the old database is kept as ${outcome.keptAs}\n`;
  return `restored ${name} into database ${outcome.database} in ${formatDuration(outcome.durationMs)}\n${kept}`;
}
