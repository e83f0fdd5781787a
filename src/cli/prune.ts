import type { Command } from 'commander';
import { formatBytes } from '../common/bytes.ts';
import type { Config, StorageConfig } from '../config/model.ts';
import { describeServer } from '../operations/other-server.ts';
import { prune, type PruneOutcome, type PruneRequest } from '../operations/prune.ts';
import { describeDatabase, describeOverHalf, PruneRefused } from '../operations/prune-refusal.ts';
import { Teller } from '../service/tell.ts';
import { walPolicyFor } from '../service/wal.ts';
import { isOfDamage } from '../service/gravest.ts';
import { attempt, type Done, doneOf, failureJson, failureOfStorages, failuresOf, type Try } from './attempt.ts';
import { action, chooseStorage, type CliWorld, type CommandRun } from './command.ts';
import { pruneReports } from './prune-reports.ts';
import { policyFor } from './retention.ts';
import { addExamples } from './help.ts';
import { jsonLines } from './json.ts';
import { describeWalPrune, hasGone, walPruneJson } from './prune-wal.ts';
import { formatCount, formatTable, formatTime } from './table.ts';
import { tellWorld } from './telling.ts';
import { sizesOf } from '../repository/manifest.ts';

export function registerPrune(program: Command, world: CliWorld): void {
  const command = program
    .command('prune')
    .summary('delete backups that retention lets go')
    .description(
      'Deletes backups by the configured retention, and the WAL that no base backup needs any more nor the recovery window of wal.keep. The newest and the minimum always stay, and what other tools wrote is never touched. What would delete more than half of a database’s backups needs --force; other databases are pruned all the same. Of several storages each is pruned by itself; one that cannot be is told of, and the exit status is 4 then.',
    )
    .option('--dry-run', 'show the plan, and what of it is in use; delete nothing')
    .option('--force', 'delete also where more than half of a database’s backups would go')
    .option('--storage <name>', 'only this storage (default: all)');
  addExamples(command, [['pgark prune --dry-run', 'what would be deleted, and why']]);
  action(command, world, async (run, _args, options) => {
    const config = await run.config(['database', 'storage']);
    const storages =
      typeof options.storage === 'string' ? [chooseStorage(config, options.storage)] : [...config.storages.values()];
    const dryRun = options.dryRun === true;
    const limits = { dryRun, force: options.force === true };
    const teller = new Teller(tellWorld(run, config));
    const tries: Try<Pruned>[] = [];
    for (const storage of storages) {
      const pruned = await attempt(storage.name, run, () => pruneIn(storage, limits, run, config));
      tries.push(pruned);
      if (dryRun || 'error' in pruned) continue;
      await teller.prunes(config, pruneReports(config, storage.name, pruned.value.outcome));
    }
    const failures = failuresOf(tries);
    const done = doneOf(tries);
    const refusals = done.flatMap(({ storage, value: { refusal } }) =>
      refusal === undefined ? [] : [{ storage, error: refusal }],
    );
    const [refusal] = refusals;
    // An error alone says it all where nothing else was done.
    const isAllSaid = failures.length === 0 && done.every(({ value: { outcome } }) => hasDoneNothing(outcome));
    if (refusal !== undefined && isAllSaid) throw refusal.error;
    if (failures.length === 0 || done.length > 0) {
      const json = { storages: done.map(prunedJson), failures: failures.map(failureJson) };
      run.result(
        { dry_run: dryRun, ...json },
        () => tries.map((each) => describeTry(each, dryRun, storages.length > 1)).join('\n'),
        () => [...jsonLines('storage', json.storages, { dry_run: dryRun }), ...jsonLines('failure', json.failures)],
      );
    }
    const failure = failureOfStorages(run, failures, storages.length);
    // What a refusal asks for is not to be missed either.
    if (refusal !== undefined && (failure === undefined || !isOfDamage(failure))) throw refusal.error;
    for (const { storage, error } of refusals) run.failure(`storage ${storage}`, error);
    if (failure !== undefined) throw failure;
  });
}

/** What was done in a storage, and what was refused. */
interface Pruned {
  readonly outcome: PruneOutcome;
  readonly refusal: PruneRefused | undefined;
}

/** By what lies in this storage alone: nothing goes or stays there for what another one holds, or does not answer. */
async function pruneIn(
  storage: StorageConfig,
  limits: Pick<PruneRequest, 'dryRun' | 'force'>,
  run: CommandRun,
  config: Config,
): Promise<Pruned> {
  const request: PruneRequest = {
    store: await run.open(storage, config),
    filter: {},
    policyOf: (source, database, kind) => policyFor(config, storage.name, source, database, kind),
    walPolicyOf: (source) => walPolicyFor(config, storage.name, source),
    timezone: config.timezone,
    leaseTermMs: config.leaseTermMs,
    ...limits,
  };
  try {
    return { outcome: await prune(request, run.context(config)), refusal: undefined };
  } catch (error) {
    if (error instanceof PruneRefused) return { outcome: error.outcome, refusal: error };
    throw error;
  }
}

