import type { TocEntry } from '../../postgres/toc/toc.ts';
import type { Selection } from '../load-source.ts';
import { entriesOfSchema, tablesNamed } from './find-entries.ts';
import { isOfAbsent, isOfMember, isOfServer, makersOf } from './extension-members.ts';
import { addPartitions, partitionsIn } from './partitions.ts';
import { COMPANIONS, PARTS } from './parts.ts';

/** The entries of a part of an archive. */
export interface Selected {
  readonly selected: ReadonlySet<TocEntry>;
  /** What was asked for, with what is a part of it; the rest of `selected` is there for it. */
  readonly wanted: ReadonlySet<TocEntry>;
}

/**
 * The entries of some tables or schemas: they themselves, with what is a part of them and, of partitioned tables, their
 * partitions; and the definitions, without rows, that they need. Foreign keys to what does not come along are left out.
 * Error: `restore-failed` for a table or schema that is not there.
 */
export function selectEntries(
  entries: readonly TocEntry[],
  { tables, schemas }: Pick<Selection, 'tables' | 'schemas'>,
): Selected {
  if (tables.length === 0 && schemas.length === 0) {
    const all = new Set(entries);
    return { selected: all, wanted: all };
  }
  const byId = new Map(entries.map((entry) => [entry.dumpId, entry]));
  const wanted = new Set<TocEntry>();
  for (const name of tables) for (const entry of tablesNamed(name, entries)) wanted.add(entry);
  for (const name of schemas) for (const entry of entriesOfSchema(name, entries)) wanted.add(entry);
  addPartitions(wanted, partitionsIn(entries, byId));

  const extensions = entries.filter(({ description }) => description === 'EXTENSION');
  const queries = queriesOfViews(entries, byId);
  const selected = new Set<TocEntry>();
  const addWithNeeds = (entry: TocEntry): void => {
    const waiting = [entry];
    for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
      if (selected.has(next)) continue;
      selected.add(next);
      for (const dumpId of next.dependencies) {
        const needed = byId.get(dumpId);
        if (needed !== undefined) waiting.push(needed);
      }
      const query = queries.get(next);
      if (query !== undefined) waiting.push(query);
    }
  };
  for (const entry of wanted) {
    if (COMPANIONS.has(entry.description)) continue;
    if (!isOfMember(entry, byId)) addWithNeeds(entry);
    else for (const maker of makersOf(entry, extensions)) addWithNeeds(maker);
  }
  // A part may itself have parts, such as the comment on an index; the TOC has them in this order.
  for (const entry of entries) {
    if (PARTS.has(entry.description) && isPartOf(entry, wanted, byId)) {
      wanted.add(entry);
      addWithNeeds(entry);
    }
  }
  for (const entry of entries) {
    const { description, dependencies } = entry;
    if (!COMPANIONS.has(description) && !(wanted.has(entry) && isOfMember(entry, byId))) continue;
    if (dependencies.length === 0 || !dependencies.every((id) => isIn(selected, byId.get(id)))) continue;
    if (!isOfAbsent(entry, byId) || hasItsMakers(entry, selected, extensions)) selected.add(entry);
  }
  return { selected, wanted };
}

/**
 * Of views whose definition is one row of nulls: what they are in truth comes as a rule, once what that needs is there, such
 * as the primary key that a view is grouped by (`createDummyViewAsClause` and `dumpRule` in pg_dump.c).
 */
function queriesOfViews(
  entries: readonly TocEntry[],
  byId: ReadonlyMap<number, TocEntry>,
): ReadonlyMap<TocEntry, TocEntry> {
  const queries = new Map<TocEntry, TocEntry>();
  for (const entry of entries) {
    if (entry.description !== 'RULE') continue;
    for (const dumpId of entry.dependencies) {
      const view = byId.get(dumpId);
      const isOfView = view?.description === 'VIEW' && view.namespace === entry.namespace;
      if (isOfView && entry.tag === `${view.tag} _RETURN`) queries.set(view, entry);
    }
  }
  return queries;
}

/** Of something else that it depends on, such as a trigger's function, it is no part. */
function isPartOf(
  { dependencies }: TocEntry,
  wanted: ReadonlySet<TocEntry>,
  byId: ReadonlyMap<number, TocEntry>,
): boolean {
  return dependencies.some((dumpId) => {
    const whole = byId.get(dumpId);
    return whole !== undefined && wanted.has(whole);
  });
}

/** Whether the target will have what the TOC does not: with the server, or by an extension that is restored. */
function hasItsMakers(entry: TocEntry, selected: ReadonlySet<TocEntry>, extensions: readonly TocEntry[]): boolean {
  if (isOfServer(entry)) return true;
  const makers = makersOf(entry, extensions);
  return makers.length > 0 && makers.every((maker) => selected.has(maker));
}

/** What the TOC does not have, such as an object of the server, is there where the rest is. */
function isIn(selected: ReadonlySet<TocEntry>, entry: TocEntry | undefined): boolean {
  return entry === undefined || selected.has(entry);
}
