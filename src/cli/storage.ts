import type { Command } from 'commander';
import type { CliWorld } from './command.ts';
import { registerProbe } from './storage-probe.ts';
import { registerUsage } from './storage-usage.ts';

export function registerStorage(program: Command, world: CliWorld): void {
  const storage = program
    .command('storage')
    .summary('show what storages can do, and what lies in them')
    .description('Shows what storages can do, and what lies in them.');
  registerProbe(storage, world);
  registerUsage(storage, world);
}
