import { type Command, Option } from 'commander';
import { formatBytes, formatDuration } from '../common/bytes.ts';
import { PgarkError } from '../common/errors.ts';
import {
  listRuns,
  type NamedStore,
  type RunListing,
  type RunOutcomeIn,
  type RunState,
  type RunSummary,
} from '../operations/list-runs.ts';
import { action, chooseStorage, type CliWorld, type CommandRun } from './command.ts';
import { failureJson, failureOfStorages } from './attempt.ts';
import { addExamples } from './help.ts';
import { jsonLines } from './json.ts';
import { filterFor } from './list.ts';
import { formatTable, formatTime } from './table.ts';
import { sinceTime } from './time.ts';

const STATES = ['running', 'succeeded', 'failed', 'interrupted', 'partial'] as const satisfies readonly RunState[];
const LIMIT_MAX = 10_000;

export function registerRuns(program: Command, world: CliWorld): void {
  const command = program
    .command('runs')
    .summary('list what ran and how it ended')
    .description(
      'Lists what ran, when and how it ended, the newest first, from the records in the storages. A run that died without a word is shown as interrupted.',
    )
    .argument('[database]', 'only runs over this source or database')
    .option('--limit <count>', 'no more than this many', '20')
    .option('--since <time>', 'only what started since: 2026-11-20, or 12h, 30d before now', '30d')
    .addOption(new Option('--state <state>', 'only what came to this, in one storage at least').choices(STATES))
    .option('--storage <name>', 'only this storage (default: all)');
  addExamples(command, [
    ['pgark runs --state failed', 'what failed in the last 30 days'],
    ['pgark runs shop --since 24h -o json', 'the last day of one database, for scripts'],
  ]);
  action(command, world, async (run, [name], options) => {
    const config = await run.config(['storage']);
    const context = run.context(config);
    const request = {
      since: sinceTime('--since', String(options.since), context.clock.now()),
      limit: limitOf(String(options.limit)),
      state: STATES.find((state) => state === options.state),
      filter: filterFor(config, name),
    };
    const { storages, failures } = await openStorages(run, config, options.storage);
    const listing = await listRuns({ ...request, storages }, context);
    const failed = [...failures, ...listing.failures];
    const storageCount = storages.length + failures.length;
    const json = {
      runs: listing.runs.map(runJson),
      has_more: listing.hasMore,
      damaged: listing.damaged.map(({ storage, key, error }) => ({ storage, key, error: error.message })),
      failures: failed.map(failureJson),
    };
    if (failed.length === 0 || failed.length < storageCount) {
      run.result(
        json,
        () => describe(listing, storageCount > 1, world),
        () => [
          ...jsonLines('run', json.runs),
          ...jsonLines('damaged', json.damaged),
          ...jsonLines('failure', json.failures),
          { kind: 'summary', has_more: json.has_more },
        ],
      );
    }
    const failure = failureOfStorages(run, failed, storageCount);
    if (failure !== undefined) throw failure;
  });
}

/** All storages, or the one that is named; one that cannot be opened does not keep the others from being read. */
export async function openStorages(
  run: CommandRun,
  config: Awaited<ReturnType<CommandRun['config']>>,
  name: unknown,
): Promise<{ readonly storages: readonly NamedStore[]; readonly failures: RunListing['failures'] }> {
  const wanted = typeof name === 'string' ? [chooseStorage(config, name)] : [...config.storages.values()];
  const storages: NamedStore[] = [];
  const failures: RunListing['failures'][number][] = [];
  for (const storage of wanted) {
    try {
      storages.push({ name: storage.name, store: await run.open(storage, config) });
    } catch (error) {
      if (!(error instanceof PgarkError)) throw error;
      failures.push({ storage: storage.name, error });
    }
  }
  return { storages, failures };
}

function limitOf(given: string): number {
  const limit = /^\d{1,6}$/.test(given) ? Number(given) : 0;
  if (limit >= 1 && limit <= LIMIT_MAX) return limit;
  throw new PgarkError('usage', `--limit ${given} is no number of runs`, { hint: `write one from 1 to ${LIMIT_MAX}` });
}

export function runJson(run: RunSummary): Record<string, unknown> {
  return {
    id: run.id,
    kind: run.kind,
    source: run.source,
    database: run.database,
    state: run.state,
    started_at: run.startedAt,
    ended_at: run.endedAt,
    duration_ms: tookMs(run),
    host: run.host,
    pid: run.pid,
    storages: run.storages.map(({ storage, state, endedAt, result, error }) => ({
      storage,
      state,
      ended_at: endedAt,
      result: result && snakeCased(result),
      error: error && { code: error.code, message: error.message, hint: error.hint, exit_code: error.exit },
    })),
    pgark_version: run.pgarkVersion,
  };
}

/** `storedBytes` of a record is `stored_bytes` in JSON for scripts. */
function snakeCased(result: NonNullable<RunOutcomeIn['result']>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(result).map(([name, value]) => [
      name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`),
      value,
    ]),
  );
}

function tookMs({ startedAt, endedAt }: RunSummary): number | undefined {
  return endedAt === undefined ? undefined : Math.max(0, Date.parse(endedAt) - Date.parse(startedAt));
}

function describe({ runs, hasMore, damaged }: RunListing, several: boolean, world: CliWorld): string {
  const unreadable = damaged.map(({ key, error }) => `damaged: ${key}: ${error.message}\n`).join('');
  if (runs.length === 0) return `no runs\n${unreadable}`;
  const table = formatTable(
    [
      { title: 'RUN' },
      { title: 'WHAT' },
      { title: 'STARTED' },
      { title: 'TOOK', align: 'right' },
      { title: 'STATE' },
      { title: 'RESULT', yields: true },
    ],
    runs.map((run) => {
      const took = tookMs(run);
      return [
        run.id,
        what(run),
        formatTime(run.startedAt),
        took === undefined ? '' : formatDuration(took),
        run.state,
        run.storages.map((each) => `${several ? `${each.storage}: ` : ''}${outcome(each)}`).join(', '),
      ];
    }),
    world.terminal.tableColumns,
  );
  return `${table}${hasMore ? 'there are more: --limit, --since\n' : ''}${unreadable}`;
}

function what({ kind, source, database }: RunSummary): string {
  if (database === undefined) return source === undefined ? kind : `${kind} ${source}`;
  return `${kind} ${source === undefined || source === database ? database : `${source}/${database}`}`;
}

function outcome({ state, result, error }: RunOutcomeIn): string {
  if (error !== undefined) return error.code;
  const isSuspicious = result?.['suspicious'] !== undefined;
  if (typeof result?.['storedBytes'] === 'number') {
    return `${formatBytes(result['storedBytes'])}${isSuspicious ? ', suspicious' : ''}`;
  }
  if (typeof result?.['removed'] === 'number') return `${result['removed']} removed`;
  return state === 'succeeded' ? 'ok' : state;
}
