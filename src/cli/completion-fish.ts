import type { Completable, CompletedCommand, CompletedOption } from './completion-model.ts';

/** For fish 3.0 and newer. */
export function fishScript(commands: readonly CompletedCommand[]): string {
  return `# Completes pgark in fish. Made by: pgark completion fish
function __pgark_at --description 'whether this command of pgark is on the line'
    set -l command
    set -l option
    set -l words (commandline -opc)
    set -e words[1]
    for word in $words
        if test -n "$option"
            set option
            continue
        end
        switch "$command $word"
            case ${valuePatterns(commands).join(' ')}
                set option $word
            case ${commandPatterns(commands).join(' ')}
                set command (string trim -- "$command $word")
        end
    end
    test "$command" = "$argv[1]"
end
complete -c pgark -e
complete -c pgark -f
${commands.flatMap(completionsOf).join('\n')}
`;
}

function completionsOf({ path, commands: below, options, argument }: CompletedCommand): readonly string[] {
  const at = `complete -c pgark -n ${quoted(`__pgark_at ${quoted(path)}`)}`;
  const ofOptions = path === '' ? 'complete -c pgark' : at;
  return [
    ...below.map(({ name, summary }) => `${at} -a ${quoted(name)} -d ${quoted(summary)}`),
    ...(argument.words.length > 0 ? [`${at} -a ${quoted(argument.words.join(' '))}`] : []),
    ...(argument.isPath ? [`${at} -F`] : []),
    ...options.map((option) => `${ofOptions} ${optionOf(option)}`),
  ];
}

function optionOf({ flags, description, value }: CompletedOption): string {
  const names = flags.map((flag) => (flag.startsWith('--') ? `-l ${flag.slice(2)}` : `-s ${flag.slice(1)}`));
  return [...names, ...(value === undefined ? [] : [valueOf(value)]), '-d', quoted(description)].join(' ');
}

function valueOf({ words, isPath }: Completable): string {
  if (words.length > 0) return `-x -a ${quoted(words.join(' '))}`;
  return isPath ? '-r -F' : '-x';
}

function valuePatterns(commands: readonly CompletedCommand[]): readonly string[] {
  return commands.flatMap(({ path, options }) =>
    options.flatMap(({ flags, value }) =>
      value === undefined ? [] : flags.map((flag) => quoted(`${path === '' ? '*' : path} ${flag}`)),
    ),
  );
}

function commandPatterns(commands: readonly CompletedCommand[]): readonly string[] {
  return commands.flatMap(({ path, commands: below }) => below.map(({ name }) => quoted(`${path} ${name}`)));
}

function quoted(text: string): string {
  return `'${text.replaceAll('\\', '\\\\').replaceAll("'", String.raw`\'`)}'`;
}
