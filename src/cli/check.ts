import type { Command } from 'commander';
import { formatBytes, formatDuration } from '../common/bytes.ts';
import { asPgarkError, PgarkError } from '../common/errors.ts';
import type { Config } from '../config/model.ts';
import { healthVerdict, nagiosReport } from '../observability/health.ts';
import { type BackupProtection, isOverdue, type ProtectionState } from '../observability/protection-state.ts';
import { freshnessEvents } from '../service/freshness.ts';
import { Teller } from '../service/tell.ts';
import { action, type CliWorld, type CommandRun } from './command.ts';
import { endWith } from './exit-status.ts';
import { addExamples } from './help.ts';
import { lookAt } from './protection.ts';
import { formatTable, formatTime } from './table.ts';
import { tellWorld } from './telling.ts';

const UNKNOWN = 3;

export function registerCheck(program: Command, world: CliWorld): void {
  const command = program
    .command('check')
    .summary('say whether every backup is as fresh as it should be')
    .description(
      'Tries servers and storages, reads what lies in the storages, and compares it with the schedules and the ages allowed. Exits with 22 if a backup is overdue. Needs no daemon.',
    )
    .argument('[databases...]', 'sources or databases of the configuration (default: all)')
    .option('--nagios', 'print one line with performance data; exit with 0 OK, 1 WARNING, 2 CRITICAL or 3 UNKNOWN')
    .option('--notify', 'also tell the notifications what is overdue, and what is so no more, as the daemon does');
  addExamples(command, [
    ['pgark check', 'what is protected, and what is not?'],
    ['pgark check --notify', 'for cron, where no daemon runs: who is to know of it is told'],
    ['pgark check shop --nagios', 'for Nagios, Icinga, Checkmk and their like'],
  ]);
  action(command, world, async (run, names, options) => {
    const notify = options.notify === true;
    if (options.nagios === true) return checkForNagios(run, names, notify);
    const config = await run.config(['database', 'storage']);
    const { state, failures } = await lookAt(run, config, names);
    if (notify) await tellFreshness(run, config, state);
    const now = state.at;
    const { healthy, problems, notes, unknown } = healthVerdict(state, now);
    run.result(
      {
        healthy,
        problems: [...problems, ...unknown],
        notes,
        backups: state.backups.map((each) => backupJson(each, now)),
      },
      () => describe(state, now, [...problems, ...unknown], notes),
    );
    const overdue = state.backups.filter((backup) => isOverdue(backup, now)).length;
    if (overdue > 0) throw new PgarkError('overdue', `${overdue} of ${state.backups.length} backups are overdue`);
    const [failure] = failures;
    if (failure !== undefined) throw failure;
  });
}

/** Whatever goes wrong is an answer too: a plugin that dies says nothing. */
async function checkForNagios(run: CommandRun, names: readonly string[], notify: boolean): Promise<void> {
  let report: { readonly text: string; readonly exit: number };
  try {
    const config = await run.config(['database', 'storage']);
    const { state } = await lookAt(run, config, names);
    if (notify) await tellFreshness(run, config, state);
    report = nagiosReport(state, state.at);
  } catch (thrown) {
    const words = asPgarkError(thrown).message.replace(/\s+/g, ' ').replaceAll('|', '/');
    report = { text: `PGARK UNKNOWN - ${words}\n`, exit: UNKNOWN };
  }
  run.print(() => run.world.terminal.out(report.text));
  endWith(report.exit);
}

async function tellFreshness(run: CommandRun, config: Config, state: ProtectionState): Promise<void> {
  await new Teller(tellWorld(run, config)).tell(config, freshnessEvents(config, state));
}

function backupJson(backup: BackupProtection, now: Date): Record<string, unknown> {
  const { source, database, format, storage, lastSuccess, suspicion, lastAttempt, expectation, nextRunAt } = backup;
  return {
    source,
    database,
    format,
    storage,
    overdue: expectation.kind === 'expected' ? isOverdue(backup, now) : undefined,
    suspicious: suspicion === undefined ? null : { id: suspicion.id, message: suspicion.why },
    last_success:
      lastSuccess === undefined
        ? null
        : {
            id: lastSuccess.id,
            started_at: lastSuccess.startedAt.toISOString(),
            ended_at: lastSuccess.endedAt.toISOString(),
            stored_bytes: lastSuccess.storedBytes,
          },
    last_attempt:
      lastAttempt === undefined
        ? null
        : { at: lastAttempt.at.toISOString(), outcome: lastAttempt.outcome, error: lastAttempt.error },
    next_run_at: nextRunAt?.toISOString(),
    backups: backup.backupCount,
    stored_bytes: backup.storedBytes,
  };
}

function describe(state: ProtectionState, now: Date, problems: readonly string[], notes: readonly string[]): string {
  const rows = state.backups.map((backup) => {
    const { source, database, format, storage, lastSuccess, expectation } = backup;
    const age = lastSuccess && formatDuration(Math.max(0, now.getTime() - lastSuccess.startedAt.getTime()));
    return [
      source === database ? source : `${source}/${database}`,
      format,
      storage,
      lastSuccess === undefined ? 'none' : formatTime(lastSuccess.startedAt),
      age ?? '',
      lastSuccess === undefined ? '' : formatBytes(lastSuccess.storedBytes),
      expectation.kind === 'none' ? 'not scheduled' : isOverdue(backup, now) ? 'OVERDUE' : 'ok',
    ];
  });
  const table = formatTable(
    [
      { title: 'DATABASE' },
      { title: 'FORMAT', yields: true },
      { title: 'STORAGE' },
      { title: 'LAST BACKUP' },
      { title: 'AGE', align: 'right' },
      { title: 'STORED', align: 'right', yields: true },
      { title: 'STATE' },
    ],
    rows,
  );
  const lines = [...problems.map((problem) => `✖ ${problem}\n`), ...notes.map((note) => `! ${note}\n`)];
  return `${rows.length === 0 ? 'there is nothing that is to be backed up\n' : table}${lines.join('')}`;
}
