import { PgarkError } from '../../common/errors.ts';
import type { TocEntry } from '../../postgres/toc/toc.ts';
import type { Exclusion } from '../load-source.ts';
import { describeEntry, entriesOfSchema, tablesNamed } from './find-entries.ts';
import { addPartitions, partitionsIn } from './partitions.ts';
import { COMPANIONS, PARTS, wholeOf } from './parts.ts';

export interface Remaining {
  readonly kept: ReadonlySet<TocEntry>;
  /** What nobody named, and what cannot be without what was left out: views, functions, foreign keys of other tables. */
  readonly alsoLeftOut: readonly TocEntry[];
  /** What was named, and what goes with it. */
  readonly excluded: ReadonlySet<TocEntry>;
  /** Tables whose rows are left out. */
  readonly emptied: ReadonlySet<TocEntry>;
}

/** Rows lie in these, or come out of them: they are never left out without being named. */
const TABLES: ReadonlySet<string> = new Set(['TABLE', 'FOREIGN TABLE']);

/**
 * What is left of a selection without some tables, schemas, or rows of tables: a table goes with what is a part of it and
 * with its partitions, and with it go the definitions that need it. Errors: `restore-failed` for a name that is not there,
 * and for a table that would be left out or be incomplete, though it was not named.
 */
export function excludeEntries(
  entries: readonly TocEntry[],
  selected: ReadonlySet<TocEntry>,
  { tables, schemas, tableData }: Exclusion,
): Remaining {
  const byId = new Map(entries.map((entry) => [entry.dumpId, entry]));
  const partitions = partitionsIn(entries, byId);
  const excluded = new Set<TocEntry>();
  for (const name of tables) for (const entry of tablesNamed(name, entries)) excluded.add(entry);
  for (const name of schemas) for (const entry of entriesOfSchema(name, entries)) excluded.add(entry);
  addPartitions(excluded, partitions);
  const alsoLeftOut = addDependents(excluded, selected, byId);

  const emptied = new Set<TocEntry>();
  for (const name of tableData) for (const entry of tablesNamed(name, entries)) emptied.add(entry);
  addPartitions(emptied, partitions);
  const isOfEmptied = (entry: TocEntry): boolean =>
    entry.description.endsWith(' DATA') && isIn(emptied, wholeOf(entry, byId));

  const kept = [...selected].filter((entry) => !excluded.has(entry) && !isOfEmptied(entry));
  return { kept: new Set(kept), alsoLeftOut, excluded, emptied };
}

/** Until nothing that is left needs what is left out. Returns what a person would want to be told of. */
function addDependents(
  excluded: Set<TocEntry>,
  selected: ReadonlySet<TocEntry>,
  byId: ReadonlyMap<number, TocEntry>,
): readonly TocEntry[] {
  const told: TocEntry[] = [];
  for (let before = -1; before < excluded.size; ) {
    before = excluded.size;
    for (const entry of selected) {
      if (excluded.has(entry)) continue;
      const missing = entry.dependencies.map((dumpId) => byId.get(dumpId)).find((each) => isIn(excluded, each));
      if (missing === undefined) continue;
      const whole = wholeOf(entry, byId);
      // A view is nothing without its rules, and goes with them.
      const lost = !isIn(excluded, whole) && PARTS.has(entry.description) && isView(whole) ? [whole, entry] : [entry];
      for (const each of lost) {
        const isOfMissing = isIn(excluded, wholeOf(each, byId));
        if (!isOfMissing && !isLoose(each)) throw neededBy(each, missing);
        if (!isOfMissing && !isSaidOf(each)) told.push(each);
        excluded.add(each);
      }
    }
  }
  return told;
}

/** Whether nothing else is incomplete without it. */
function isLoose({ description }: TocEntry): boolean {
  return !TABLES.has(description) && !PARTS.has(description);
}

function isView(entry: TocEntry | undefined): entry is TocEntry {
  return entry !== undefined && (entry.description === 'VIEW' || entry.description === 'MATERIALIZED VIEW');
}

/** Whether it only says something of another object. */
function isSaidOf({ description }: TocEntry): boolean {
  return COMPANIONS.has(description) && description !== 'FK CONSTRAINT';
}

function isIn(set: ReadonlySet<TocEntry>, entry: TocEntry | undefined): boolean {
  return entry !== undefined && set.has(entry);
}

function neededBy(entry: TocEntry, missing: TocEntry): PgarkError {
  const [what, lacking] = [entry, missing].map(describeEntry);
  return new PgarkError('restore-failed', `${what} needs ${lacking}, which would be left out`, {
    hint: 'leave out the table as well (--exclude-table), or of the other one only its rows (--exclude-table-data)',
  });
}
