import type { Command } from 'commander';
import { formatBytes, formatDuration } from '../common/bytes.ts';
import { PgarkError } from '../common/errors.ts';
import { shellWord } from '../common/shell-word.ts';
import type { Config, SourceConfig, StorageConfig } from '../config/model.ts';
import { list, type Listing } from '../operations/list.ts';
import type { Proofs } from '../operations/proofs.ts';
import { parseManifestKey } from '../repository/keys.ts';
import { type BackupFilter, dataFolderOf } from '../repository/repository.ts';
import { action, chooseStorage, type CliWorld, findSource } from './command.ts';
import { attempt, doneOf, failureJson, failureOfStorages, failuresOf, type Try } from './attempt.ts';
import { globalsJson, type JsonLine, jsonLines, manifestJson, proofsJson } from './json.ts';
import { addExamples } from './help.ts';
import { formatCount, formatTable, formatTime } from './table.ts';
import { sizesOf } from '../repository/manifest.ts';

interface StorageListing {
  readonly storage: StorageConfig;
  readonly location: string;
  readonly listing: Listing;
}

export function registerList(program: Command, world: CliWorld): void {
  const command = program
    .command('list')
    .summary('list backups')
    .description(
      'Lists the backups in the storage, oldest first, and dumps of other tools that can be restored. Of several storages one that cannot be read is told of on stderr, and the exit status is 4 then.',
    )
    .argument('[database]', 'only backups of this source or database')
    .option('--storage <name>', 'only this storage (default: all)');
  addExamples(command, [['pgark list -o json', 'everything that is known of each, for scripts']]);
  action(command, world, async (run, [name], options) => {
    const config = await run.config(['storage']);
    const storages =
      typeof options.storage === 'string' ? [chooseStorage(config, options.storage)] : [...config.storages.values()];
    const filter = filterFor(config, name);
    const tries: Try<StorageListing>[] = [];
    for (const storage of storages) {
      const look = async (): Promise<StorageListing> => {
        const store = await run.open(storage, config);
        return { storage, location: store.location, listing: await list({ store, filter }, run.context(config)) };
      };
      tries.push(await attempt(storage.name, run, look));
    }
    const failures = failuresOf(tries);
    const listings = doneOf(tries).map(({ value }) => value);
    if (
      name !== undefined &&
      failures.length === 0 &&
      findSource(config, name) === undefined &&
      listings.every(({ listing }) => listing.backups.length === 0)
    ) {
      throw new PgarkError('backup-not-found', `there is no backup of ${name}`, {
        hint: 'pgark list without a name shows all',
      });
    }
    if (failures.length === 0 || listings.length > 0) {
      const failuresJson = failures.map(failureJson);
      run.result(
        { storages: listings.map(listingJson), failures: failuresJson },
        () => listings.map((each) => describe(each, { several: storages.length > 1, name, world, config })).join('\n'),
        () => [...listings.flatMap(listingLines), ...jsonLines('failure', failuresJson)],
      );
    }
    const failure = failureOfStorages(run, failures, storages.length);
    if (failure !== undefined) throw failure;
  });
}

/** A name means a configured source, or a database as it stands in the manifests. */
export function filterFor(config: Config, name: string | undefined): BackupFilter {
  if (name === undefined) return {};
  const source = findSource(config, name);
  return source === undefined ? { database: name } : filterOfSource(source);
}

/** All backups of a source that has patterns, else those of its database. */
export function filterOfSource({ name, databases, connection }: SourceConfig): BackupFilter {
  return databases === undefined ? { source: name, database: connection.database } : { source: name };
}

