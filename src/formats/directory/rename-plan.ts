import { PgarkError } from '../../common/errors.ts';
import { readable } from '../../postgres/toc/byte-string.ts';
import type { TocEntry } from '../../postgres/toc/toc.ts';
import { quoteIdentifier as q } from '../../postgres/client/connect.ts';
import type { NewName } from '../load-source.ts';
import { describeEntry, notThere, qualifiedName, schemaNames } from './find-entries.ts';

/** Of a database, or of a role in it. */
interface Setting {
  readonly name: string;
  readonly value: string;
}

interface Renaming {
  readonly kind: 'table' | 'schema';
  /** Of a table. */
  readonly schema: string;
  readonly from: string;
  readonly to: string;
}

/** PostgreSQL's NAMEDATALEN, less the zero at the end; it cuts longer names without a word. */
const NAME_BYTES_MAX = 63;
const SHOWN_MAX = 3;
/** Those whose names are taken among those of tables of the same schema. */
const NAMED_LIKE_TABLES: ReadonlySet<string> = new Set([
  'TABLE',
  'FOREIGN TABLE',
  'VIEW',
  'MATERIALIZED VIEW',
  'SEQUENCE',
  'INDEX',
  'TYPE',
  'DOMAIN',
]);
/** A new database has it. */
const PUBLIC = 'public';

/**
 * The statements that give tables and schemas other names once all is restored. The server keeps what it has read as a tree
 * (views, foreign keys, policies, defaults) fit for the new names. What it keeps as text (bodies of functions, arguments of
 * triggers) stays as it is, so that the restore is refused if one has the old name as a word. `restored` are all entries
 * that are restored, `settings` those of the database. Errors: `usage`, `restore-failed`.
 */
export function renameStatements(
  names: readonly NewName[],
  restored: readonly TocEntry[],
  settings: readonly Setting[],
): readonly string[] {
  const renamings = names.map((name) => renamingOf(name, restored));
  const froms = renamings.map(({ kind, schema, from }) => JSON.stringify([kind, schema, from]));
  if (new Set(froms).size < froms.length) throw new PgarkError('usage', '--rename names the same thing twice');
  for (const renaming of renamings) {
    checkNewName(renaming, restored);
    refuseTexts(renaming, restored, settings);
  }
  const targets = renamings.map(({ kind, schema, to }) => JSON.stringify([kind, schema, to]));
  if (new Set(targets).size < targets.length) throw new PgarkError('usage', '--rename gives two things the same name');
  // Tables first, while their schemas have the names that the backup knows.
  return [
    ...renamings.flatMap(({ kind, schema, from, to }) =>
      kind === 'table' ? [`ALTER TABLE ${q(schema)}.${q(from)} RENAME TO ${q(to)}`] : [],
    ),
    ...renamings.flatMap(({ kind, from, to }) =>
      kind === 'schema' ? [`ALTER SCHEMA ${q(from)} RENAME TO ${q(to)}`] : [],
    ),
  ];
}

function renamingOf({ from, to }: NewName, restored: readonly TocEntry[]): Renaming {
  const tables = restored.filter(
    (entry) => entry.description === 'TABLE' && (readable(entry.tag) === from || qualifiedName(entry) === from),
  );
  const isSchema = schemaNames(restored).includes(from);
  const [table, another] = tables;
  if (another !== undefined || (table !== undefined && isSchema)) {
    const found = [...tables.map((entry) => `table ${qualifiedName(entry)}`), ...(isSchema ? [`schema ${from}`] : [])];
    throw new PgarkError('usage', `--rename ${from} may mean ${found.join(' or ')}`, {
      hint: 'name a table with its schema: SCHEMA.TABLE',
    });
  }
  if (table !== undefined) {
    const schema = schemaOf(table);
    return { kind: 'table', schema, from: readable(table.tag), to: withoutSchema(to, schema, from) };
  }
  if (isSchema) return { kind: 'schema', schema: '', from, to };
  const names = restored.filter(({ description }) => description === 'TABLE').map(qualifiedName);
  throw notThere('table or schema', from, [...names, ...schemaNames(restored)]);
}

