import { resolve } from 'node:path';
import { type Command, Option } from 'commander';
import { PgarkError } from '../common/errors.ts';
import type { Config, SourceConfig, StorageConfig } from '../config/model.ts';
import { operationContext } from '../operations/context.ts';
import { targetAtLsn } from '../operations/recovery/recovery-target.ts';
import { systemIdentifierIn } from '../operations/wal/control-file.ts';
import { fetchWal, type FetchWalRequest } from '../operations/wal/fetch.ts';
import { pushWal } from '../operations/wal/push.ts';
import { isFolderOfRunningServer, readAhead } from '../operations/wal/read-ahead.ts';
import { replayedSpan } from '../operations/wal/replayed-span.ts';
import type { WalStore } from '../operations/wal/archives.ts';
import { listWalRecords } from '../repository/wal-record.ts';
import { walPolicyFor, walSettingsOf } from '../service/wal.ts';
import { lookAtWal, storagesToReadFrom } from './archived-wal.ts';
import { failureJson, failureOfStorages } from './attempt.ts';
import { action, chooseSources, chooseStorage, type CliWorld, type CommandRun } from './command.ts';
import { endWith } from './exit-status.ts';
import { addExamples } from './help.ts';
import { jsonLines } from './json.ts';
import { keysOf } from './given-keys.ts';
import { describeWalOf, walJson } from './wal-report.ts';
import { text } from './option-text.ts';

/** What a restore_command ends with where the archive has no such file: recovery then takes it for the end of WAL. */
const ABSENT = 1;

export function registerWal(program: Command, world: CliWorld): void {
  const wal = program
    .command('wal')
    .summary('archive the write-ahead log, and fetch it')
    .description(
      'Archives the write-ahead log of a server, for recovery to any moment, and fetches it. The storage, the encryption and the slot are those of the configuration’s section wal; without it, of the only storage.',
    );
  registerReceive(wal, world);
  registerPush(wal, world);
  registerFetch(wal, world);
  registerReadAhead(wal, world);
  registerStatus(wal, world);
}

function registerReceive(wal: Command, world: CliWorld): void {
  const command = wal
    .command('receive')
    .summary('receive WAL over a replication slot, and archive it')
    .description(
      'Receives WAL over a replication slot and archives it, until it gets SIGTERM or SIGINT: then it archives what has come, and exits with 0. The role needs REPLICATION. What is not archived the server keeps. The notifications of the database are told of WAL that is not archived in time, or lost, and of a slot that fills.',
    )
    .argument('[database]', 'a database of the configuration (needed if there are several)')
    .option('--slot <name>', 'replication slot, made if it is not there (default: wal.slot, else pgark_NAME)');
  addExamples(command, [['pgark wal receive', 'in a container, or as a service; pgark daemon does it too']]);
  action(command, world, async (run, names, options) => {
    const config = await run.config(['database', 'storage']);
    const source = chooseSource(config, names[0]);
    const settings = walSettingsOf(config, source);
    const slot = slotOf(text(options.slot)) ?? settings.slot;
    const opened = await openStores(run, config, settings.storages);
    const stores = opened.map((each) => ({ ...each, policy: walPolicyFor(config, each.name, source.name) }));
    // Whoever archives or fetches single files, one process for each, goes without.
    const { receiveUntilStopped } = await import('./wal-receive.ts');
    await receiveUntilStopped(run, { config, source, settings, slot, stores });
  });
}

function registerPush(wal: Command, world: CliWorld): void {
  const command = wal
    .command('push')
    .summary('archive one file of WAL (for archive_command)')
    .description(
      'Archives one file of WAL, for archive_command. It succeeds only when every storage has the file; the same file again succeeds too, and another one of its name is refused. Of a segment that the server has not finished, as the last one of a server that is lost, its records are archived; archive_mode = always, which hands over such ones on a standby, is not supported.',
    )
    .argument('<file>', 'the file, as archive_command has it: %p')
    .option('--database <name>', 'a database of the configuration (needed if there are several)');
  addExamples(command, [["archive_command = 'pgark -c /etc/pgark.yaml wal push %p'", 'in postgresql.conf']]);
  action(command, world, async (run, [file], options) => {
    const config = await run.config(['storage']);
    const source = chooseSource(config, text(options.database));
    const settings = walSettingsOf(config, source);
    const outcome = await pushWal(
      {
        source: source.name,
        stores: await openStores(run, config, settings.storages),
        sealer: await world.adapters.sealerOf(settings.encryption),
        keys: config.decryptionKeys,
        file: resolve(world.cwd, file ?? ''),
        dataDirectory: world.cwd,
      },
      run.context(config),
    );
    run.result(
      {
        name: outcome.name,
        system_identifier: outcome.systemIdentifier,
        storages: outcome.stores.map(({ storage, outcome: what }) => ({ storage, outcome: what })),
      },
      () => '',
    );
  });
}