function hasDoneNothing({ removed, globals, wal }: PruneOutcome): boolean {
  return removed.length === 0 && globals.length === 0 && !wal.some(hasGone);
}

/** `remove` is the plan, of which `in_use` and `refused` stay; it is the same in a dry run and in what follows. */
function prunedJson({ storage, value: { outcome } }: Done<Pruned>) {
  return {
    storage,
    keep: outcome.plan.keep,
    remove: outcome.plan.remove,
    refused: outcome.refused.map(({ source, database, removeCount, totalCount }) => ({
      source,
      database,
      remove: removeCount,
      of: totalCount,
    })),
    removed: outcome.removed.map((manifest) => manifest.id),
    removed_bytes: outcome.removedBytes,
    in_use: outcome.inUse.map(({ manifest, read, reader }) => ({ id: manifest.id, read, reader })),
    globals: outcome.globals.map(({ id }) => id),
    wal: outcome.wal.map(walPruneJson),
  };
}

function describeTry(each: Try<Pruned>, dryRun: boolean, several: boolean): string {
  const prefix = several ? `${each.storage}: ` : '';
  return 'error' in each ? `${prefix}FAILED: ${each.error.message}\n` : describe(each.value.outcome, dryRun, prefix);
}

function describe(outcome: PruneOutcome, dryRun: boolean, prefix: string): string {
  const { plan, planned, removed, removedBytes, refused, globals, inUse } = outcome;
  const verb = dryRun ? 'would delete' : 'deleted';
  const alsoGlobals =
    globals.length === 0 ? '' : `${prefix}${verb} the globals that none of them needs: ${globals.length}\n`;
  const held = (dryRun ? [] : refused)
    .map(
      (each) => `${prefix}deleted nothing of ${describeDatabase(each)}: ${describeOverHalf([each])} would have gone\n`,
    )
    .join('');
  const wal = outcome.wal.map((each) => describeWalPrune(each, dryRun, prefix)).join('');
  const rest = `${held}${describeInUse(outcome, dryRun)}${describePinned(plan)}${describeOtherServers(outcome)}${alsoGlobals}${wal}`;
  const stays = new Set(inUse.map(({ manifest }) => manifest.id));
  const going = planned.filter(({ id }) => !stays.has(id));
  const gone = dryRun ? going : removed;
  const keptCount = plan.keep.length + plan.remove.length - gone.length;
  if (gone.length === 0) {
    const nothing = refused.length > 0 ? 'deleted nothing' : 'nothing to delete';
    return `${prefix}${nothing}, ${formatCount(keptCount, 'backup')} kept\n${rest}`;
  }
  const rows = gone.map((manifest) => [
    manifest.id,
    manifest.database.name,
    formatTime(manifest.startedAt),
    formatBytes(sizesOf(manifest).storedBytes),
    plan.remove.find((each) => each.id === manifest.id)?.reason ?? '',
  ]);
  const plannedBytes = going.reduce((sum, manifest) => sum + sizesOf(manifest).storedBytes, 0);
  const bytes = dryRun ? plannedBytes : removedBytes;
  return (
    formatTable(
      [
        { title: 'ID' },
        { title: 'DATABASE' },
        { title: 'TAKEN' },
        { title: 'STORED', align: 'right' },
        { title: 'REASON' },
      ],
      rows,
    ) + `${prefix}${verb} ${formatCount(gone.length, 'backup')}, ${formatBytes(bytes)}; ${keptCount} kept\n${rest}`
  );
}

/** Who reads now may have ended before a prune comes. */
function describeInUse({ inUse }: PruneOutcome, dryRun: boolean): string {
  const readers = Map.groupBy(inUse, ({ read, reader }) => JSON.stringify([read, reader]));
  return [...readers.values()]
    .map((backups) => {
      const ids = backups.map(({ manifest }) => manifest.id).join(', ');
      const [{ read, reader }] = backups as [(typeof backups)[number]];
      const verb = dryRun ? 'would stay as long as' : 'stay until the next prune:';
      return `of these, ${formatCount(backups.length, 'backup')} that retention lets go ${verb} ${read} is read, by ${reader}: ${ids}\n`;
    })
    .join('');
}

function describePinned({ keep }: PruneOutcome['plan']): string {
  const pinned = keep.filter(({ reasons }) => reasons.includes('pinned')).map(({ id }) => id);
  if (pinned.length === 0) return '';
  return `of these, ${formatCount(pinned.length, 'backup')} kept by a pin: ${pinned.join(', ')}; pgark show says why, pgark unpin lets go\n`;
}

/** A server that is gone for good leaves its last backups behind; only people know that it is. */
function describeOtherServers({ ofOtherServers }: PruneOutcome): string {
  const series = Map.groupBy(ofOtherServers, ({ source, database, server }) =>
    JSON.stringify([source, database.name, server.systemIdentifier]),
  );
  return [...series.values()]
    .flatMap((manifests) => {
      const newest = manifests.at(-1);
      if (newest === undefined) return [];
      const { database, server } = newest;
      return `of these, ${formatCount(manifests.length, 'backup')} of ${database.name} as the last of another server, ${describeServer(server)}; a server's last backups are never deleted\n`;
    })
    .join('');
}
