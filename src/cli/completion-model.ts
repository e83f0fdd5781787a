import type { Command, Option } from 'commander';

/** What may follow an option, or stand as an argument: one of some words, the name of a file, or anything. */
export interface Completable {
  readonly words: readonly string[];
  readonly isPath: boolean;
}

export interface CompletedOption {
  /** As they are typed: `-o`, `--output`. */
  readonly flags: readonly string[];
  readonly description: string;
  /** Undefined for an option without a value. */
  readonly value: Completable | undefined;
}

export interface CompletedCommand {
  /** The names that lead to it, with spaces between; empty for pgark itself. */
  readonly path: string;
  readonly commands: readonly { readonly name: string; readonly summary: string }[];
  /** Its own ones; those of pgark itself are options of all others too. */
  readonly options: readonly CompletedOption[];
  /** What is completed of its arguments. */
  readonly argument: Completable;
}

/** Everything that the help shows, the program first. */
export function completedCommands(program: Command): readonly CompletedCommand[] {
  const help = program.createHelp();
  const everywhere = new Set(help.visibleOptions(program).map(({ long }) => long));

  function everyShown(command: Command, path: readonly string[], siblings: readonly string[]): CompletedCommand[] {
    const shown = help.visibleCommands(command);
    const names = shown.map((each) => each.name());
    const options = help.visibleOptions(command).filter(({ long }) => path.length === 0 || !everywhere.has(long));
    return [
      {
        path: path.join(' '),
        commands: shown.map((each) => ({ name: each.name(), summary: each.summary() || each.description() })),
        options: options.map(completedOption),
        argument: command.name() === 'help' ? { words: siblings, isPath: false } : argumentOf(command),
      },
      ...shown.flatMap((each) => everyShown(each, [...path, each.name()], names)),
    ];
  }

  return everyShown(program, [], []);
}

function argumentOf({ registeredArguments: all }: Command): Completable {
  return { words: all[0]?.argChoices ?? [], isPath: all.some((each) => isPath(each.name())) };
}

function completedOption({ short, long, description, flags, argChoices, required, optional }: Option): CompletedOption {
  const name = /[<[](.*)[>\]]/.exec(flags)?.[1] ?? '';
  return {
    flags: [short, long].flatMap((flag) => flag ?? []),
    description,
    value: required || optional ? { words: argChoices ?? [], isPath: isPath(name) } : undefined,
  };
}

/** Whether what is called so is the name of a file. */
function isPath(name: string): boolean {
  return /^(file|folder|directory)$/.test(name);
}