function registerFetch(wal: Command, world: CliWorld): void {
  const command = wal
    .command('fetch')
    .summary('fetch one file of WAL (for restore_command)')
    .description(
      'Fetches one file of WAL, for restore_command. The newest segment is filled up with zeros. Exit status: 0 found; 1 the archive is there, and surely has neither this file nor WAL that follows it; 126 anything else, at which a recovery stops instead of ending early.',
    )
    .argument('<name>', 'name of the file, as restore_command has it: %f')
    .argument('<target>', 'where it is wanted: %p');
  for (const option of archiveOptions()) command.addOption(option);
  addExamples(command, [["restore_command = 'pgark -c /etc/pgark.yaml wal fetch %f %p'", 'in postgresql.conf']]);
  action(command, world, async (run, [name, target], options) => {
    const { archive, context } = await archiveOf(run, options);
    const outcome = await fetchWal({ ...archive, name: name ?? '', target: resolve(world.cwd, target ?? '') }, context);
    run.result({ name, outcome }, () => '');
    endWith(outcome === 'found' ? 0 : ABSENT);
  });
}

/** What the restore_command that pgark writes keeps running beside the recovery. */
function registerReadAhead(wal: Command, world: CliWorld): void {
  const command = wal
    .command('read-ahead', { hidden: true })
    .summary('fetch segment after segment, for the restore_command that pgark writes')
    .argument('<name>', 'the segment to begin with')
    .argument('<folder>', 'where to put them: a folder in pg_wal/pgark of the data directory');
  for (const option of archiveOptions()) command.addOption(option);
  action(command, world, async (run, [first, given], options) => {
    const { archive, context } = await archiveOf(run, options);
    const folder = resolve(world.cwd, given ?? '');
    const isWanted = (): Promise<boolean> => isFolderOfRunningServer(folder);
    await readAhead({ ...archive, first: first ?? '', folder, isWanted }, context);
  });
}

function archiveOptions(): readonly Option[] {
  return [
    new Option('--database <name>', 'a database of the configuration (needed if there are several)'),
    new Option('--source <name>', 'the source whose WAL it is, where the configuration has no such database'),
    new Option('--system-id <digits>', 'system identifier of the server (default: of the data directory it runs in)'),
    new Option('--identity <file>', 'age identity file to decrypt with'),
    new Option('--passphrase-file <file>', 'file that holds the passphrase to decrypt with'),
    new Option('--storage <name>', 'the storage to look in (default: those of the configuration’s section wal)'),
    new Option(
      '--up-to <position>',
      'where the WAL ends that the recovery needs, whose target lies before it: what is missing behind it does not count (default: all that is archived is needed)',
    ),
    new Option(
      '--refuse-tablespace-paths',
      'fail where a segment makes a tablespace at a path, which the recovery would use on this machine',
    ),
    new Option('--replay-from <position>', 'with --refuse-tablespace-paths: only from this one on'),
    new Option('--replay-to <position>', 'with --refuse-tablespace-paths: only before this one'),
  ];
}

/** Error: `usage`. */
function replayedOf(options: Readonly<Record<string, unknown>>): FetchWalRequest['replayed'] {
  const [from, to] = [text(options.replayFrom), text(options.replayTo)];
  if (options.refuseTablespacePaths === true) return replayedSpan(from, to);
  if (from === undefined && to === undefined) return undefined;
  throw new PgarkError('usage', '--replay-from and --replay-to go with --refuse-tablespace-paths');
}

