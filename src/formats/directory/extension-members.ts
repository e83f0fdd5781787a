import { TABLE_DATA, type TocEntry } from '../../postgres/toc/toc.ts';
import { spellings } from './partitions.ts';

/** What users add to members of extensions, and own: it has entries, though the members themselves have none. */
const OF_MEMBERS: ReadonlySet<string> = new Set([TABLE_DATA, 'POLICY', 'ROW SECURITY']);

const SCHEMAS_OF_SERVERS: ReadonlySet<string> = new Set(['pg_catalog', 'information_schema']);
/** Of no schema; every database has them. */
const OF_SERVERS: ReadonlySet<string> = new Set([
  'SCHEMA public',
  'SCHEMA pg_catalog',
  'SCHEMA information_schema',
  'LANGUAGE c',
  'LANGUAGE internal',
  'LANGUAGE plpgsql',
  'LANGUAGE sql',
]);

/** Whether all that it is of has no entry: it came with the server, or is made by an extension. */
export function isOfAbsent({ dependencies }: TocEntry, byId: ReadonlyMap<number, TocEntry>): boolean {
  return dependencies.length > 0 && !dependencies.some((dumpId) => byId.has(dumpId));
}

/** Whether it comes with a member of an extension that is asked for. */
export function isOfMember(entry: TocEntry, byId: ReadonlyMap<number, TocEntry>): boolean {
  return OF_MEMBERS.has(entry.description) && isOfAbsent(entry, byId);
}

export function isOfServer({ namespace, tag }: TocEntry): boolean {
  return namespace === null ? OF_SERVERS.has(tag) : SCHEMAS_OF_SERVERS.has(namespace);
}

/**
 * The extensions that may have made what an entry is of, which no entry says: those of its schema. Where that has none, all:
 * an extension may make schemas of its own.
 */
export function makersOf({ namespace }: TocEntry, extensions: readonly TocEntry[]): readonly TocEntry[] {
  const endings = namespace === null ? [] : spellings(namespace).map((name) => ` WITH SCHEMA ${name};`);
  const inSchema = extensions.filter(({ definition }) =>
    endings.some((ending) => definition?.trimEnd().endsWith(ending)),
  );
  return inSchema.length > 0 ? inSchema : extensions;
}
