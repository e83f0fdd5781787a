import { formatBytes } from '../common/bytes.ts';
import type { ArchiveDifference, ObjectName, TableDifference } from '../operations/diff/compare-archives.ts';
import type { Fact } from '../operations/diff/compare-facts.ts';
import type { FilesDifference } from '../operations/diff/compare-files.ts';
import type { DiffOutcome } from '../operations/diff/diff.ts';
import { type Manifest, sizesOf } from '../repository/manifest.ts';
import { reportError } from './errors.ts';
import { formatCount, formatTable, formatTime } from './table.ts';

type Json = Readonly<Record<string, unknown>>;

/** What differs as `--output json` shows it; absent values are null. */
export function diffJson({ facts, settings, untold, content }: DiffOutcome): Json {
  return {
    facts: facts.map(({ name, before, after }) => ({ name, before: before ?? null, after: after ?? null })),
    settings: settings.map(({ role, name, change }) => ({ role: role ?? null, name, change })),
    untold,
    content: contentJson(content),
  };
}

function contentJson(content: DiffOutcome['content']): Json {
  switch (content.kind) {
    case 'none':
      return {
        kind: 'none',
        why: content.why,
        message: content.message,
        ...(content.error && { error: reportError(content.error) }),
      };
    case 'archive': {
      const { objects, tables, sequences, largeObjects } = content;
      const { added, removed, changed, sameCount } = objects;
      return {
        kind: 'archive',
        same: content.same ?? null,
        objects: { added, removed, changed, same: sameCount },
        tables: tables.map(({ table, rowsBefore, rowsAfter, isBefore, isAfter, same }) => ({
          table,
          in: isBefore && isAfter ? 'both' : isBefore ? 'before' : 'after',
          rows_before: rowsBefore ?? null,
          rows_after: rowsAfter ?? null,
          same: same ?? null,
        })),
        sequences: sequences.map(({ name, before, after }) => ({
          name,
          before: before ?? null,
          after: after ?? null,
        })),
        large_objects: largeObjects,
      };
    }
    case 'files': {
      const { before, after, added, removed, changed, sameCount, unknown, folders, settings } = content;
      return {
        kind: 'files',
        before,
        after,
        added,
        removed,
        changed,
        same: sameCount,
        unknown,
        folders: folders.map(({ folder, bytesBefore, bytesAfter, differing }) => ({
          folder,
          bytes_before: bytesBefore,
          bytes_after: bytesAfter,
          differing,
        })),
        settings,
      };
    }
    default:
      return content satisfies never;
  }
}

/** The same for people: what is as it was is counted and not shown. */
export function describeDiff(before: Manifest, after: Manifest, outcome: DiffOutcome): string {
  const { facts, settings, untold, content } = outcome;
  return [
    describeFacts(before, after, facts),
    settings.map(({ role, name, change }) => `setting ${change}: ${name}${role === undefined ? '' : ` of ${role}`}\n`),
    untold.length === 0 ? '' : `${untold.join(', ')} of the database: not told by the manifests\n`,
    describeContent(content, before, after),
    `\n${describeSameness(outcome)}\n`,
  ]
    .flat()
    .join('');
}

function describeSameness({ same, content }: DiffOutcome): string {
  if (same === true) return 'the backups hold the same';
  if (same === false) return 'the backups differ';
  return content.kind === 'archive'
    ? 'nothing is known to differ; what is marked with ? cannot be compared'
    : 'whether the databases hold the same cannot be told without restoring both';
}

const BYTES: ReadonlySet<string> = new Set(['database_bytes', 'plain_bytes', 'stored_bytes']);

function describeFacts(before: Manifest, after: Manifest, facts: readonly Fact[]): string {
  const always: readonly (readonly [string, string, string])[] = [
    ['id', before.id, after.id],
    ['taken', formatTime(before.startedAt), formatTime(after.startedAt)],
    ['database', `${before.source}/${before.database.name}`, `${after.source}/${after.database.name}`],
    ['stored', formatBytes(sizesOf(before).storedBytes), formatBytes(sizesOf(after).storedBytes)],
  ];
  const told: ReadonlySet<string> = new Set(['source', 'database', 'stored_bytes']);
  const show = (name: string, value: Fact['before']): string =>
    typeof value === 'number' && BYTES.has(name) ? formatBytes(value) : String(value ?? '-');
  return formatTable(
    [{ title: '' }, { title: 'BEFORE' }, { title: 'AFTER' }],
    [
      ...always,
      ...facts
        .filter(({ name }) => !told.has(name))
        .map(({ name, before: old, after: now }) => [name.replaceAll('_', ' '), show(name, old), show(name, now)]),
    ],
  );
}

