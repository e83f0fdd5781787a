/**
 * The calls of a program in a text of shell, each as its arguments: enough of the grammar for what documentation shows.
 * Variables and `~` stay as they are written.
 */
export function callsOf(program: string, shell: string): readonly (readonly string[])[] {
  return shell
    .replaceAll('\\\n', ' ')
    .split('\n')
    .flatMap((line) => commandsOf(line))
    .map((words) => words.slice(words.findIndex((word) => !/^[A-Za-z_]\w*=/.test(word))))
    .flatMap(([name, ...args]) => (name === program ? [args] : []));
}

const TOKEN = /\s+|#.*|&&|\|\||[|;&()]|\d?(?:>>?|<)(?:&\d)?|(?:"(?:\\.|[^"\\])*"|'[^']*'|\\.|[^\s"'\\|;&()<>])+/y;

function commandsOf(line: string): readonly (readonly string[])[] {
  const commands: string[][] = [[]];
  let redirects = false;
  TOKEN.lastIndex = 0;
  for (let match = TOKEN.exec(line); match !== null; match = TOKEN.exec(line)) {
    const [token] = match;
    if (/^(?:\s|#)/.test(token)) continue;
    if (/^(?:&&|\|\||[|;&()])$/.test(token)) commands.push([]);
    else if (/^\d?[<>]/.test(token)) redirects = !/&\d$/.test(token);
    else if (redirects) redirects = false;
    else commands.at(-1)?.push(token.replace(/"((?:\\.|[^"\\])*)"|'([^']*)'|\\(.)/g, '$1$2$3'));
  }
  return commands.filter((words) => words.length > 0);
}
