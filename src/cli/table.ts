export interface Column {
  readonly title: string;
  readonly align?: 'left' | 'right';
  /** Left out where the table would be too wide otherwise; of several, the last one goes first. */
  readonly yields?: boolean;
}

const GAP = '  ';

/**
 * A table for people: two blanks between columns, no lines, cells as wide as they need to be. Columns that may yield do
 * so until the table fits into `columnsMax`; what has to stay is never cut.
 */
export function formatTable(
  columns: readonly Column[],
  rows: readonly (readonly string[])[],
  columnsMax = Number.POSITIVE_INFINITY,
): string {
  const widths = columns.map((column, index) =>
    rows.reduce((widest, row) => Math.max(widest, width(row[index] ?? '')), width(column.title)),
  );
  const last = columns.findLastIndex((column) => column.yields === true);
  if (last >= 0 && widths.reduce((sum, each) => sum + each + GAP.length, -GAP.length) > columnsMax) {
    const without = <T>(cells: readonly T[]): T[] => cells.toSpliced(last, 1);
    return formatTable(without(columns), rows.map(without), columnsMax);
  }
  const line = (cells: readonly string[]): string =>
    columns
      .map((column, index) => pad(cells[index] ?? '', widths[index] ?? 0, column.align ?? 'left'))
      .join(GAP)
      .trimEnd();
  return `${[line(columns.map((column) => column.title)), ...rows.map(line)].join('\n')}\n`;
}

/** `name  value` lines, the names padded; facts without a value are left out. */
export function formatFacts(facts: readonly (readonly [string, string | undefined])[]): string {
  const present = facts.filter((fact): fact is readonly [string, string] => fact[1] !== undefined);
  const widest = Math.max(0, ...present.map(([name]) => width(name)));
  return present.map(([name, value]) => `${pad(name, widest, 'left')}${GAP}${value}\n`).join('');
}

function pad(text: string, target: number, align: 'left' | 'right'): string {
  const blanks = ' '.repeat(Math.max(0, target - width(text)));
  return align === 'left' ? text + blanks : blanks + text;
}

/** Columns that a text takes; one for each character is right for names in Latin scripts, and close for others. */
function width(text: string): number {
  return [...text].length;
}

/** A time as tables show it: UTC to the second. */
export function formatTime(time: string | Date): string {
  return `${new Date(time).toISOString().slice(0, 19)}Z`;
}

/** `1 backup`, `3 backups`. */
export function formatCount(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}
