import { commandPatterns, quoted, valueCasesOf, valuePatterns } from './completion-bash.ts';
import type { Completable, CompletedCommand, CompletedOption } from './completion-model.ts';

/** To be sourced after \`compinit\`, or as the file \`_pgark\` in a folder of \`fpath\`. */
export function zshScript(commands: readonly CompletedCommand[]): string {
  const [program, ...others] = commands;
  return `#compdef pgark
# Completes pgark in zsh. Made by: pgark completion zsh
_pgark() {
  local command='' option='' ended='' word
  local -a found
  integer index
  for (( index = 2; index < CURRENT; index++ )); do
    word=\${words[index]}
    if [[ -n $option ]]; then
      option=''
    elif [[ $word == '--' ]]; then
      ended=1
    elif [[ -n $ended ]]; then
      continue
    elif [[ $word == -* ]]; then
      case "$command $word" in
        (${valuePatterns(commands).join(' | ')}) option=$word ;;
      esac
    else
      case "$command $word" in
        (${commandPatterns(commands).join(' | ')}) command="\${command:+$command }$word" ;;
      esac
    fi
  done
  word=\${words[CURRENT]}
  if [[ -z $option && -z $ended && $word == --*=* ]]; then
    option=\${word%%=*}
    compset -P '*='
  fi
  if [[ -n $option ]]; then
    case "$command $option" in
${valueCasesOf(commands, completing)
  .map((line) => line.replace(/^ {6}/, '      ('))
  .join('\n')}
    esac
  elif [[ -z $ended && $word == -* ]]; then
    case $command in
${others.map(({ path, options }) => `      (${quoted(path)}) found=(${options.flatMap(described).join(' ')}) ;;`).join('\n')}
    esac
    found+=(${(program?.options ?? []).flatMap(described).join(' ')})
    _describe -o 'option' found
  else
    case $command in
${commands.flatMap(operandCase).join('\n')}
    esac
  fi
}
if [[ \${funcstack[1]} == _pgark ]]; then
  _pgark "$@"
else
  compdef _pgark pgark
fi
`;
}

function operandCase({ path, commands: below, argument }: CompletedCommand): readonly string[] {
  const names = below.map(({ name, summary }) => item(name, summary)).join(' ');
  const done = below.length > 0 ? `found=(${names}); _describe 'command' found` : completing(argument);
  return done === undefined ? [] : [`      (${quoted(path)}) ${done} ;;`];
}

function completing({ words, isPath }: Completable): string | undefined {
  if (words.length > 0) return `found=(${words.map(quoted).join(' ')}); _describe 'value' found`;
  return isPath ? '_files' : undefined;
}

function described({ flags, description }: CompletedOption): readonly string[] {
  return flags.map((flag) => item(flag, description));
}

/** A word with what is said of it, as \`_describe\` takes them. */
function item(word: string, description: string): string {
  return quoted(`${word}:${description.replaceAll('\\', '\\\\')}`);
}
