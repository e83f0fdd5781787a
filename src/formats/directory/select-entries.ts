import { nearest } from '../../common/nearest.ts';
import { PgarkError } from '../../common/errors.ts';
import { readable } from '../../postgres/toc/byte-string.ts';
import { TABLE_DATA, type TocEntry } from '../../postgres/toc/toc.ts';
import type { Selection } from '../load-source.ts';

/** What `--table` means: whatever can be read like one, and sequences. */
const RELATIONS: ReadonlySet<string> = new Set(['TABLE', 'FOREIGN TABLE', 'VIEW', 'MATERIALIZED VIEW', 'SEQUENCE']);

/** What belongs to the object that it depends on, and is nothing without it. */
const PARTS: ReadonlySet<string> = new Set([
  TABLE_DATA,
  'CHECK CONSTRAINT',
  'CONSTRAINT',
  'DEFAULT',
  'INDEX',
  'MATERIALIZED VIEW DATA',
  'POLICY',
  'ROW SECURITY',
  'RULE',
  // Of an identity column it is a part of the table; so it is of a serial one.
  'SEQUENCE',
  'STATISTICS',
  'STATISTICS DATA',
  'TRIGGER',
]);

/**
 * What comes along only if all that it depends on does: what joins two objects, and what is said of one, which counts for
 * those too that others need: without its rights a function is everybody's.
 */
const COMPANIONS: ReadonlySet<string> = new Set([
  'ACL',
  'COMMENT',
  'FK CONSTRAINT',
  'INDEX ATTACH',
  'SECURITY LABEL',
  'SEQUENCE OWNED BY',
  'SEQUENCE SET',
  'TABLE ATTACH',
]);

const SUGGESTIONS_MAX = 3;

/**
 * The entries of some tables or schemas: they themselves, with what is a part of them and, of partitioned tables, their
 * partitions; and the definitions, without rows, that they need. Foreign keys to what does not come along are left out.
 * Error: `restore-failed` for a table or schema that is not there.
 */
export function selectEntries(
  entries: readonly TocEntry[],
  { tables, schemas }: Pick<Selection, 'tables' | 'schemas'>,
): ReadonlySet<TocEntry> {
  if (tables.length === 0 && schemas.length === 0) return new Set(entries);
  const byId = new Map(entries.map((entry) => [entry.dumpId, entry]));
  const wanted = new Set<TocEntry>();
  for (const name of tables) for (const entry of tablesNamed(name, entries)) wanted.add(entry);
  for (const name of schemas) for (const entry of entriesOfSchema(name, entries)) wanted.add(entry);
  addPartitions(wanted, entries, byId);

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
    }
  };
  for (const entry of wanted) if (!COMPANIONS.has(entry.description)) addWithNeeds(entry);
  // A part may itself have parts, such as the comment on an index; the TOC has them in this order.
  for (const entry of entries) {
    if (PARTS.has(entry.description) && isPartOf(entry, wanted, byId)) {
      wanted.add(entry);
      addWithNeeds(entry);
    }
  }
  for (const entry of entries) {
    const { description, dependencies } = entry;
    if (
      COMPANIONS.has(description) &&
      dependencies.length > 0 &&
      dependencies.every((id) => isIn(selected, byId.get(id)))
    ) {
      selected.add(entry);
    }
  }
  return selected;
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

/** What the TOC does not have is there anyway. */
function isIn(selected: ReadonlySet<TocEntry>, entry: TocEntry | undefined): boolean {
  return entry === undefined || selected.has(entry);
}

function addPartitions(wanted: Set<TocEntry>, entries: readonly TocEntry[], byId: ReadonlyMap<number, TocEntry>): void {
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

/** `orders` is of any schema, `crm.orders` of that one. */
function tablesNamed(name: string, entries: readonly TocEntry[]): readonly TocEntry[] {
  const relations = entries.filter(({ description }) => RELATIONS.has(description));
  const found = relations.filter((entry) => readable(entry.tag) === name || qualified(entry) === name);
  if (found.length > 0) return found;
  throw notThere('table', name, relations.map(qualified));
}

function entriesOfSchema(name: string, entries: readonly TocEntry[]): readonly TocEntry[] {
  const isOfSchema = ({ description, tag, namespace }: TocEntry): boolean =>
    description === 'SCHEMA' ? readable(tag) === name : namespace !== null && readable(namespace) === name;
  const found = entries.filter(isOfSchema);
  if (found.length > 0) return found;
  const names = entries.flatMap(({ namespace }) => (namespace === null ? [] : readable(namespace)));
  throw notThere('schema', name, [...new Set(names)]);
}

function qualified({ namespace, tag }: TocEntry): string {
  return namespace === null ? readable(tag) : `${readable(namespace)}.${readable(tag)}`;
}

function notThere(what: string, name: string, names: readonly string[]): PgarkError {
  const close = nearest(
    name,
    names.filter((each) => each !== ''),
    SUGGESTIONS_MAX,
  );
  const hint =
    close.length === 0 ? 'pg_restore -l of the downloaded backup lists them' : `did you mean ${close.join(' or ')}?`;
  return new PgarkError('restore-failed', `the backup has no ${what} ${name}`, { hint });
}
