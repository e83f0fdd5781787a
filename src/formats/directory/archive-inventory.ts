import { PgarkError } from '../../common/errors.ts';
import { type ByteString, readable } from '../../postgres/toc/byte-string.ts';
import { clientEncodingOf } from '../../postgres/toc/client-encoding.ts';
import { readToc } from '../../postgres/toc/read-toc.ts';
import { type CustomToc, SECTION, TABLE_DATA, type TocEntry } from '../../postgres/toc/toc.ts';
import type { Manifest } from '../../repository/manifest.ts';
import type { ArchiveInventory, Definition } from '../inventory.ts';
import type { SourceAccess } from '../load-source.ts';
import type { ArchiveContents } from './contents.ts';
import { entriesInUtf8 } from './entries-in-utf8.ts';
import { qualifiedName } from './find-entries.ts';
import { ArchiveObjects } from './read-archive.ts';

/** Of the archive itself, not of what it holds. */
const OF_THE_ARCHIVE: ReadonlySet<string> = new Set(['ENCODING', 'STDSTRINGS', 'SEARCHPATH']);
/** Told by what they hold; how pg_dump groups them differs by its version. */
const LARGE_OBJECT_ENTRIES: ReadonlySet<string> = new Set(['BLOB', 'BLOB METADATA']);
/** The database itself, which the manifest tells of: a copy of it has another name. */
const DATABASE_ENTRIES: ReadonlySet<string> = new Set(['DATABASE', 'DATABASE PROPERTIES']);
const OF_DATABASES: ReadonlySet<string> = new Set(['ACL', 'COMMENT', 'SECURITY LABEL']);
/** What is computed anew from the rest. */
const COMPUTED: ReadonlySet<string> = new Set(['STATISTICS DATA', 'MATERIALIZED VIEW DATA']);
const SETVAL = /^SELECT pg_catalog\.setval\('.*', (-?\d+), (true|false)\);\n$/s;
const PARTITIONED_KIND = 'p'.charCodeAt(0);
/** As pg_dump writes it on a line of its own, where the table of contents has no relkind yet. */
const PARTITIONED = /^PARTITION BY /m;

/** Errors: `corrupt`, `wrong-key`, `key-missing`, `store-…`. */
export async function archiveInventory(manifest: Manifest, access: SourceAccess): Promise<ArchiveInventory> {
  const objects = new ArchiveObjects(manifest, access);
  const [tocBytes, contents] = await Promise.all([objects.bytesOf('custom-toc'), objects.contents()]);
  const { toc } = readToc(tocBytes);
  if (toc.format !== 'custom') {
    throw new PgarkError('corrupt', `${objects.named('custom-toc').key} is no archive in custom format`);
  }
  return inventoryOf(toc, contents);
}

/** Pure. Error: `corrupt` for a table of contents that does not say its encoding. */
export function inventoryOf(toc: CustomToc, { tables, files }: ArchiveContents): ArchiveInventory {
  const entries = entriesInUtf8(toc);
  const withRows = new Set(entries.filter(({ description }) => description === TABLE_DATA).map(qualifiedName));
  return {
    kind: 'archive',
    encoding: clientEncodingOf(toc),
    definitions: entries.filter(isDefinition).map(definitionOf),
    tables: tables.map(({ schema, name, rows, hash }) => ({ name: `${schema}.${name}`, rows, hash })),
    tablesWithoutRows: entries
      .filter((entry) => isOrdinaryTable(entry) && !withRows.has(qualifiedName(entry)))
      .map(qualifiedName),
    sequences: new Map(
      entries.flatMap((entry) =>
        entry.description === 'SEQUENCE SET' ? [[qualifiedName(entry), positionIn(textOf(entry.definition))]] : [],
      ),
    ),
    largeObjects: files.flatMap(({ largeObject, plainSha256: sha256 }) =>
      largeObject === undefined || sha256 === undefined ? [] : [{ oid: largeObject.oid, sha256 }],
    ),
  };
}

function isDefinition({ description, section, namespace, tag }: TocEntry): boolean {
  if (section === SECTION.data || COMPUTED.has(description)) return false;
  if (OF_THE_ARCHIVE.has(description) || LARGE_OBJECT_ENTRIES.has(description)) return false;
  const isOfDatabase = OF_DATABASES.has(description) && (namespace ?? '') === '' && tag.startsWith('DATABASE ');
  return !isOfDatabase && !DATABASE_ENTRIES.has(description);
}

function isOrdinaryTable({ description, relkind, definition }: TocEntry): boolean {
  if (description !== 'TABLE') return false;
  return relkind === undefined ? !PARTITIONED.test(textOf(definition)) : relkind !== PARTITIONED_KIND;
}

function definitionOf(entry: TocEntry): Definition {
  return {
    kind: readable(entry.description),
    name: qualifiedName(entry),
    sql: textOf(entry.definition),
    owner: textOf(entry.owner),
    tablespace: textOf(entry.tablespace),
    accessMethod: textOf(entry.tableAccessMethod),
  };
}

/** `41`; what is no call of setval stands as it is. */
function positionIn(sql: string): string {
  const [, value, isCalled] = SETVAL.exec(sql) ?? [];
  if (value === undefined) return sql.trim();
  return isCalled === 'true' ? value : `${value}, not used yet`;
}

function textOf(text: ByteString | null): string {
  return text === null ? '' : readable(text);
}
