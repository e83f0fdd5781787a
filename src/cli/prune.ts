import type { Command } from 'commander';
import { formatBytes } from '../common/bytes.ts';
import { describeServer } from '../operations/other-server.ts';
import { prune, type PruneOutcome } from '../operations/prune.ts';
import { describeDatabase, describeOverHalf, PruneRefused } from '../operations/prune-refusal.ts';
import type { BackupKind } from '../repository/ids.ts';
import { Teller } from '../service/tell.ts';
import { walPolicyFor } from '../service/wal.ts';
import { action, chooseStorage, type CliWorld } from './command.ts';
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
      'Deletes backups by the configured retention, and the WAL that no base backup needs any more nor the recovery window of wal.keep. The newest and the minimum always stay, and what other tools wrote is never touched. What would delete more than half of a database’s backups needs --force; other databases are pruned all the same.',
    )
    .option('--dry-run', 'show the plan, delete nothing')
    .option('--force', 'delete also where more than half of a database’s backups would go')
    .option('--storage <name>', 'only this storage (default: all)');
  addExamples(command, [['pgark prune --dry-run', 'what would be deleted, and why']]);
  action(command, world, async (run, _args, options) => {
    const config = await run.config(['database', 'storage']);
    const storages =
      typeof options.storage === 'string' ? [chooseStorage(config, options.storage)] : [...config.storages.values()];
    const dryRun = options.dryRun === true;
    const outcomes: { readonly storage: string; readonly outcome: PruneOutcome }[] = [];
    const refusals: PruneRefused[] = [];
    const teller = new Teller(tellWorld(run, config));
    for (const storage of storages) {
      const request = {
        store: await run.open(storage, config),
        filter: {},
        policyOf: (source: string, database: string, kind: BackupKind) =>
          policyFor(config, storage.name, source, database, kind),
        walPolicyOf: (source: string) => walPolicyFor(config, storage.name, source),
        timezone: config.timezone,
        leaseTermMs: config.leaseTermMs,
        dryRun,
        force: options.force === true,
      };
      const outcome = await prune(request, run.context(config)).catch((error: unknown) => {
        if (!(error instanceof PruneRefused)) throw error;
        refusals.push(error);
        return error.outcome;
      });
      if (!dryRun) await teller.prunes(config, pruneReports(config, storage.name, outcome));
      outcomes.push({ storage: storage.name, outcome });
    }
    const [refusal] = refusals;
    // An error alone says it all where nothing else was done.
    if (refusal !== undefined && outcomes.every(({ outcome }) => hasDoneNothing(outcome))) throw refusal;
    const json = outcomes.map(outcomeJson);
    run.result(
      { dry_run: dryRun, storages: json },
      () =>
        outcomes
          .map(({ storage, outcome }) => describe(outcome, dryRun, outcomes.length > 1 ? `${storage}: ` : ''))
          .join('\n'),
      () => jsonLines('storage', json, { dry_run: dryRun }),
    );
    if (refusal !== undefined) throw refusal;
  });
}

function hasDoneNothing({ removed, globals, wal }: PruneOutcome): boolean {
  return removed.length === 0 && globals.length === 0 && !wal.some(hasGone);
}

function outcomeJson({
  storage,
  outcome,
}: {
  readonly storage: string;
  readonly outcome: PruneOutcome;
}): Record<string, unknown> {
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
    globals: outcome.globals.map(({ id }) => id),
    wal: outcome.wal.map(walPruneJson),
  };
}

function describe(outcome: PruneOutcome, dryRun: boolean, prefix: string): string {
  const { plan, planned, removed, removedBytes, refused, globals } = outcome;
  const verb = dryRun ? 'would delete' : 'deleted';
  const alsoGlobals =
    globals.length === 0 ? '' : `${prefix}${verb} the globals that none of them needs: ${globals.length}\n`;
  const held = (dryRun ? [] : refused)
    .map(
      (each) => `${prefix}deleted nothing of ${describeDatabase(each)}: ${describeOverHalf([each])} would have gone\n`,
    )
    .join('');
  const wal = outcome.wal.map((each) => describeWalPrune(each, dryRun, prefix)).join('');
  const rest = `${held}${describePinned(plan)}${describeOtherServers(outcome)}${alsoGlobals}${wal}`;
  const gone = dryRun ? planned : removed;
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
  const plannedBytes = planned.reduce((sum, manifest) => sum + sizesOf(manifest).storedBytes, 0);
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
