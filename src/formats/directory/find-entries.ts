import { nearest } from '../../common/nearest.ts';
import { PgarkError } from '../../common/errors.ts';
import { readable } from '../../postgres/toc/byte-string.ts';
import type { TocEntry } from '../../postgres/toc/toc.ts';

/** What `--table` means: whatever can be read like one, and sequences. */
export const RELATIONS: ReadonlySet<string> = new Set([
  'TABLE',
  'FOREIGN TABLE',
  'VIEW',
  'MATERIALIZED VIEW',
  'SEQUENCE',
]);

const SUGGESTIONS_MAX = 3;

/** `orders` is of any schema, `crm.orders` of that one. Error: `restore-failed` for a name that is not there. */
export function tablesNamed(name: string, entries: readonly TocEntry[]): readonly TocEntry[] {
  const relations = entries.filter(({ description }) => RELATIONS.has(description));
  const found = relations.filter((entry) => readable(entry.tag) === name || qualifiedName(entry) === name);
  if (found.length > 0) return found;
  throw notThere('table', name, relations.map(qualifiedName));
}

/** The schema and what lies in it. Error: `restore-failed` for a name that is not there. */
export function entriesOfSchema(name: string, entries: readonly TocEntry[]): readonly TocEntry[] {
  const isOfSchema = ({ description, tag, namespace }: TocEntry): boolean =>
    description === 'SCHEMA' ? readable(tag) === name : namespace !== null && readable(namespace) === name;
  const found = entries.filter(isOfSchema);
  if (found.length > 0) return found;
  throw notThere('schema', name, schemaNames(entries));
}

/** Schemas that have something in them. */
export function schemaNames(entries: readonly TocEntry[]): readonly string[] {
  const names = entries.flatMap(({ namespace }) => (namespace === null ? [] : readable(namespace)));
  return [...new Set(names)].filter((name) => name !== '');
}

/** `public.orders`, for people. */
export function qualifiedName({ namespace, tag }: Pick<TocEntry, 'namespace' | 'tag'>): string {
  return namespace === null ? readable(tag) : `${readable(namespace)}.${readable(tag)}`;
}

/** `VIEW public.totals`, for people. */
export function describeEntry(entry: TocEntry): string {
  return `${readable(entry.description)} ${qualifiedName(entry)}`;
}

export function notThere(what: string, name: string, names: readonly string[]): PgarkError {
  const close = nearest(name, names, SUGGESTIONS_MAX);
  const hint =
    close.length === 0 ? 'pg_restore -l of the downloaded backup lists them' : `did you mean ${close.join(' or ')}?`;
  return new PgarkError('restore-failed', `the backup has no ${what} ${name}`, { hint });
}

/** Adds the partitions of tables that are in the set, and theirs. */
export function addPartitions(
  wanted: Set<TocEntry>,
  entries: readonly TocEntry[],
  byId: ReadonlyMap<number, TocEntry>,
): void {
  for (let before = -1; before < wanted.size; ) {
    before = wanted.size;
    for (const { description, dependencies, tag, namespace } of entries) {
      if (description !== 'TABLE ATTACH') continue;
      // The entry bears the name of the partition; the other table is the one that it is a part of.
      const joined = dependencies.flatMap((dumpId) => byId.get(dumpId) ?? []);
      const relations = joined.filter((each) => RELATIONS.has(each.description));
      const partition = relations.find((each) => each.tag === tag && each.namespace === namespace);
      const whole = relations.find((each) => each !== partition);
      if (partition !== undefined && whole !== undefined && wanted.has(whole)) wanted.add(partition);
    }
  }
}
