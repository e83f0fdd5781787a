import type { Command } from 'commander';
import { PgarkError } from '../common/errors.ts';
import { type AskedDigest, askDigests, digestChannels } from '../service/ask-digests.ts';
import { sourcesOf } from '../service/digest-of.ts';
import { action, type CliWorld } from './command.ts';
import { addExamples } from './help.ts';
import { jsonLines } from './json.ts';
import { lookAt } from './protection.ts';
import { formatCount } from './table.ts';
import { tellWorld } from './telling.ts';
import { sinceTime } from './time.ts';

export function registerNotifyDigest(notify: Command, world: CliWorld): void {
  const command = notify
    .command('digest')
    .summary('send the summary now')
    .description(
      'Looks at servers and storages now, sums up how well everything is protected and what was done since the last digest, and sends it to each channel that has a setting digest, or to those named. The next one goes on from there. Needs no daemon.',
    )
    .argument('[names...]', 'notifications of the configuration (default: all that have a digest)')
    .option('--since <time>', 'sum up the time since then, or so long (default: since the last digest)')
    .option('--dry-run', 'print it instead of sending it');
  addExamples(command, [
    ['pgark notify digest --dry-run', 'what would it say?'],
    ['pgark notify digest mail', 'for cron, where no daemon runs'],
  ]);
  action(command, world, async (run, names, options) => {
    const config = await run.config(['storage', 'database']);
    const channels = digestChannels(config, names);
    const since = typeof options.since === 'string' ? sinceTime('--since', options.since, new Date()) : undefined;
    const sources = new Set(channels.flatMap((channel) => sourcesOf(config, channel.name).map(({ name }) => name)));
    const { state } = await lookAt(run, config, [...sources]);
    const request = { channels, state, since, isDry: options.dryRun === true };
    const made = await askDigests(config, request, { ...tellWorld(run, config), context: run.context(config) });
    world.signal.throwIfAborted();
    const digests = made.map(madeJson);
    run.result(
      { digests },
      () => made.map(describe).join('\n'),
      () => jsonLines('digest', digests),
    );
    const failed = made.filter(({ delivery }) => delivery?.outcome === 'failed');
    if (failed.length === 0) return;
    const of = made.length === 1 ? '' : ` ${failed.length} of ${formatCount(made.length, 'channel')}:`;
    throw new PgarkError(
      'notification-failed',
      `the digest did not arrive:${of} ${failed.map(({ channel }) => channel.name).join(', ')}`,
      { hint: 'the lines above say why, and what to do' },
    );
  });
}

function madeJson({ channel, facts, delivery }: AskedDigest): Record<string, unknown> {
  const base = { name: channel.name, type: channel.type, outcome: delivery?.outcome ?? 'not sent' };
  const error = delivery?.outcome === 'failed' ? delivery.error : undefined;
  return { ...base, error, digest: facts };
}

function describe({ channel, body, delivery }: AskedDigest): string {
  const name = `${channel.name} (${channel.type})`;
  if (delivery === undefined) {
    return `${name}: ${body.subject}\n\n${body.text}`;
  }
  if (delivery.outcome === 'failed') return `✖ ${name}: ${delivery.error.message}\n    ${delivery.error.hint}\n`;
  return `✓ ${name}: delivered\n`;
}
