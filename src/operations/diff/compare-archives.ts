import type { ArchiveInventory, Definition, TableRows } from '../../formats/inventory.ts';

/** Whether two things are the same; undefined where that cannot be told without restoring. */
export type Sameness = boolean | undefined;

export interface ObjectName {
  readonly kind: string;
  readonly name: string;
}

/** What of an object is another than it was. */
type Aspect = 'definition' | 'owner' | 'tablespace' | 'access method';

export interface TableDifference {
  readonly table: string;
  /** Undefined where the backup has no such table, or has it without rows. */
  readonly rowsBefore: number | undefined;
  readonly rowsAfter: number | undefined;
  /** Whether the table itself is in either of them. */
  readonly isBefore: boolean;
  readonly isAfter: boolean;
  /** Of the rows, in any order. */
  readonly same: Sameness;
}

export interface ArchiveDifference {
  readonly kind: 'archive';
  readonly same: Sameness;
  readonly objects: {
    readonly added: readonly ObjectName[];
    readonly removed: readonly ObjectName[];
    readonly changed: readonly (ObjectName & { readonly aspects: readonly Aspect[] })[];
    readonly sameCount: number;
  };
  /** All that either of them has. */
  readonly tables: readonly TableDifference[];
  /** Those that stand elsewhere, or are in one of them only. */
  readonly sequences: readonly {
    readonly name: string;
    readonly before: string | undefined;
    readonly after: string | undefined;
  }[];
  readonly largeObjects: {
    readonly before: number;
    readonly after: number;
    readonly added: number;
    readonly removed: number;
    readonly changed: number;
  };
}

/** What is another in the one archive than in the other. Pure. */
export function compareArchives(before: ArchiveInventory, after: ArchiveInventory): ArchiveDifference {
  const objects = compareDefinitions(before.definitions, after.definitions);
  const tables = compareTables(before, after);
  const sequences = compareSequences(before.sequences, after.sequences);
  const largeObjects = compareLargeObjects(before, after);
  const differs =
    objects.added.length + objects.removed.length + objects.changed.length + sequences.length > 0 ||
    largeObjects.added + largeObjects.removed + largeObjects.changed > 0;
  return {
    kind: 'archive',
    same: allSame([!differs, ...tables.map(({ same }) => same)]),
    objects,
    tables,
    sequences,
    largeObjects,
  };
}

/** One difference is enough; without one, all have to be known. */
export function allSame(each: readonly Sameness[]): Sameness {
  if (each.includes(false)) return false;
  return each.includes(undefined) ? undefined : true;
}

function compareDefinitions(before: readonly Definition[], after: readonly Definition[]): ArchiveDifference['objects'] {
  const groups = { before: Map.groupBy(before, keyOf), after: Map.groupBy(after, keyOf) };
  const added: ObjectName[] = [];
  const removed: ObjectName[] = [];
  const changed: (ObjectName & { readonly aspects: readonly Aspect[] })[] = [];
  let sameCount = 0;
  for (const key of [...new Set([...groups.before.keys(), ...groups.after.keys()])].sort()) {
    // Several objects may bear one name, such as operators: those that are alike belong together, then the rest in its order.
    const olds = [...(groups.before.get(key) ?? [])];
    const news: Definition[] = [];
    for (const each of groups.after.get(key) ?? []) {
      const at = olds.findIndex((old) => aspectsOf(old, each).length === 0);
      if (at < 0) news.push(each);
      else {
        olds.splice(at, 1);
        sameCount++;
      }
    }
    for (const [index, each] of news.entries()) {
      const old = olds[index];
      if (old === undefined) added.push(nameOf(each));
      else changed.push({ ...nameOf(each), aspects: aspectsOf(old, each) });
    }
    removed.push(...olds.slice(news.length).map(nameOf));
  }
  return { added, removed, changed, sameCount };
}

function keyOf({ kind, name }: Definition): string {
  return JSON.stringify([kind, name]);
}

function nameOf({ kind, name }: Definition): ObjectName {
  return { kind, name };
}

function aspectsOf(before: Definition, after: Definition): readonly Aspect[] {
  return [
    ...(before.sql === after.sql ? [] : (['definition'] as const)),
    ...(before.owner === after.owner ? [] : (['owner'] as const)),
    ...(before.tablespace === after.tablespace ? [] : (['tablespace'] as const)),
    ...(before.accessMethod === after.accessMethod ? [] : (['access method'] as const)),
  ];
}

function compareTables(before: ArchiveInventory, after: ArchiveInventory): readonly TableDifference[] {
  const rows = { before: rowsByName(before), after: rowsByName(after) };
  const names = [...new Set([...rows.before.keys(), ...rows.after.keys()])].sort();
  const isOneEncoding = before.encoding === after.encoding;
  return names.map((table) => {
    const one = rows.before.get(table);
    const other = rows.after.get(table);
    const isBefore = rows.before.has(table);
    const isAfter = rows.after.has(table);
    return {
      table,
      rowsBefore: one?.rows,
      rowsAfter: other?.rows,
      isBefore,
      isAfter,
      same: isBefore && isAfter ? compareRows(one, other, isOneEncoding) : false,
    };
  });
}

/** Undefined for a table whose rows are not in the backup. */
function rowsByName({ tables, tablesWithoutRows }: ArchiveInventory): ReadonlyMap<string, TableRows | undefined> {
  const without = tablesWithoutRows.map((name) => [name, undefined] as const);
  return new Map([...without, ...tables.map((table) => [table.name, table] as const)]);
}

function compareRows(one: TableRows | undefined, other: TableRows | undefined, isOneEncoding: boolean): Sameness {
  if (one === undefined || other === undefined) return undefined;
  if (one.rows !== other.rows) return false;
  if (one.rows === 0) return true;
  if (one.hash === undefined || other.hash === undefined) return undefined;
  if (one.hash === other.hash) return true;
  return isOneEncoding ? false : undefined;
}

function compareSequences(
  before: ReadonlyMap<string, string>,
  after: ReadonlyMap<string, string>,
): ArchiveDifference['sequences'] {
  return [...new Set([...before.keys(), ...after.keys()])]
    .sort()
    .map((name) => ({ name, before: before.get(name), after: after.get(name) }))
    .filter((each) => each.before !== each.after);
}

function compareLargeObjects(
  before: Pick<ArchiveInventory, 'largeObjects'>,
  after: Pick<ArchiveInventory, 'largeObjects'>,
): ArchiveDifference['largeObjects'] {
  const olds = new Map(before.largeObjects.map(({ oid, sha256 }) => [oid, sha256]));
  const news = new Map(after.largeObjects.map(({ oid, sha256 }) => [oid, sha256]));
  const kept = [...news].filter(([oid]) => olds.has(oid));
  return {
    before: olds.size,
    after: news.size,
    added: news.size - kept.length,
    removed: olds.size - kept.length,
    changed: kept.filter(([oid, sha256]) => olds.get(oid) !== sha256).length,
  };
}
