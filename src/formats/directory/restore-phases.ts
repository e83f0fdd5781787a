import { PgarkError } from '../../common/errors.ts';
import { readable } from '../../postgres/toc/byte-string.ts';
import { LARGE_OBJECTS, SECTION, TABLE_DATA, type TocEntry } from '../../postgres/toc/toc.ts';
import type { Exclusion, SectionName, Selection } from '../load-source.ts';
import { excludeEntries } from './exclude-entries.ts';
import { selectEntries } from './select-entries.ts';
import { gapsIn, NO_GAPS, type SelectionGaps } from './selection-gaps.ts';

/** Which entries of a TOC are restored when, each in the order of the TOC. */
export interface RestorePhases {
  /** What has to be there for rows and large objects to be loaded. */
  readonly before: readonly TocEntry[];
  /** Tables' rows, loaded by ourselves. */
  readonly tables: readonly TocEntry[];
  /** The content of large objects, loaded by ourselves. */
  readonly largeObjects: readonly TocEntry[];
  /** All else: values of sequences, indexes, constraints, triggers, rights. */
  readonly after: readonly TocEntry[];
  /** What is not restored since it needs what was left out. */
  readonly alsoLeftOut: readonly TocEntry[];
  readonly gaps: SelectionGaps;
}

/** Of PostgreSQL 17 and newer: makes many large objects, with their owner; it counts as data, and has none. */
const LARGE_OBJECTS_MADE = 'BLOB METADATA';
/**
 * What pg_restore does only after the data, although it may stand before: see `_tocEntryRestorePass` in PostgreSQL's
 * pg_backup_archiver.c. An owner may have no right to insert into his own table.
 */
const LATE: ReadonlySet<string> = new Set([
  'ACL',
  'ACL LANGUAGE',
  'DEFAULT ACL',
  'EVENT TRIGGER',
  'MATERIALIZED VIEW DATA',
]);

const SECTION_NAMES = new Map<TocEntry['section'], SectionName>([
  [SECTION.preData, 'pre-data'],
  [SECTION.data, 'data'],
  [SECTION.postData, 'post-data'],
]);

const NOTHING: Exclusion = { tables: [], schemas: [], tableData: [] };

/** Errors: `archive-unsupported` for data of a kind that is not known; as `selectEntries` and `excludeEntries`. */
export function phasesOf(
  { entries }: { readonly entries: readonly TocEntry[] },
  selection: Selection = { tables: [], schemas: [], sections: [] },
): RestorePhases {
  const { sections, excluding = NOTHING } = selection;
  const chosen = selectEntries(entries, selection);
  const remaining = excludeEntries(entries, chosen.selected, excluding);
  const { kept, alsoLeftOut } = remaining;
  const before: TocEntry[] = [];
  const tables: TocEntry[] = [];
  const largeObjects: TocEntry[] = [];
  const after: TocEntry[] = [];
  // An entry of no section belongs to that of the one before it, as in `ProcessArchiveRestoreOptions`.
  let section: TocEntry['section'] = SECTION.preData;
  for (const entry of entries) {
    if (entry.section !== SECTION.none) section = entry.section;
    const name = SECTION_NAMES.get(section);
    if (!kept.has(entry) || (sections.length > 0 && (name === undefined || !sections.includes(name)))) continue;
    if (entry.hasData) dataOf(entry, tables, largeObjects).push(entry);
    else if (entry.description === LARGE_OBJECTS_MADE) before.push(entry);
    else if (section === SECTION.preData && !LATE.has(entry.description)) before.push(entry);
    else after.push(entry);
  }
  const isPart = selection.tables.length + selection.schemas.length > 0;
  const gaps = isPart ? withinSections(gapsIn(entries, chosen, remaining), sections) : NO_GAPS;
  return { before, tables, largeObjects, after, alsoLeftOut, gaps };
}

/** Who wants a section alone knows that all others are missing. Rights come with what they are of. */
function withinSections({ withoutRows, leftBehind }: SelectionGaps, sections: readonly SectionName[]): SelectionGaps {
  const isMeant = (section: SectionName): boolean => sections.length === 0 || sections.includes(section);
  return {
    withoutRows: isMeant('data') ? withoutRows : [],
    leftBehind: leftBehind.filter(({ description }) => isMeant(description === 'ACL' ? 'pre-data' : 'post-data')),
  };
}

function dataOf(entry: TocEntry, tables: TocEntry[], largeObjects: TocEntry[]): TocEntry[] {
  if (entry.description === TABLE_DATA) return tables;
  if (entry.description === LARGE_OBJECTS) return largeObjects;
  throw new PgarkError(
    'archive-unsupported',
    `the archive holds data of a kind that this version does not load: ${readable(entry.description)} ${readable(entry.tag)}`,
  );
}

/** A list of entries as `pg_restore --use-list` reads it (`SortTocFromFile`): nothing else is restored. */
export function useList(entries: readonly TocEntry[]): Uint8Array {
  return Buffer.from(entries.map(({ dumpId }) => `${dumpId};\n`).join(''));
}
