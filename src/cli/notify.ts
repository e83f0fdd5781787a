import type { Command } from 'commander';
import { PgarkError } from '../common/errors.ts';
import type { Config } from '../config/model.ts';
import { whyUnheard } from '../config/unreferenced.ts';
import { testChannels } from '../service/tell.ts';
import { action, type CliWorld } from './command.ts';
import { addExamples } from './help.ts';
import { jsonLines } from './json.ts';
import { registerNotifyDigest } from './notify-digest.ts';
import { formatCount } from './table.ts';
import { tellWorld } from './telling.ts';

type Delivery = Awaited<ReturnType<typeof testChannels>>[number];

export function registerNotify(program: Command, world: CliWorld): void {
  const notify = program
    .command('notify')
    .summary('try the notifications, send a digest')
    .description(
      'Tries the channels through which pgark tells of failures and recoveries, and sends summaries through them.',
    );
  const test = notify
    .command('test')
    .summary('send a trial message to each channel')
    .description(
      'Sends a trial message to each channel of the configuration, once, and says what became of it. A ping goes to /log, which neither raises an alarm nor ends one.',
    )
    .argument('[names...]', 'notifications of the configuration (default: all)');
  registerNotifyDigest(notify, world);
  addExamples(test, [['pgark notify test ops', 'does a message to ops arrive?']]);
  action(test, world, async (run, names) => {
    const config = await run.config([]);
    if (config.notifications.size === 0) {
      throw new PgarkError('config-missing', 'no notification is configured', {
        hint: 'set WEBHOOK_URL, or write the section notifications in the configuration file',
      });
    }
    const deliveries = await testChannels(config, names, { ...tellWorld(run, config), signal: world.signal });
    world.signal.throwIfAborted();
    const channels = deliveries.map((delivery) => deliveryJson(config, delivery));
    run.result(
      { channels },
      () => deliveries.map((delivery) => describe(config, delivery)).join(''),
      () => jsonLines('channel', channels),
    );
    const failed = deliveries.filter(({ outcome }) => outcome === 'failed');
    if (failed.length === 0) return;
    const of = deliveries.length === 1 ? '' : ` ${failed.length} of ${formatCount(deliveries.length, 'channel')}:`;
    throw new PgarkError(
      'notification-failed',
      `the trial message did not arrive:${of} ${failed.map(({ channel }) => channel).join(', ')}`,
      { hint: 'the lines above say why, and what to do' },
    );
  });
}

function typeOf(config: Config, { channel }: Delivery): string {
  return config.notifications.get(channel)?.type ?? '';
}

/** What is wrong with a channel although the message has arrived. */
function caveatOf(
  config: Config,
  { channel, caveat }: Extract<Delivery, { outcome: 'delivered' }>,
): string | undefined {
  const unheard = whyUnheard(config, channel);
  const caveats = [caveat, unheard && `the notification ${unheard}`].filter((each) => each !== undefined);
  return caveats.length === 0 ? undefined : caveats.join('; ');
}

function deliveryJson(config: Config, delivery: Delivery): Record<string, unknown> {
  const base = { name: delivery.channel, type: typeOf(config, delivery), outcome: delivery.outcome };
  if (delivery.outcome === 'failed') return { ...base, error: delivery.error };
  return { ...base, delivered_at: delivery.deliveredAt.toISOString(), caveat: caveatOf(config, delivery) };
}

function describe(config: Config, delivery: Delivery): string {
  const name = `${delivery.channel} (${typeOf(config, delivery)})`;
  if (delivery.outcome === 'failed') return `✖ ${name}: ${delivery.error.message}\n    ${delivery.error.hint}\n`;
  const caveat = caveatOf(config, delivery);
  if (caveat !== undefined) return `! ${name}: delivered, but ${caveat}\n`;
  return `✓ ${name}: delivered\n`;
}
