import { type Command, Option } from 'commander';
import { PgarkError } from '../common/errors.ts';
import { parseDurationMs } from '../config/units.ts';
import type { RetentionPolicy } from '../retention/policy.ts';
import type { JobConfig } from '../config/model.ts';
import { type Job, planJobs } from '../service/jobs.ts';
import { concludeJobs } from './backup-report.ts';
import { action, chooseSources, chooseStorage, type CliWorld } from './command.ts';
import { addExamples } from './help.ts';
import { carryOut } from './carry-out.ts';
import { parallelOf } from './parallel.ts';

const FORMATS: readonly JobConfig['format'][] = ['plain', 'directory', 'physical'];

export function registerBackup(program: Command, world: CliWorld): void {
  const command = program
    .command('backup')
    .summary('back up databases')
    .description(
      'Dumps databases, compresses, encrypts and stores them as they come; no copy touches the local disk. Then deletes old backups as the retention says.',
    )
    .argument('[databases...]', 'sources or databases of the configuration (default: all)')
    .addOption(
      new Option(
        '--format <format>',
        'only jobs of this format; of databases that have none, their jobs in this format',
      ).choices(FORMATS),
    )
    .option(
      '--incremental',
      'with --format physical: store what changed since the last backup, or all where that cannot be (PostgreSQL 17 and newer)',
    )
    .option('--from <backup>', 'with --incremental: the id of the backup to store the changes since')
    .option('--jobs <number>', 'connections that dump at once, for format directory (default: one for each processor)')
    .option('--to <storage...>', 'storages to write to instead of the configured ones')
    .option('--keep <duration>', 'afterwards delete what is older (30d); at least 3 stay')
    .option('--no-prune', 'do not prune afterwards')
    .addOption(
      new Option('--verify-after <how>', 'full: read all back before the commit')
        .choices(['none', 'full'])
        .default('none'),
    )
    .option('--dry-run', 'make every check, then stop');
  addExamples(command, [
    ['pgark backup', 'all databases of the configuration, to their storages'],
    ['pgark backup shop --format directory --jobs 4', 'an archive for pg_restore, dumped in parallel'],
    ['pgark backup main --format physical', 'the files of the whole server, and the WAL that they need'],
    ['pgark backup main --format physical --incremental', 'what changed of them since the last one'],
    ['pgark backup shop --dry-run', 'would a backup of shop work? nothing is written'],
  ]);
  action(command, world, async (run, names, options) => {
    const config = await run.config(['database', 'storage']);
    const sources = chooseSources(config, names);
    const to = Array.isArray(options.to) ? options.to.map((name) => chooseStorage(config, String(name))) : undefined;
    const prunes = options.prune !== false;
    const keep = typeof options.keep === 'string' ? policyOf(options.keep) : undefined;
    const format = FORMATS.find((each) => each === options.format);
    const parallel = parallelOf(options.jobs);
    const incremental = options.incremental === true;
    const from = typeof options.from === 'string' ? options.from : undefined;
    checkIncremental({ incremental, from, format });
    const selection = {
      sources,
      prunes: prunes && keep === undefined,
      ...(to === undefined ? {} : { to }),
      ...(format === undefined ? {} : { format }),
      ...(parallel === undefined ? {} : { parallel }),
      ...(incremental ? { incremental } : {}),
    };
    const jobs = planJobs(config, selection, run.logger(config));
    const retentionOf = (job: Job): RetentionPolicy | undefined =>
      prunes ? (keep ?? job.settings.retention) : undefined;
    const readBack = options.verifyAfter === 'full';
    // One after the other: a command of a person shows what it does on one line.
    const reports = await carryOut(run, config, jobs, {
      concurrency: 1,
      retentionOf,
      readBack,
      dryRun: options.dryRun === true,
      from,
    });
    concludeJobs(run, reports);
  });
}

/** Error: `usage` for options that need another one. */
function checkIncremental(options: {
  readonly incremental: boolean;
  readonly from: string | undefined;
  readonly format: JobConfig['format'] | undefined;
}): void {
  if (options.incremental && options.format !== 'physical') {
    throw new PgarkError('usage', '--incremental needs --format physical', {
      hint: 'dumps of databases are always whole',
    });
  }
  if (options.from !== undefined && !options.incremental) {
    throw new PgarkError('usage', '--from needs --incremental', { hint: 'a full backup is relative to none' });
  }
}

function policyOf(keep: string): RetentionPolicy {
  const withinMs = parseDurationMs(keep);
  if (withinMs === undefined)
    throw new PgarkError('usage', `--keep ${keep} is no duration`, { hint: 'write 30d, 12h or 8w' });
  // Zero would look like "keep all" to one person and like "delete all" to another.
  if (withinMs === 0)
    throw new PgarkError('usage', `--keep ${keep} would keep nothing of what there is`, {
      hint: 'say how far back backups are kept (30d, 12h), or leave --keep out to keep all',
    });
  return { keep: { withinMs } };
}
