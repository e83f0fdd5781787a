import type { Command } from 'commander';
import { planJobs } from '../service/jobs.ts';
import { concludeJobs } from './backup-report.ts';
import { carryOut } from './carry-out.ts';
import { action, type CliWorld } from './command.ts';
import { addExamples } from './help.ts';
import { proveAll } from './prove.ts';

export function registerOnce(program: Command, world: CliWorld): void {
  const command = program
    .command('once')
    .summary('run every job one time, for schedulers of your own')
    .description(
      'Runs every job of the configuration one time, whatever its schedule, several at once as the configuration says, and ends. One that fails stops no other.',
    );
  command.option('--prove', 'then carry out every verification and drill that is configured, too');
  addExamples(command, [['pgark once -c pgark.yaml', 'as a line of cron, or a CronJob of Kubernetes']]);
  action(command, world, async (run, _args, options) => {
    const config = await run.config(['database', 'storage']);
    const sources = [...config.databases.values()];
    const jobs = planJobs(config, { sources, prunes: true }, run.logger(config));
    const reports = await carryOut(run, config, jobs, {
      concurrency: config.concurrency,
      retentionOf: (job) => job.settings.retention,
      readBack: false,
      dryRun: false,
    });
    const failure = options.prove === true ? await proveAll(run, config) : undefined;
    concludeJobs(run, reports, failure);
  });
}
