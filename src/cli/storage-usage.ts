import type { Command } from 'commander';
import { formatBytes } from '../common/bytes.ts';
import { type StorageUsage, storageUsage, type UsageRow } from '../operations/storage-usage.ts';
import { attempt, failureJson, failureOfStorages, failuresOf, type Try } from './attempt.ts';
import { action, chooseStorages, type CliWorld } from './command.ts';
import { reportError } from './errors.ts';
import { addExamples } from './help.ts';
import type { JsonLine } from './json.ts';
import { formatCount, formatTable, formatTime } from './table.ts';

interface Found {
  readonly location: string;
  readonly maxBytes: number | undefined;
  readonly usage: StorageUsage;
}

/** What the kinds mean that are no format's name. */
const MEANINGS: Partial<Record<UsageRow['kind'], string>> = {
  records: 'pgark’s own: manifests, runs and their logs, leases',
  unfinished: 'of runs that go on or died, and of deletions: the next prune sees to them',
  foreign: 'not pgark’s: never changed or deleted',
};

export function registerUsage(storage: Command, world: CliWorld): void {
  const command = storage
    .command('usage')
    .summary('show how much of what lies in a storage')
    .description(
      'Adds up what lies in a storage: objects and bytes by database and kind, what of it is not pgark’s, and uploads that were not finished. It lists everything once, reads no data and changes nothing. Earlier versions that a bucket keeps are in no list.',
    )
    .argument('[storages...]', 'storages of the configuration (default: all)');
  addExamples(command, [['pgark storage usage -o json', 'bytes as integers, for scripts']]);
  action(command, world, async (run, names) => {
    const config = await run.config(['storage']);
    const tries: Try<Found>[] = [];
    for (const each of chooseStorages(config, names)) {
      const look = async (): Promise<Found> => {
        const store = await run.open(each, config);
        return {
          location: store.location,
          maxBytes: each.maxSizeBytes,
          usage: await storageUsage(store, run.context(config)),
        };
      };
      tries.push(await attempt(each.name, run, look));
    }
    const failures = failuresOf(tries);
    if (failures.length < tries.length) {
      run.result(
        { storages: tries.map(tryJson) },
        () => tries.map((each) => describeTry(each, world)).join('\n'),
        () => tries.flatMap(tryLines),
      );
    }
    const failure = failureOfStorages(run, failures, tries.length);
    if (failure !== undefined) throw failure;
  });
}

function describeTry(each: Try<Found>, { terminal }: CliWorld): string {
  if ('error' in each) return `${each.storage}\nFAILED: ${each.error.message}\n`;
  const { location, maxBytes, usage } = each.value;
  const { rows, own, foreign, backups, unfinishedUploads, damaged } = usage;
  const table = formatTable(
    [
      { title: 'DATABASE' },
      { title: 'KIND' },
      { title: 'BACKUPS', align: 'right' },
      { title: 'OBJECTS', align: 'right' },
      { title: 'SIZE', align: 'right' },
      { title: 'OLDEST', yields: true },
      { title: 'NEWEST', yields: true },
    ],
    [
      ...rows.map((row) => [
        databaseOf(row),
        row.kind,
        row.backups === undefined ? '' : String(row.backups),
        String(row.objects),
        formatBytes(row.bytes),
        row.oldest === undefined ? '' : formatTime(row.oldest),
        row.newest === undefined ? '' : formatTime(row.newest),
      ]),
      ['total', '', String(backups), String(own.objects + foreign.objects), formatBytes(own.bytes + foreign.bytes)],
    ],
    terminal.tableColumns,
  );
  const remarks = [
    ...rows.flatMap(({ kind }) => (MEANINGS[kind] === undefined ? [] : [`${kind}: ${MEANINGS[kind]}`])),
    ...(maxBytes === undefined ? [] : [describeLimit(own.bytes, maxBytes)]),
    ...(unfinishedUploads === 0 ? [] : [describeUploads(unfinishedUploads)]),
    ...(damaged.length === 0
      ? []
      : [
          `${formatCount(damaged.length, 'manifest')} cannot be read: what only they name counts as foreign (pgark list)`,
        ]),
  ];
  return `${each.storage}  ${location}\n${table}${remarks.map((remark) => `${remark}\n`).join('')}`;
}

function databaseOf(row: UsageRow): string {
  if (!('source' in row)) return '';
  return 'database' in row && row.database !== row.source ? `${row.source}/${row.database}` : row.source;
}

function describeLimit(ownBytes: number, maxBytes: number): string {
  const ratio = `${Math.round((100 * ownBytes) / maxBytes)}% of max_size, ${formatBytes(maxBytes)}`;
  return `pgark’s own: ${formatBytes(ownBytes)}, ${ratio}${ownBytes > maxBytes ? ': more than it should be' : ''}`;
}

function describeUploads(count: number | undefined): string {
  return count === undefined
    ? 'unfinished uploads: unknown, this key may not list them'
    : `unfinished uploads: ${count}, whose bytes are in no list; pgark prune ends those of its own runs that died`;
}

function usageJson({
  location,
  maxBytes,
  usage,
}: Found): Record<string, unknown> & { rows: readonly Record<string, unknown>[] } {
  const { rows, own, foreign, backups, unfinishedUploads, damaged } = usage;
  return {
    location,
    rows: rows.map(({ oldest, newest, ...row }) => ({
      ...row,
      ...(oldest === undefined ? {} : { oldest: oldest.toISOString() }),
      ...(newest === undefined ? {} : { newest: newest.toISOString() }),
    })),
    own,
    max_bytes: maxBytes ?? null,
    foreign,
    backups,
    unfinished_uploads: unfinishedUploads ?? null,
    damaged,
  };
}

function tryJson(each: Try<Found>): Record<string, unknown> {
  const { storage } = each;
  return 'error' in each
    ? { storage, state: 'failed', error: reportError(each.error) }
    : { storage, state: 'ok', ...usageJson(each.value) };
}

/** A row is of its own kind; `summary` is what belongs to no row. */
function tryLines(each: Try<Found>): readonly JsonLine[] {
  const { storage } = each;
  if ('error' in each) return [{ kind: 'failure', ...failureJson(each) }];
  const { rows, ...summary } = usageJson(each.value);
  return [
    ...rows.map((row) => ({ kind: String(row['kind']), storage, ...row })),
    { kind: 'summary', storage, ...summary },
  ];
}
