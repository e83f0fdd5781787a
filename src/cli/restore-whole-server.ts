import { type Command, Option } from 'commander';
import { PgarkError } from '../common/errors.ts';
import type { Config } from '../config/model.ts';
import type { RestoreAllRequest } from '../operations/whole-server/restore-all.ts';
import type { GlobalsSelector } from '../operations/whole-server/find-globals.ts';
import type { GlobalsChoice } from '../operations/whole-server/planned-object.ts';
import { isGlobalsId } from '../repository/globals.ts';
import { type CommandRun, findSource } from './command.ts';
import { connectionFromUrl } from './connection-url.ts';
import { placesOf } from './find-storage.ts';
import { text } from './option-text.ts';
import { parallelOf } from './parallel.ts';
import { several } from './restore-selection.ts';
import { leftOutOf } from './restore-target.ts';
import { parseTime } from './time.ts';

type Options = Readonly<Record<string, unknown>>;

export function wholeServerOptions(): readonly Option[] {
  const ofBoth = (flags: string, what: string): Option => new Option(flags, `with --globals or --all: ${what}`);
  return [
    new Option(
      '--all',
      'every database of the server that there are backups of, each into a new one of its name, after the roles and tablespaces',
    ),
    new Option(
      '--globals',
      'the roles and tablespaces alone; what the server has already stays as it is, and nothing is dropped',
    ),
    new Option('--no-globals', 'with --all: without the roles and tablespaces'),
    new Option('--exclude-database <name>', 'with --all: without this database (repeatable)').argParser(several),
    ofBoth('--no-role-passwords', 'make the roles without their passwords'),
    new Option(
      '--database-settings',
      'with --globals: also give the databases that the server has the owners, settings and rights that were stored',
    ),
    ofBoth(
      '--overwrite-roles',
      'give roles that the server has the attributes, passwords, settings, memberships and rights that were stored (default: they stay as they are, and gain nothing but memberships in new roles that hold no power of their own)',
    ),
  ];
}

const OF_SERVERS = [
  'all',
  'globals',
  'excludeDatabase',
  'rolePasswords',
  'databaseSettings',
  'overwriteRoles',
] as const;
const FITTING_GLOBALS: ReadonlySet<string> = new Set([
  'globals',
  'databaseSettings',
  'rolePasswords',
  'tablespaces',
  'overwriteRoles',
  'at',
  'toUrl',
  'identity',
  'passphraseFile',
  'storage',
  'plan',
]);
const FITTING_ALL: ReadonlySet<string> = new Set([
  ...[...FITTING_GLOBALS].filter((name) => name !== 'databaseSettings'),
  'all',
  'excludeDatabase',
  'verifyFirst',
  'jobs',
  'owner',
  'privileges',
  'analyze',
  'hooks',
]);

export function isWholeServer({ all, globals }: Options): boolean {
  return all === true || globals === true;
}

/** Error: `usage` for an option that has a meaning only for a server. */
export function refuseOptionsOfServers(command: Command): void {
  const misfit = given(command).find((option) => OF_SERVERS.some((name) => name === option.attributeName()));
  if (misfit === undefined) return;
  const flag = misfit.attributeName() === 'globals' ? '--no-globals' : misfit.long;
  const name = misfit.attributeName();
  const goesWith =
    name === 'databaseSettings'
      ? '--globals'
      : FITTING_GLOBALS.has(name) && name !== 'globals'
        ? '--globals or --all'
        : '--all';
  throw new PgarkError('usage', `${flag} goes with ${goesWith}`);
}

function given(command: Command): readonly Option[] {
  return command.options.filter((option) => command.getOptionValueSource(option.attributeName()) === 'cli');
}

export interface WholeServerMeans {
  readonly keysOf: (config: Config) => Promise<RestoreAllRequest['keys']>;
  readonly around: (config: Config, storage: string) => ReturnType<RestoreAllRequest['around']>;
  readonly verifyFirst: boolean | undefined;
}