/** The new name of a table may be said with its schema, which has to be the one where it is. */
function withoutSchema(to: string, schema: string, from: string): string {
  if (to.startsWith(`${schema}.`)) return to.slice(schema.length + 1);
  if (!to.includes('.')) return to;
  throw new PgarkError('usage', `--rename ${from}=${to}: a table stays in its schema, ${schema}`, {
    hint: `give it another name there, or rename the schema`,
  });
}

function checkNewName({ kind, schema, from, to }: Renaming, restored: readonly TocEntry[]): void {
  const bytes = Buffer.byteLength(to);
  if (to === '' || bytes > NAME_BYTES_MAX || (kind === 'schema' && to.startsWith('pg_'))) {
    throw new PgarkError('usage', `--rename ${from}=${to}: that is no name that a ${kind} can have`, {
      hint: `a name has up to ${NAME_BYTES_MAX} bytes, and that of a schema does not begin with pg_`,
    });
  }
  const isTaken =
    kind === 'schema'
      ? to === PUBLIC || schemaNames(restored).includes(to) || isThere(restored, 'SCHEMA', to)
      : restored.some(
          (entry) =>
            NAMED_LIKE_TABLES.has(entry.description) && schemaOf(entry) === schema && readable(entry.tag) === to,
        );
  if (!isTaken) return;
  throw new PgarkError(
    'restore-failed',
    `${kind} ${from} cannot be called ${to}: the backup has something of that name`,
  );
}

function schemaOf({ namespace }: TocEntry): string {
  return namespace === null ? '' : readable(namespace);
}

function isThere(restored: readonly TocEntry[], kind: string, name: string): boolean {
  return restored.some(({ description, tag }) => description === kind && readable(tag) === name);
}

function refuseTexts({ kind, from }: Renaming, restored: readonly TocEntry[], settings: readonly Setting[]): void {
  const found = [
    ...restored.filter((entry) => hasWord(textsOf(entry), from)).map(describeEntry),
    ...settings.filter(({ value }) => kind === 'schema' && hasWord(value, from)).map(({ name }) => `setting ${name}`),
  ];
  if (found.length === 0) return;
  const shown = found.slice(0, SHOWN_MAX);
  const more = found.length > SHOWN_MAX ? ` and ${found.length - SHOWN_MAX} more` : '';
  throw new PgarkError(
    'restore-failed',
    `${kind} ${from} cannot be renamed faithfully: PostgreSQL keeps what these say of it as text: ${shown.join(', ')}${more}`,
    { hint: 'restore without --rename, correct them, and rename it by hand; or restore the table alone with --table' },
  );
}

/** What of a definition the server does not take apart: string bodies and settings of functions, arguments of triggers. */
function textsOf({ description, definition }: TocEntry): string {
  const text = definition === null ? '' : readable(definition);
  switch (readable(description)) {
    case 'FUNCTION':
    case 'PROCEDURE': {
      const body = text.indexOf('\n    AS ');
      const settings = text.slice(0, body < 0 ? undefined : body).match(/^ {4}SET .*$/gm) ?? [];
      return [...settings, body < 0 ? '' : text.slice(body)].join('\n');
    }
    case 'TRIGGER':
      return /EXECUTE (?:FUNCTION|PROCEDURE) [^(]*\((.*)\);\s*$/s.exec(text)?.[1] ?? '';
    default:
      return '';
  }
}

/** A name may have a dollar sign in it, but one that stands beside it may as well be that of a body's quotes. */
function hasWord(text: string, name: string): boolean {
  const words = [name, name.replaceAll('"', '""')].map(escapedForPattern);
  return new RegExp(String.raw`(?<![\p{L}\p{N}_])(?:${words.join('|')})(?![\p{L}\p{N}_])`, 'iu').test(text);
}

function escapedForPattern(text: string): string {
  return text.replaceAll(/[\\^$.*+?()[\]{}|/]/g, String.raw`\$&`);
}
