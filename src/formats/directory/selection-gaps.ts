import { TABLE_DATA, type TocEntry } from '../../postgres/toc/toc.ts';
import type { Remaining } from './exclude-entries.ts';
import { isOfAbsent, isOfServer, makersOf } from './extension-members.ts';
import { addPartitions, namesInSql, partitionsIn } from './partitions.ts';
import { COMPANIONS, wholeOf } from './parts.ts';
import type { Selected } from './select-entries.ts';

/** What somebody who has chosen tables or schemas may miss in what is restored, though he named none of it. */
export interface SelectionGaps {
  /** Tables that others need: they are made, and have no rows, so that views show none of them. */
  readonly withoutRows: readonly TocEntry[];
  /**
   * What is of something chosen and of something else that was not: foreign keys, tables that inherit from chosen ones, rights to
   * what an extension has made in a chosen schema, or what one may have made that comes along or another one that does not.
   */
  readonly leftBehind: readonly TocEntry[];
}

export const NO_GAPS: SelectionGaps = { withoutRows: [], leftBehind: [] };

export function gapsIn(
  entries: readonly TocEntry[],
  { wanted }: Selected,
  { kept, alsoLeftOut, excluded, emptied }: Remaining,
): SelectionGaps {
  const byId = new Map(entries.map((entry) => [entry.dumpId, entry]));
  const partitions = partitionsIn(entries, byId);
  const withData = new Set(
    entries.filter(({ description }) => description === TABLE_DATA).map((data) => wholeOf(data, byId)),
  );
  const hasRows = (table: TocEntry): boolean => {
    const family = new Set([table]);
    addPartitions(family, partitions);
    return [...family].some((each) => withData.has(each));
  };
  const isChosen = (entry: TocEntry | undefined): boolean =>
    entry !== undefined && wanted.has(entry) && kept.has(entry);
  const extensions = entries.filter(({ description }) => description === 'EXTENSION');
  const mayBeOfKept = (entry: TocEntry): boolean =>
    COMPANIONS.has(entry.description) &&
    !isOfServer(entry) &&
    makersOf(entry, extensions).some((extension) => kept.has(extension));
  const isLeftBehind = (entry: TocEntry): boolean => {
    if (kept.has(entry) || excluded.has(entry) || alsoLeftOut.includes(entry)) return false;
    if (isOfAbsent(entry, byId) && (wanted.has(entry) || mayBeOfKept(entry))) return true;
    if (entry.description === 'FK CONSTRAINT') return isChosen(wholeOf(entry, byId));
    return entry.dependencies.some((dumpId) => {
      const other = byId.get(dumpId);
      return isChosen(other) && other !== undefined && inherits(entry, other);
    });
  };
  return {
    withoutRows: entries.filter(
      (entry) =>
        entry.description === 'TABLE' && kept.has(entry) && !wanted.has(entry) && !emptied.has(entry) && hasRows(entry),
    ),
    leftBehind: entries.filter(isLeftBehind),
  };
}

/** As a table does that is no partition. */
function inherits({ description, definition }: TocEntry, from: TocEntry): boolean {
  if (description !== 'TABLE' || definition === null) return false;
  const clause = definition.split('\nINHERITS (').at(-1);
  return clause !== definition && clause !== undefined && namesInSql(from).some((name) => clause.includes(name));
}