/** `pgark restore [SOURCE] --all --to-url URL`, and the same with `--globals`. */
export async function restoreWholeServer(
  run: CommandRun,
  command: Command,
  args: readonly string[],
  { keysOf, around, verifyFirst }: WholeServerMeans,
): Promise<void> {
  const options: Options = command.opts();
  checkUsage(command, args, options);
  const connection = connectionFromUrl(text(options.toUrl) ?? '', '--to-url', run.world.environment);
  const jobs = parallelOf(options.jobs);
  const time = text(options.at);
  const selector =
    time === undefined ? ({ kind: 'latest' } as const) : ({ kind: 'at', time: parseTime('--at', time) } as const);
  const config = await run.config(['storage']);
  const [name] = args;
  const base = {
    places: placesOf(run, config, options),
    source: sourceOf(config, name),
    connection,
    keys: await keysOf(config),
    planOnly: options.plan === true,
  };
  const choice: GlobalsChoice = {
    withPasswords: options.rolePasswords !== false,
    withTablespaces: options.tablespaces !== false,
    overwrites: options.overwriteRoles === true,
    databases: options.databaseSettings === true ? 'existing' : 'none',
  };
  const context = run.context(config);
  // Loaded for this command only, as what it calls.
  const { describeAll, describeGlobals, failureOfAll, globalsOutcomeJson, outcomeOfAllJson } = await import(
    './restored-server.ts'
  );
  if (options.all !== true) {
    const { GlobalsPartlyRestored, restoreGlobals } = await import('../operations/whole-server/restore-globals.ts');
    const ofId: GlobalsSelector | undefined =
      name !== undefined && isGlobalsId(name) ? { kind: 'id', id: name } : undefined;
    if (ofId !== undefined && time !== undefined) {
      throw new PgarkError('usage', `--at does not go with ${name}, which is of one time already`);
    }
    const request = { ...base, selector: ofId ?? selector, choice };
    const outcome = await restoreGlobals(request, context).catch((error: unknown) => {
      if (!(error instanceof GlobalsPartlyRestored)) throw error;
      run.result(globalsOutcomeJson(error.outcome), () => describeGlobals(error.outcome));
      throw error;
    });
    run.result(globalsOutcomeJson(outcome), () => describeGlobals(outcome));
    return;
  }
  const { restoreAll } = await import('../operations/whole-server/restore-all.ts');
  const outcome = await restoreAll(
    {
      ...base,
      selector,
      without: (options.excludeDatabase ?? []) as readonly string[],
      globals: options.globals === false ? undefined : choice,
      verifyFirst,
      leaveOut: leftOutOf(options),
      ...(jobs === undefined ? {} : { jobs }),
      analyse: options.analyze !== false,
      around: (storage) => around(config, storage),
    },
    context,
  );
  run.result(outcomeOfAllJson(outcome, config), () => describeAll(outcome, config));
  const failure = failureOfAll(outcome);
  if (failure === undefined) return;
  for (const { manifest, error } of outcome.databases) {
    if (error !== undefined) run.failure(manifest.database.name, error);
  }
  throw failure;
}

function checkUsage(command: Command, args: readonly string[], options: Options): void {
  const flag = options.all === true ? '--all' : '--globals';
  const fitting = options.all === true ? FITTING_ALL : FITTING_GLOBALS;
  const misfit = given(command).find((option) => !fitting.has(option.attributeName()));
  if (misfit !== undefined) throw new PgarkError('usage', `${misfit.long ?? misfit.flags} does not go with ${flag}`);
  if (options.all === true && options.globals === true) {
    throw new PgarkError('usage', '--all loads roles and tablespaces anyhow: say one of --all and --globals');
  }
  if (args.length > 1) throw new PgarkError('usage', `restore ${flag} takes one source, not ${args.length} names`);
  if (options.toUrl === undefined) {
    throw new PgarkError('usage', `restore ${flag} needs to know into which server`, {
      hint: 'say it with --to-url postgres://user@host:5432',
    });
  }
}

/** A configured source, or one that only the storage knows any more. */
function sourceOf(config: Config, name: string | undefined): string | undefined {
  if (name !== undefined) return findSource(config, name)?.name ?? name;
  const [only, another] = config.databases.values();
  return another === undefined ? only?.name : undefined;
}