function listingJson({ storage, location, listing }: StorageListing) {
  const object = ({ key, bytes, modified }: Listing['unfinished'][number]): Record<string, unknown> => ({
    key,
    stored_bytes: bytes,
    modified_at: modified.toISOString(),
  });
  return {
    storage: storage.name,
    location,
    backups: listing.backups.map(({ manifest, pinned, isSuspicious, proofs }) => ({
      ...manifestJson(manifest),
      pinned,
      suspicious: isSuspicious,
      proofs: proofsJson(proofs),
    })),
    globals: listing.globals.map(globalsJson),
    foreign: listing.foreign.map((dump) => ({
      ...object(dump),
      database: dump.database,
      taken_at: dump.takenAt?.toISOString(),
    })),
    unfinished: listing.unfinished.map(object),
    damaged: listing.damaged.map(({ key, error }) => ({
      key,
      error: error.message,
      objects: listing.ofDamaged.filter(({ manifest }) => manifest === key).map(object),
    })),
  };
}

function listingLines(each: StorageListing): readonly JsonLine[] {
  const { storage, location, backups, globals, foreign, unfinished, damaged } = listingJson(each);
  return [
    { kind: 'storage', storage, location },
    ...jsonLines('backup', backups, { storage }),
    ...jsonLines('globals', globals, { storage }),
    ...jsonLines('foreign', foreign, { storage }),
    ...jsonLines('unfinished', unfinished, { storage }),
    ...jsonLines('damaged', damaged, { storage }),
  ];
}

interface View {
  readonly several: boolean;
  readonly name: string | undefined;
  readonly world: CliWorld;
  readonly config: Config;
}

function describe({ storage, location, listing }: StorageListing, view: View): string {
  const head = view.several ? `${storage.name}: ${location}\n` : '';
  return (
    head +
    [
      describeBackups(listing, location, view),
      describeGlobals(listing),
      describeForeign(listing),
      describeTroubles(listing, view),
    ]
      .filter((part) => part !== '')
      .join('\n')
  );
}

function describeBackups({ backups, foreign }: Listing, location: string, { name, world }: View): string {
  if (backups.length === 0) {
    const of = name === undefined ? '' : ` of ${name}`;
    return `no backups${of} in ${location} yet\n${foreign.length === 0 ? 'make the first one: pgark backup\n' : ''}`;
  }
  const severalServers = shareNames(backups);
  const severalFormats = backups.some(({ manifest }) => manifest.format !== 'plain');
  const hasProofs = backups.some(({ proofs }) => proofs.verify !== undefined || proofs.drill !== undefined);
  const hasChains = backups.some(({ manifest }) => manifest.parents.length > 0);
  return formatTable(
    [
      { title: 'ID' },
      { title: 'DATABASE' },
      ...(severalServers ? [{ title: 'SERVER' }, { title: 'SYSTEM' }] : []),
      { title: 'TAKEN' },
      ...(severalFormats ? [{ title: 'FORMAT' }] : []),
      ...(hasChains ? [{ title: 'CHANGES SINCE' }] : []),
      { title: 'STORED', align: 'right' },
      { title: 'SQL', align: 'right' },
      ...(hasProofs ? [{ title: 'PROVEN' }] : []),
      { title: 'TOOK', align: 'right', yields: true },
      { title: 'FILE', yields: true },
    ],
    backups.map(({ manifest, pinned, isSuspicious, proofs }) => [
      manifest.id,
      manifest.source === manifest.database.name ? manifest.source : `${manifest.source}/${manifest.database.name}`,
      ...(severalServers
        ? [`${manifest.server.host}:${manifest.server.port}`, manifest.server.systemIdentifier ?? 'unknown']
        : []),
      `${formatTime(manifest.startedAt)}${pinned ? ' (pinned)' : ''}${isSuspicious ? ' (suspicious)' : ''}`,
      ...(severalFormats ? [manifest.format] : []),
      ...(hasChains ? [manifest.parents[0] ?? ''] : []),
      formatBytes(sizesOf(manifest).storedBytes),
      formatBytes(sizesOf(manifest).plainBytes),
      ...(hasProofs ? [describeProofs(proofs)] : []),
      formatDuration(Date.parse(manifest.endedAt) - Date.parse(manifest.startedAt)),
      dataFolderOf(manifest) ?? manifest.objects[0]?.key ?? '',
    ]),
    world.terminal.tableColumns,
  );
}

