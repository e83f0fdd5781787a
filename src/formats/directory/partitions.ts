import type { TocEntry } from '../../postgres/toc/toc.ts';
import { RELATIONS } from './find-entries.ts';

type EntriesById = ReadonlyMap<number, TocEntry>;

/** Partitioned tables, each with its partitions; these may have partitions of their own. */
export type Partitions = ReadonlyMap<TocEntry, readonly TocEntry[]>;

export function partitionsIn(entries: readonly TocEntry[], byId: EntriesById): Partitions {
  const joined = entries.flatMap((entry) => attachedBy(entry, byId) ?? attachedInside(entry, byId) ?? []);
  const groups = Map.groupBy(joined, ({ whole }) => whole);
  return new Map([...groups].map(([whole, group]) => [whole, group.map(({ partition }) => partition)]));
}

/** Adds the partitions of tables that are in the set, and theirs. */
export function addPartitions(wanted: Set<TocEntry>, partitions: Partitions): void {
  // What is added while a set is iterated has its turn too.
  for (const whole of wanted) for (const partition of partitions.get(whole) ?? []) wanted.add(partition);
}

interface Joined {
  readonly whole: TocEntry;
  readonly partition: TocEntry;
}

/** The entry bears the name of the partition; the other table is the one that it is a part of. */
function attachedBy(entry: TocEntry, byId: EntriesById): Joined | undefined {
  if (entry.description !== 'TABLE ATTACH') return undefined;
  const relations = relationsNeeded(entry, byId);
  const partition = relations.find((each) => each.tag === entry.tag && each.namespace === entry.namespace);
  const whole = relations.find((each) => each !== partition);
  return partition === undefined || whole === undefined ? undefined : { whole, partition };
}

/** Before 14, pg_dump wrote it at the end of the partition's own definition, which needs the other table. */
function attachedInside(entry: TocEntry, byId: EntriesById): Joined | undefined {
  const { definition } = entry;
  if (!RELATIONS.has(entry.description) || definition?.includes(' ATTACH PARTITION ') !== true) return undefined;
  const whole = relationsNeeded(entry, byId).find((each) =>
    namesInSql(each).some((of) =>
      namesInSql(entry).some((name) => definition.includes(`;\nALTER TABLE ONLY ${of} ATTACH PARTITION ${name} `)),
    ),
  );
  return whole && { whole, partition: entry };
}

function relationsNeeded({ dependencies }: TocEntry, byId: EntriesById): readonly TocEntry[] {
  const needed = dependencies.flatMap((dumpId) => byId.get(dumpId) ?? []);
  return needed.filter(({ description }) => RELATIONS.has(description));
}

/** How pg_dump may write its name: each part in quotes, or without. */
export function namesInSql({ namespace, tag }: TocEntry): readonly string[] {
  return spellings(namespace ?? '').flatMap((schema) => spellings(tag).map((name) => `${schema}.${name}`));
}

/** In quotes and without. */
export function spellings(name: string): readonly string[] {
  return [name, `"${name.replaceAll('"', '""')}"`];
}
