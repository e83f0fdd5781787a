import { resolve } from 'node:path';
import { type Command, Option } from 'commander';
import { formatBytes, formatDuration } from '../common/bytes.ts';
import { PgarkError } from '../common/errors.ts';
import type { Config } from '../config/model.ts';
import { parseDurationMs } from '../config/units.ts';
import type { Assertion } from '../operations/drill/assertions.ts';
import type { Compared, DrillOutcome, DrillSelector, Scratch } from '../operations/drill/drill-request.ts';
import { recoveryJson } from '../operations/recovery/describe-plan.ts';
import { sizesOf } from '../repository/manifest.ts';
import type { BackupFilter } from '../repository/repository.ts';
import { Teller } from '../service/tell.ts';
import { ruleOf } from '../operations/find-across.ts';
import { action, type CliWorld, type CommandRun, findSource } from './command.ts';
import { connectionFromUrl } from './connection-url.ts';
import { fetchProgramOf } from './fetch-program.ts';
import { storageWith } from './find-storage.ts';
import { addExamples } from './help.ts';
import { manifestJson } from './json.ts';
import { filterFor, filterOfSource } from './list.ts';
import { parallelOf } from './parallel.ts';
import { keysOf } from './given-keys.ts';
import { namesBackup, onlySource } from './meant-backup.ts';
import { several } from './restore-selection.ts';
import { formatFacts, formatTime } from './table.ts';
import { tellWorld } from './telling.ts';
import { temporaryFolder } from './temporary-folder.ts';
import { parseTime } from './time.ts';
import { text } from './option-text.ts';

type Options = Readonly<Record<string, unknown>>;

export function registerDrill(program: Command, world: CliWorld): void {
  const command = program
    .command('drill')
    .summary('prove a backup by restoring it')
    .description(
      'Restores a backup into a PostgreSQL server of its own, which is started for it and which nobody else can reach, compares what is there with what was recorded, checks assertions, and removes all of it. A backup of a whole server recovers with all that is archived behind it.',
    )
    .argument(
      '[what...]',
      'DATABASE, or BACKUP, or DATABASE BACKUP; a BACKUP is latest (the default), an id or a file name',
    )
    .option('--at <time>', 'as it was at this time: the server, or the newest dump not after it')
    .option('--random', 'a random point of the recovery window of the server, or a random one of the dumps')
    .addOption(
      new Option('--kind <kind>', 'only dumps, or only backups of whole servers (default: the newest of both)').choices(
        ['logical', 'physical'],
      ),
    )
    .option('--assert <sql>', 'a query whose first column has to be true in all rows (repeatable)', several)
    .option('--budget <duration>', 'fail if the restore takes longer, such as 45m')
    .option('--to-url <url>', 'into a new database of this server instead, which is dropped behind it (dumps only)')
    .option('--work-dir <directory>', 'a folder with room for all that is restored')
    .option('--bin-dir <directory>', 'folder of the programs of PostgreSQL to start a server with')
    .option('--jobs <number>', 'connections to load by (format directory)')
    .option('--identity <file>', 'age identity file to decrypt with')
    .option('--passphrase-file <file>', 'file that holds the passphrase to decrypt with')
    .option(
      '--storage <name>',
      'the storage to restore from (default: the one of all that has the newest, or the one named)',
    );
  addExamples(command, [
    ['pgark drill', 'the newest backup, as a restore would bring it back'],
    ['pgark drill shop --random --budget 45m', 'the server at some point of what is archived'],
    ["pgark drill shop --assert 'select count(*) > 100000 from orders'", 'what has to be true of it'],
  ]);
  action(command, world, async (run, args, options) => {
    const assertions = assertionsOf(options.assert);
    const { config, source, filter, selector } = await choose(run, args, options);
    // Which one is picked at random, is picked where the newest is.
    const sought: DrillSelector = selector.kind === 'random' ? { kind: 'latest' } : selector;
    const { chooseBackup } = await import('../operations/drill/choose-backup.ts');
    const { storage, store, json } = await storageWith(run, config, options, {
      find: async (each, context) => ({
        kind: 'own',
        manifest: await chooseBackup({ store: each, filter, selector: sought }, context),
      }),
      rule: ruleOf(selector),
    });
    const { runDrill } = await import('../service/drill-run.ts');
    const order = {
      store,
      storage: storage.name,
      filter,
      selector,
      keys: await keysOf(config, options),
      assertions,
      restoreMsMax: budgetOf(options.budget),
      scratch: scratchOf(options, source?.drill, run),
      jobs: parallelOf(options.jobs),
      fetch: fetchProgramOf(run, { ...options, storage: storage.name }),
    };
    const { outcome, error, report } = await runDrill(source, order, run.context(config));
    if (report !== undefined) await new Teller(tellWorld(run, config)).drill(config, report);
    if (outcome === undefined) throw error ?? new PgarkError('internal', 'a drill has neither an outcome nor an error');
    run.result({ ...outcomeJson(outcome), ...json }, () => describe(outcome));
  });
}

