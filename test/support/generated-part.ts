/** Puts a text between the two marks of a part of a Markdown document. Throws if they are not there. */
export function replacePart(document: string, part: string, text: string): string {
  const [first, last] = [`<!-- ${part}: begin -->`, `<!-- ${part}: end -->`];
  const begin = document.indexOf(first);
  const end = document.indexOf(last, begin);
  if (begin < 0 || end < 0) throw new Error(`the document has no lines ${first} and ${last}`);
  return `${document.slice(0, begin + first.length)}\n${text}\n${document.slice(end)}`;
}

/** A table in Markdown. */
export function markdownTable(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string =>
    `|${cells.map((cell) => (cell === '' ? ' ' : ` ${cell} `)).join('|')}|`;
  return [line(head), `|${'---|'.repeat(head.length)}`, ...rows.map(line)].join('\n');
}