function describeContent(content: DiffOutcome['content'], before: Manifest, after: Manifest): string {
  switch (content.kind) {
    case 'none':
      return `\nnot compared: ${content.message}\n${content.error === undefined ? '' : `  hint ${content.error.hint}\n`}`;
    case 'archive':
      return describeArchives(content) + describeClients(content, before, after);
    case 'files':
      return describeFiles(content);
    default:
      return content satisfies never;
  }
}

function describeArchives({ objects, tables, sequences, largeObjects }: ArchiveDifference): string {
  const { added, removed, changed, sameCount } = objects;
  const differing = tables.filter(({ same }) => same !== true);
  const name = (each: ObjectName): string => `${each.kind} ${each.name}`;
  const lines = [
    ...added.map((each) => `  + ${name(each)}`),
    ...removed.map((each) => `  - ${name(each)}`),
    ...changed.map((each) => `  ~ ${name(each)} (${each.aspects.join(', ')})`),
  ];
  return [
    `\nobjects: ${added.length} added, ${removed.length} removed, ${changed.length} changed, ${sameCount} the same\n`,
    ...lines.map((line) => `${line}\n`),
    `\ntables: ${differing.length} of ${tables.length} differ or are not known to be the same\n`,
    differing.length === 0 ? '' : describeTables(differing),
    ...sequences.map(
      ({ name: sequence, before, after }) => `sequence ${sequence}: ${before ?? '-'} → ${after ?? '-'}\n`,
    ),
    largeObjects.before + largeObjects.after === 0
      ? ''
      : `large objects: ${largeObjects.before} → ${largeObjects.after} (${largeObjects.added} added, ${largeObjects.removed} removed, ${largeObjects.changed} changed)\n`,
  ].join('');
}

function describeTables(tables: readonly TableDifference[]): string {
  return formatTable(
    [
      { title: 'TABLE' },
      { title: 'ROWS BEFORE', align: 'right' },
      { title: 'AFTER', align: 'right' },
      { title: 'CONTENT' },
    ],
    tables.map((each) => [
      each.table,
      each.rowsBefore === undefined ? '-' : String(each.rowsBefore),
      each.rowsAfter === undefined ? '-' : String(each.rowsAfter),
      describeRows(each),
    ]),
  );
}

function describeRows({ rowsBefore, rowsAfter, isBefore, isAfter, same }: TableDifference): string {
  if (!isBefore) return 'added';
  if (!isAfter) return 'removed';
  if (same === false) return 'differs';
  if (rowsBefore === undefined || rowsAfter === undefined) return '? its rows are not in both backups';
  return '? their hashes cannot be compared';
}

/** Each pg_dump has its own way of writing what is the same. */
function describeClients({ objects }: ArchiveDifference, before: Manifest, after: Manifest): string {
  const isAlike = before.client.version === after.client.version && before.server.version === after.server.version;
  if (isAlike || objects.changed.length === 0) return '';
  return 'the servers or pg_dumps are of different versions: a definition may be written otherwise and mean the same\n';
}

function describeFiles({
  before,
  after,
  added,
  removed,
  changed,
  sameCount,
  unknown,
  folders,
  settings,
}: FilesDifference): string {
  const differing = folders.filter((each) => each.differing > 0);
  return [
    `\nfiles: ${before.files} → ${after.files}, ${formatBytes(before.bytes)} → ${formatBytes(after.bytes)}\n`,
    `  ${added} added, ${removed} removed, ${changed} changed, ${sameCount} the same${unknown === 0 ? '' : `, ${unknown} without checksums`}\n`,
    ...settings.map(({ file, change }) => `  ${file} ${change}\n`),
    differing.length === 0
      ? ''
      : formatTable(
          [
            { title: 'FOLDER' },
            { title: 'BEFORE', align: 'right' },
            { title: 'AFTER', align: 'right' },
            { title: 'FILES THAT DIFFER', align: 'right' },
          ],
          differing.map(({ folder, bytesBefore, bytesAfter, differing: count }) => [
            folder === '' ? '(top)' : folder,
            formatBytes(bytesBefore),
            formatBytes(bytesAfter),
            String(count),
          ]),
        ),
    `a server changes files without changing rows: ${formatCount(changed, 'file')} that changed say nothing of tables\n`,
  ].join('');
}
