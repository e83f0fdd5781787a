import { fileURLToPath } from 'node:url';
import type { Command } from 'commander';
import { action, type CliWorld } from './command.ts';

/** The launcher of this very checkout or package. */
const launcher = fileURLToPath(new URL('../../bin/pgark', import.meta.url));

export function registerDemo(program: Command, world: CliWorld): void {
  const command = program
    .command('demo')
    .summary('show it all on a throw-away database')
    .description(
      'Starts a throw-away PostgreSQL with a sample database, backs it up, destroys a table, restores and proves that every row is back.',
    );
  action(command, world, async () => {
    const [{ runDemo }, { pgarkSpawner }] = await Promise.all([
      import('../demo/demo.ts'),
      import('../demo/spawn-pgark.ts'),
    ]);
    const { signal, terminal } = world;
    await runDemo({ runPgark: pgarkSpawner(launcher, signal), print: (line) => terminal.out(`${line}\n`), signal });
  });
}
