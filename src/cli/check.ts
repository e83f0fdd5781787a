import type { Command } from 'commander';
import { formatBytes, formatDuration } from '../common/bytes.ts';
import { asPgarkError, PgarkError } from '../common/errors.ts';
import type { Config } from '../config/model.ts';
import { healthVerdict, nagiosReport } from '../observability/health.ts';
import {
  type BackupProtection,
  isDisproved,
  isOverdue,
  type ProtectionState,
} from '../observability/protection-state.ts';
import { judgeWal, type WalProtection } from '../observability/wal-protection.ts';
import { freshnessEvents } from '../service/freshness.ts';
import { Teller } from '../service/tell.ts';
import { walEvents } from '../service/wal-events.ts';
import { action, type CliWorld, type CommandRun } from './command.ts';
import { endWith } from './exit-status.ts';
import { addExamples } from './help.ts';
import { jsonLines } from './json.ts';
import { lookAt } from './protection.ts';
import { formatTable, formatTime } from './table.ts';
import { tellWorld } from './telling.ts';

const UNKNOWN = 3;

export function registerCheck(program: Command, world: CliWorld): void {
  const command = program
    .command('check')
    .summary('say whether every backup is as fresh as it should be, and WAL archived')
    .description(
      'Tries servers and storages, reads what lies in the storages, and compares it with the schedules and the ages allowed; of newest backups, whether a verification or a drill has found them damaged; of WAL that is to be archived, how far it is. Exits with 20 if a newest backup is known to be damaged, else with 22 if a backup or WAL is overdue. Needs no daemon.',
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
    if (notify) await tell(run, config, state);
    const now = state.at;
    const { healthy, problems, notes, unknown } = healthVerdict(state, now);
    const backups = state.backups.map((each) => backupJson(each, now));
    const walOf = state.wal.map((each) => walJson(each, now));
    const said = (kind: string, messages: readonly string[]) =>
      jsonLines(
        kind,
        messages.map((message) => ({ message })),
      );
    run.result(
      { healthy, problems: [...problems, ...unknown], notes, backups, wal: walOf },
      () => describe(state, now, [...problems, ...unknown], notes),
      () => [
        ...jsonLines('backup', backups),
        ...jsonLines('wal', walOf),
        ...said('problem', [...problems, ...unknown]),
        ...said('note', notes),
        { kind: 'summary', healthy },
      ],
    );
    const disproved = state.backups.filter(isDisproved).length;
    if (disproved > 0)
      throw new PgarkError(
        'proof-failed',
        `${disproved} of ${state.backups.length} newest backups are known to be damaged or not to restore`,
      );
    const overdue = state.backups.filter((backup) => isOverdue(backup, now)).length;
    if (overdue > 0) throw new PgarkError('overdue', `${overdue} of ${state.backups.length} backups are overdue`);
    const late = state.wal.filter((wal) => judgeWal(wal, now).problems.length > 0).length;
    if (late > 0)
      throw new PgarkError(
        'wal-lag',
        `the WAL of ${late} of ${state.wal.length} sources is not archived as it should be`,
      );
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
    if (notify) await tell(run, config, state);
    report = nagiosReport(state, state.at);
  } catch (thrown) {
    const words = asPgarkError(thrown).message.replace(/\s+/g, ' ').replaceAll('|', '/');
    report = { text: `PGARK UNKNOWN - ${words}\n`, exit: UNKNOWN };
  }
  run.print(() => run.world.terminal.out(report.text));
  endWith(report.exit);
}

async function tell(run: CommandRun, config: Config, state: ProtectionState): Promise<void> {
  await new Teller(tellWorld(run, config)).tell(config, [
    ...freshnessEvents(config, state),
    ...walEvents(state.wal, state.at),
  ]);
}

function backupJson(backup: BackupProtection, now: Date): Record<string, unknown> {
  const { source, database, format, storage, lastSuccess, suspicion, disproof, lastAttempt, expectation, nextRunAt } =
    backup;
  return {
    source,
    database,
    format,
    storage,
    overdue: expectation.kind === 'expected' ? isOverdue(backup, now) : undefined,
    suspicious: suspicion === undefined ? null : { id: suspicion.id, message: suspicion.why },
    failed_proof:
      disproof === undefined ? null : { id: disproof.id, kind: disproof.kind, at: disproof.at.toISOString() },
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

/** The storages that are late; undefined among them: all are. */
function lagging(wal: WalProtection, now: Date): ReadonlySet<string | undefined> {
  const late = judgeWal(wal, now).problems.filter(({ kind }) => kind === 'lag');
  return new Set(late.map(({ storage }) => storage));
}

function walJson(wal: WalProtection, now: Date): Record<string, unknown> {
  const { source, latest, storages } = wal;
  return {
    source,
    overdue: judgeWal(wal, now).problems.length > 0,
    covered_until: latest?.toISOString(),
    lag_seconds: seconds(wal.lagMs),
    storages: storages.map(({ storage, lagMs, isGuess }) => ({
      storage,
      lag_seconds: seconds(lagMs),
      noted_by_receiver: isGuess !== true && lagMs !== undefined,
    })),
  };
}

function seconds(ms: number | undefined): number | undefined {
  return ms === undefined ? undefined : Math.round(ms / 1_000);
}

/** What is known to be damaged is not ok, however fresh or unexpected it is. */
function stateOf(backup: BackupProtection, now: Date): string {
  const { expectation, disproof } = backup;
  const worst = [
    ...(disproof === undefined ? [] : [disproof.kind === 'verify' ? 'DAMAGED' : 'DRILL FAILED']),
    ...(isOverdue(backup, now) ? ['OVERDUE'] : []),
  ];
  if (worst.length > 0) return worst.join(', ');
  return expectation.kind === 'none' ? 'not scheduled' : 'ok';
}

function describe(state: ProtectionState, now: Date, problems: readonly string[], notes: readonly string[]): string {
  const backups = state.backups.map((backup) => {
    const { source, database, format, storage, lastSuccess } = backup;
    const age = lastSuccess && formatDuration(Math.max(0, now.getTime() - lastSuccess.startedAt.getTime()));
    return [
      source === database ? source : `${source}/${database}`,
      format,
      storage,
      lastSuccess === undefined ? 'none' : formatTime(lastSuccess.startedAt),
      age ?? '',
      lastSuccess === undefined ? '' : formatBytes(lastSuccess.storedBytes),
      stateOf(backup, now),
    ];
  });
  const archived = state.wal.flatMap((wal) => {
    const late = lagging(wal, now);
    return wal.storages.map(({ storage, lagMs, isGuess }) => [
      wal.source,
      'WAL',
      storage,
      lagMs === undefined ? 'none' : formatTime(new Date(now.getTime() - lagMs)),
      lagMs === undefined ? '' : formatDuration(lagMs),
      '',
      late.has(undefined) || late.has(storage) ? 'OVERDUE' : isGuess === true ? 'not known' : 'ok',
    ]);
  });
  const rows = [...backups, ...archived];
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