/** What counts most: that it failed last, that it was restored, that it was read. */
function describeProofs({ verify, drill }: Proofs): string {
  const known = [verify, drill].flatMap((proof) => proof ?? []);
  const day = (at: Date): string => at.toISOString().slice(0, 10);
  const failed = known.find(({ passed }) => passed === false);
  if (failed !== undefined) return `${failed.kind} FAILED ${day(failed.at)}`;
  const unknown = known.find(({ passed }) => passed === 'unknown');
  if (unknown !== undefined) return `${unknown.kind} of ${day(unknown.at)}: unreadable`;
  if (drill !== undefined) return `drilled ${day(drill.at)}`;
  return verify?.passed === true ? `verified ${day(verify.at)}` : '';
}

/** One line for each source: there are as many as there were runs, and the newest is what matters. */
function describeGlobals({ globals }: Listing): string {
  return [...Map.groupBy(globals, ({ source }) => source)]
    .map(([source, records]) => {
      const newest = records.at(-1);
      const without = newest?.leftOut.passwords === true ? ', without passwords' : '';
      return `roles and settings of ${source}: ${newest?.object.key ?? ''} (newest of ${records.length}${without})\n`;
    })
    .join('');
}

/** Whether backups of several servers bear the name of one database, so that it does not tell them apart. */
function shareNames(backups: Listing['backups']): boolean {
  const manifests = backups.map(({ manifest }) => manifest);
  const series = Map.groupBy(manifests, ({ source, database }) => JSON.stringify([source, database.name]));
  return [...series.values()].some((each) => new Set(each.map(({ server }) => server.systemIdentifier)).size > 1);
}

function describeForeign({ foreign }: Listing): string {
  if (foreign.length === 0) return '';
  return `dumps of other tools (never deleted; pgark restore FILE, or latest --foreign, restores them):\n${formatTable(
    [{ title: 'FILE' }, { title: 'DATABASE' }, { title: 'TAKEN' }, { title: 'STORED', align: 'right' }],
    foreign.map(({ key, database, takenAt, modified, bytes }) => [
      key,
      database ?? '?',
      formatTime(takenAt ?? modified),
      formatBytes(bytes),
    ]),
  )}`;
}

function describeTroubles({ unfinished, damaged, ofDamaged }: Listing, { config }: View): string {
  return [
    ...unfinished.map(({ key, bytes }) => `unfinished: ${key} (${formatBytes(bytes)}), its run goes on or has died\n`),
    ...damaged.flatMap(({ key, error }) => [
      `damaged: ${key}: ${error.message}\n`,
      ...describeLostData(
        key,
        ofDamaged.filter(({ manifest }) => manifest === key),
        config,
      ),
    ]),
  ].join('');
}

/** A plain backup is one file, which can be restored as it is; the files of another one mean something as a folder only. */
function describeLostData(manifest: string, objects: Listing['ofDamaged'], config: Config): readonly string[] {
  const { id = '', source = '' } = parseManifestKey(manifest) ?? {};
  const inside = `/${id}/`;
  const folders = Map.groupBy(objects, ({ key }) =>
    key.includes(inside) ? key.slice(0, key.indexOf(inside) + inside.length) : undefined,
  );
  const named = config.databases.has(source) ? shellWord(source) : 'DATABASE';
  const database = config.databases.size > 1 ? `${named} ` : '';
  return [...folders].flatMap(([folder, files]) => {
    if (folder === undefined) {
      return files.map(
        ({ key, bytes }) =>
          `  its data: ${key} (${formatBytes(bytes)}); pgark restore ${database}${shellWord(key)} takes it as it is\n`,
      );
    }
    const size = formatBytes(files.reduce((sum, { bytes }) => sum + bytes, 0));
    const tools = folder.endsWith(`/archive${inside}`) ? 'pg_restore loads the folder' : 'it is restored by hand';
    return `  its data: ${folder} (${formatCount(files.length, 'file')}, ${size}); ${tools}: “A backup is damaged” in docs/operations/runbook.md\n`;
  });
}
