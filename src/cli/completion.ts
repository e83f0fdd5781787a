import { Argument, type Command } from 'commander';
import type { CliWorld } from './command.ts';
import { bashScript } from './completion-bash.ts';
import { fishScript } from './completion-fish.ts';
import { type CompletedCommand, completedCommands } from './completion-model.ts';
import { zshScript } from './completion-zsh.ts';
import { addExamples } from './help.ts';

type MakeScript = (commands: readonly CompletedCommand[]) => string;

const SHELLS: Readonly<Record<string, MakeScript>> = { bash: bashScript, zsh: zshScript, fish: fishScript };

export function registerCompletion(program: Command, { terminal }: Pick<CliWorld, 'terminal'>): void {
  const command = program
    .command('completion')
    .summary('print a script that completes command lines in a shell')
    .description(
      'Prints a script for a shell that completes commands, options, the choices that an option has, and names of files. It is made from this version: print it anew after an update, or at the start of each shell.',
    )
    .addArgument(new Argument('<shell>', 'the shell it is for').choices(Object.keys(SHELLS)));
  addExamples(command, [
    ['source <(pgark completion bash)', 'in ~/.bashrc'],
    ['source <(pgark completion zsh)', 'in ~/.zshrc, after compinit'],
    ['pgark completion fish | source', 'in ~/.config/fish/config.fish'],
  ]);
  command.action((shell: string) => terminal.out(SHELLS[shell]?.(completedCommands(program)) ?? ''));
}
