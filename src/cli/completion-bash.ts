import type { Completable, CompletedCommand, CompletedOption } from './completion-model.ts';

/** For bash 3.2 and newer, which is what macOS has; nothing of the package bash-completion is needed. */
export function bashScript(commands: readonly CompletedCommand[]): string {
  const [program, ...others] = commands;
  const everywhere = program?.options ?? [];
  return `# Completes pgark in bash. Made by: pgark completion bash
_pgark() {
  local current=\${COMP_WORDS[COMP_CWORD]} command='' option='' ended='' words='' paths='' word index
  COMPREPLY=()
  for ((index = 1; index < COMP_CWORD; index++)); do
    word=\${COMP_WORDS[index]}
    # bash hands over --output=json as three words.
    if [[ $word == '=' ]]; then
      continue
    elif [[ -n $option ]]; then
      option=''
    elif [[ $word == '--' ]]; then
      ended=1
    elif [[ -n $ended ]]; then
      continue
    elif [[ $word == -* ]]; then
      case "$command $word" in
        ${valuePatterns(commands).join(' | ')}) option=$word ;;
      esac
    else
      case "$command $word" in
        ${commandPatterns(commands).join(' | ')}) command="\${command:+$command }$word" ;;
      esac
    fi
  done
  if [[ -n $option ]]; then
    [[ $current == '=' ]] && current=''
    case "$command $option" in
${valueCases(commands).join('\n')}
    esac
  elif [[ -z $ended && $current == -* ]]; then
    case $command in
${others.map(({ path, options }) => `      ${quoted(path)}) words=${quoted(flagsOf(options))} ;;`).join('\n')}
    esac
    words="$words "${quoted(flagsOf(everywhere))}
  else
    case $command in
${commands.flatMap(operandCase).join('\n')}
    esac
  fi
  if [[ -n $paths ]]; then
    compopt -o filenames 2>/dev/null
    while IFS= read -r word; do COMPREPLY+=("$word"); done < <(compgen -f -- "$current")
  elif [[ -n $words ]]; then
    while IFS= read -r word; do COMPREPLY+=("$word"); done < <(compgen -W "$words" -- "$current")
  fi
}
complete -F _pgark pgark
`;
}

export function quoted(text: string): string {
  return `'${text.replaceAll("'", String.raw`'\''`)}'`;
}

/** Patterns of \`case "$command $option"\` for an option of a command, or of all of them. */
function patternsOf({ path }: CompletedCommand, { flags }: CompletedOption): readonly string[] {
  return flags.map((flag) => (path === '' ? `*${quoted(` ${flag}`)}` : quoted(`${path} ${flag}`)));
}

/** All options that take a value. */
export function valuePatterns(commands: readonly CompletedCommand[]): readonly string[] {
  return commands.flatMap((command) =>
    command.options.flatMap((option) => (option.value === undefined ? [] : patternsOf(command, option))),
  );
}

/** All commands, by where they are and their names. */
export function commandPatterns(commands: readonly CompletedCommand[]): readonly string[] {
  return commands.flatMap(({ path, commands: below }) => below.map(({ name }) => quoted(`${path} ${name}`)));
}

/** For each option with a value that can be completed, what a script does by it. */
export function valueCasesOf(
  commands: readonly CompletedCommand[],
  doing: (value: Completable) => string | undefined,
): readonly string[] {
  return commands.flatMap((command) =>
    command.options.flatMap((option) => {
      const done = option.value && doing(option.value);
      return done === undefined ? [] : [`      ${patternsOf(command, option).join(' | ')}) ${done} ;;`];
    }),
  );
}

function valueCases(commands: readonly CompletedCommand[]): readonly string[] {
  return valueCasesOf(commands, assignment);
}

function operandCase({ path, commands: below, argument }: CompletedCommand): readonly string[] {
  const names = { words: below.map(({ name }) => name), isPath: false };
  const done = assignment(below.length > 0 ? names : argument);
  return done === undefined ? [] : [`      ${quoted(path)}) ${done} ;;`];
}

function assignment({ words, isPath }: Completable): string | undefined {
  if (words.length > 0) return `words=${quoted(words.join(' '))}`;
  return isPath ? 'paths=1' : undefined;
}

function flagsOf(options: readonly CompletedOption[]): string {
  return options.flatMap(({ flags }) => flags).join(' ');
}