async function choose(
  run: CommandRun,
  args: readonly string[],
  options: Options,
): Promise<{
  readonly config: Config;
  readonly source: ReturnType<typeof onlySource>;
  readonly filter: BackupFilter;
  readonly selector: DrillSelector;
}> {
  if (args.length > 2) throw new PgarkError('usage', `drill takes a database and a backup, not ${args.length} names`);
  const config = await run.config(['storage']);
  const [first, second] = args;
  const named = first === undefined ? undefined : findSource(config, first);
  const isBackup = second === undefined && first !== undefined && named === undefined && namesBackup(first);
  const backup = second ?? (isBackup ? first : undefined);
  const selector = selectorOf(backup, options);
  const source = named ?? (first === undefined || isBackup ? onlySource(config) : undefined);
  const kind: BackupFilter = options.kind === 'logical' || options.kind === 'physical' ? { kind: options.kind } : {};
  const of =
    first !== undefined && !isBackup
      ? filterFor(config, first)
      : selector.kind === 'name' || source === undefined
        ? {}
        : filterOfSource(source);
  return { config, source, filter: { ...of, ...kind }, selector };
}

function selectorOf(backup: string | undefined, { at, random }: Options): DrillSelector {
  const ways = [backup !== undefined && backup !== 'latest', typeof at === 'string', random === true];
  if (ways.filter(Boolean).length > 1)
    throw new PgarkError('usage', 'say a backup, --at TIME or --random, not several');
  if (random === true) return { kind: 'random' };
  if (typeof at === 'string') return { kind: 'at', time: parseTime('--at', at) };
  return backup === undefined || backup === 'latest' ? { kind: 'latest' } : { kind: 'name', name: backup };
}

/** Undefined: as it is configured. */
function scratchOf(
  options: Options,
  settings: { readonly workDir?: string; readonly memoryBytes?: number } | undefined,
  { world }: CommandRun,
): Scratch | undefined {
  const url = text(options.toUrl);
  const [workDir, binDir] = [text(options.workDir), text(options.binDir)];
  if (url !== undefined) {
    if (workDir !== undefined || binDir !== undefined)
      throw new PgarkError(
        'usage',
        '--work-dir and --bin-dir are for a server of its own, and do not go with --to-url',
      );
    return { kind: 'given', connection: connectionFromUrl(url, '--to-url', world.environment) };
  }
  return {
    kind: 'own',
    workFolder:
      (workDir === undefined ? undefined : resolve(world.cwd, workDir)) ??
      settings?.workDir ??
      temporaryFolder(world.environment),
    binDir: binDir === undefined ? undefined : resolve(world.cwd, binDir),
    memoryBytes: settings?.memoryBytes,
  };
}

function assertionsOf(given: unknown): readonly Assertion[] {
  const queries = (given ?? []) as readonly string[];
  if (queries.some((sql) => sql.trim() === '')) throw new PgarkError('usage', '--assert needs a query');
  return queries.map((sql) => ({ sql }));
}

function budgetOf(given: unknown): number | undefined {
  if (typeof given !== 'string') return undefined;
  const ms = parseDurationMs(given);
  if (ms !== undefined) return ms;
  throw new PgarkError('usage', `--budget ${given} is no duration`, { hint: 'write 90s, 45m or 2h' });
}

function outcomeJson(outcome: DrillOutcome): Record<string, unknown> {
  const { manifest, restoreMs, durationMs, compared, assertions, recovered } = outcome;
  return {
    state: 'passed',
    backup: manifestJson(manifest),
    restore_ms: restoreMs,
    duration_ms: durationMs,
    compared,
    assertions,
    ...(recovered && {
      recovered_to: {
        ...(recovered.plan && recoveryJson(recovered.plan)),
        last_transaction: recovered.lastTransaction,
      },
    }),
  };
}

function describe(outcome: DrillOutcome): string {
  const { manifest, restoreMs, durationMs, compared, assertions, recovered } = outcome;
  const size = formatBytes(sizesOf(manifest).plainBytes);
  return `${manifest.id} of ${formatTime(manifest.startedAt)} restores\n${formatFacts([
    ['restored', `${size} in ${formatDuration(restoreMs)}`],
    ['compared', describeCompared(compared)],
    ['last transaction', recovered?.lastTransaction],
    ['assertions', assertions === 0 ? 'none' : `${assertions}, all hold`],
    ['took', `${formatDuration(durationMs)} altogether; nothing of it is left`],
  ])}`;
}

const AMCHECK: Readonly<Record<Extract<Compared, { by: 'files' }>['amcheck'], string>> = {
  passed: 'all tables and B-trees, and each row in these, by pg_amcheck',
  'rows-in-part': 'all tables and B-trees, and each row in these but for those that are named above, by pg_amcheck',
  'not-installed': 'pg_amcheck is not installed',
};

function describeCompared(compared: Compared): string {
  switch (compared.by) {
    case 'statements':
      return 'the SQL text with its digest; the server took every statement';
    case 'rows':
      return `the number of rows of ${compared.tables} tables, ${compared.rows} altogether`;
    case 'hashes':
      return `all ${compared.rows} rows of ${compared.tables} tables, as they are in the restored database`;
    case 'files':
      return `every file with the server's own list; ${AMCHECK[compared.amcheck]}`;
    default:
      return compared satisfies never;
  }
}
