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
