import type { Command } from 'commander';
import { createLogger } from '../common/log-writer.ts';
import type { Logger } from '../common/log.ts';
import type { Config } from '../config/model.ts';
import { operationContext } from '../operations/context.ts';
import { runDaemon } from '../service/daemon.ts';
import { action, type CliWorld, type CommandRun } from './command.ts';
import { fetchProgramOf } from './fetch-program.ts';
import { addExamples } from './help.ts';

export function registerDaemon(program: Command, world: CliWorld): void {
  const command = program
    .command('daemon')
    .summary('run jobs by their schedules, as a service')
    .description(
      'Runs jobs by their schedules until it gets SIGTERM or SIGINT, then lets what runs end and exits with 0; a second signal ends it at once. SIGHUP reads the configuration again. Serves health and metrics over HTTP.',
    );
  addExamples(command, [['pgark daemon -c pgark.yaml', 'in a container, or as a service of systemd']]);
  action(command, world, async (run) => {
    await runDaemon({
      readConfig: () => run.readConfig(['database', 'storage']),
      adapters: world.adapters,
      environment: world.environment,
      fetchFrom: ({ name }) => fetchProgramOf(run, { storage: name }),
      contextOf: (current, signal) => operationContext({ logger: serviceLogger(run, current), signal }),
      signal: world.signal,
      onReload: (listener) => world.onHangup?.(listener) ?? (() => undefined),
    });
  });
}

/** A service tells a person who watches it all that it tells others. */
function serviceLogger(run: CommandRun, config: Pick<Config, 'log'>): Logger {
  const { terminal, log } = run.world;
  return createLogger({
    format: log.format,
    level: run.options.verbose ? 'debug' : run.options.quiet ? 'error' : config.log.level,
    write: (line) => terminal.err(line),
  });
}
