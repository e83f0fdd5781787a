import type { Command } from 'commander';
import { asPgarkError } from '../common/errors.ts';
import { healthcheckReport } from '../observability/health.ts';
import { askDaemon } from '../service/ask-daemon.ts';
import { action, type CliWorld, type CommandRun } from './command.ts';
import { describeError } from './errors.ts';
import { endWith } from './exit-status.ts';
import { addExamples } from './help.ts';
import { lookAt } from './protection.ts';

const UNHEALTHY = 1;

export function registerHealthcheck(program: Command, world: CliWorld): void {
  const command = program
    .command('healthcheck')
    .summary('say by exit status whether all is well, for containers')
    .description(
      'Healthy (0) if servers and storages answer and no backup and no WAL is overdue, else unhealthy (1). If a daemon listens at the configured address it is asked, which costs next to nothing; else servers and storages are looked at.',
    )
    .option('--no-daemon', 'look at servers and storages even if a daemon listens');
  addExamples(command, [['pgark healthcheck', 'HEALTHCHECK CMD ["pgark", "healthcheck"]']]);
  action(command, world, async (run, _names, options) => {
    const report = await examine(run, options.daemon !== false);
    run.print(() => world.terminal.out(report.text));
    endWith(report.exit);
  });
}

async function examine(run: CommandRun, mayAsk: boolean): Promise<{ readonly text: string; readonly exit: 0 | 1 }> {
  try {
    const config = await run.config(['database', 'storage']);
    const answer = mayAsk ? await askDaemon(config.server.listen, run.world.signal) : undefined;
    if (answer !== undefined) return { text: answer.text, exit: answer.healthy ? 0 : UNHEALTHY };
    const { state } = await lookAt(run, config, []);
    return healthcheckReport(state, state.at);
  } catch (thrown) {
    const error = asPgarkError(thrown);
    return { text: `unhealthy\n${describeError(error)}`, exit: UNHEALTHY };
  }
}