/** The archive that these options mean, and the world to read it in. */
async function archiveOf(run: CommandRun, options: Readonly<Record<string, unknown>>) {
  const { world } = run;
  const upTo = text(options.upTo);
  const config = await run.config(['storage']);
  const named = text(options.source);
  const database = named === undefined ? chooseSource(config, text(options.database)) : undefined;
  const stores =
    database === undefined
      ? await storeToReadFrom(run, config, text(options.storage))
      : await openStores(run, config, storagesToReadFrom(config, database, text(options.storage)));
  const source = named ?? database?.name ?? '';
  const systemIdentifier =
    systemIdOf(text(options.systemId)) ??
    (await systemIdentifierIn(world.cwd)) ??
    (await onlyArchived(stores, source, world));
  return {
    archive: {
      source,
      systemIdentifier,
      stores,
      keys: await keysOf(config, options),
      replayed: replayedOf(options),
      upTo: upTo === undefined ? undefined : targetAtLsn(upTo).lsn,
    },
    context: operationContext({ logger: run.logger(config), signal: world.signal }),
  };
}

/** Error: `usage` for a name that no slot can have. */
function slotOf(given: string | undefined): string | undefined {
  if (given === undefined || /^[a-z0-9_]{1,63}$/.test(given)) return given;
  throw new PgarkError('usage', `--slot "${given}" is no name that a replication slot can have`, {
    hint: 'it has up to 63 small letters, digits and underscores',
  });
}

/** Error: `usage` for what no server is called by. */
function systemIdOf(given: string | undefined): string | undefined {
  if (given === undefined || /^\d{1,20}$/.test(given)) return given;
  throw new PgarkError('usage', `--system-id ${given} is no system identifier, which has digits alone`, {
    hint: 'pgark wal status shows it; on the server: SELECT system_identifier FROM pg_control_system()',
  });
}

function registerStatus(wal: Command, world: CliWorld): void {
  const command = wal
    .command('status')
    .summary('show what WAL is archived')
    .description(
      'Shows what WAL is archived of each server, how far, and where something is missing. It needs no key. Of several storages one that cannot be read is told of, and the exit status is 4 then.',
    )
    .argument('[database]', 'a database of the configuration (default: all)')
    .option('--storage <name>', 'the storage to look in (default: those that the WAL goes into)');
  addExamples(command, [['pgark wal status', 'is all of it there?']]);
  action(command, world, async (run, names, options) => {
    const config = await run.config(['storage']);
    const now = run.context(config).clock.now();
    const { found, failures, storageCount, isAnyRead } = await lookAtWal(run, config, names, text(options.storage));
    const json = { archives: found.map((each) => walJson(each, now)), failures: failures.map(failureJson) };
    if (isAnyRead) {
      run.result(
        json,
        () => describeWalOf(found, failures, now),
        () => [...jsonLines('archive', json.archives), ...jsonLines('failure', json.failures)],
      );
    }
    const failure = failureOfStorages(run, failures, storageCount, isAnyRead);
    if (failure !== undefined) throw failure;
  });
}

function chooseSource(config: Config, name: string | undefined): SourceConfig {
  const [source, ...others] = chooseSources(config, name === undefined ? [] : [name]);
  if (source === undefined) throw new PgarkError('config-missing', 'no database is configured');
  if (others.length === 0) return source;
  throw new PgarkError('usage', `there are ${others.length + 1} databases`, {
    hint: `say which one: ${[source, ...others].map((each) => each.name).join(' | ')}`,
  });
}

async function openStores(
  run: CommandRun,
  config: Config,
  storages: readonly StorageConfig[],
): Promise<readonly WalStore[]> {
  return Promise.all(storages.map(async (storage) => ({ name: storage.name, store: await run.open(storage, config) })));
}

async function storeToReadFrom(
  run: CommandRun,
  config: Config,
  storage: string | undefined,
): Promise<readonly WalStore[]> {
  const chosen = chooseStorage(config, storage);
  return [{ name: chosen.name, store: await run.open(chosen, config) }];
}

/** The server whose WAL is archived, where it is only one. */
async function onlyArchived(stores: readonly WalStore[], source: string, { signal }: CliWorld): Promise<string> {
  const known = new Set<string>();
  for (const { store } of stores) {
    for (const { systemIdentifier } of await listWalRecords(store, source, { signal })) known.add(systemIdentifier);
  }
  const [only, ...others] = known;
  if (only !== undefined && others.length === 0) return only;
  throw new PgarkError('wal-unknown', `WAL of ${known.size} servers is archived for ${source}`, {
    hint: 'run it in the server’s data directory, as restore_command does, or say --system-id',
  });
}
