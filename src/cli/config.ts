import type { Command } from 'commander';
import { describeConfig } from '../config/describe.ts';
import { configJsonSchemaText } from '../config/json-schema.ts';
import { action, type CliWorld } from './command.ts';
import { jsonLines } from './json.ts';
import { formatTable } from './table.ts';

export function registerConfig(program: Command, world: CliWorld): void {
  const commands = program
    .command('config')
    .summary('show the configuration, or its schema')
    .description('Shows the configuration in effect, or the JSON Schema of the file.');
  const show = commands
    .command('show')
    .summary('show every setting in effect')
    .description(
      'Shows every setting in effect; secrets are shown as [redacted]. What cannot be in effect, since something is wrong with it, is left out, and ends it with what is wrong.',
    )
    .option('--origin', 'also show where each value comes from');
  action(show, world, async (run, _args, options) => {
    const config = await run.config([]);
    const rows = describeConfig(config);
    const origin = options.origin === true;
    const settings = rows.map((row) => ({
      path: row.path,
      value: row.value,
      ...(origin ? { origin: row.origin } : {}),
    }));
    run.result(
      { settings },
      () =>
        formatTable(
          [{ title: 'SETTING' }, { title: 'VALUE' }, ...(origin ? [{ title: 'ORIGIN' }] : [])],
          rows.map((row) => [row.path, row.value, ...(origin ? [row.origin] : [])]),
        ),
      () => jsonLines('setting', settings),
    );
    const { leftOut, storages } = config;
    // Who only restores has no database, and who has nothing yet looks at the defaults.
    if (leftOut?.code === 'config-missing' && storages.size > 0)
      run.note(`left out of this, for a backup: ${leftOut.message}\n`);
    else if (leftOut !== undefined) throw leftOut;
  });
  const schema = commands
    .command('schema')
    .summary('print the JSON Schema of the configuration file')
    .description('Prints the JSON Schema of the configuration file, for editors.');
  action(schema, world, async () => {
    world.terminal.out(configJsonSchemaText());
  });
}
