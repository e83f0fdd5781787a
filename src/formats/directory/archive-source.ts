import type { ByteStream } from '../../common/bytes.ts';
import { isPgarkError, PgarkError } from '../../common/errors.ts';
import { connect } from '../../postgres/client/connect.ts';
import { withSession } from '../../postgres/client/with-session.ts';
import { chooseLoader, findLoaders } from '../../postgres/client/programs.ts';
import { drain } from '../../pipeline/drain.ts';
import { tallyOf } from '../../pipeline/meter.ts';
import { makePrivateFile } from '../../common/private-file.ts';
import { type ByteString, readable } from '../../postgres/toc/byte-string.ts';
import { clientEncodingOf } from '../../postgres/toc/client-encoding.ts';
import { readToc } from '../../postgres/toc/read-toc.ts';
import { type CustomToc, TABLE_DATA_END, type TocEntry } from '../../postgres/toc/toc.ts';
import { type Manifest, sizesOf } from '../../repository/manifest.ts';
import type { LoadHow, LoadSource, PreparedLoad, ReadThrough, Selection, SourceAccess } from '../load-source.ts';
import { KEY_ROLE } from '../own-key.ts';
import { RequirementsReader, type ServerRequirements } from '../server-requirements.ts';
import { DUMP_HEAD_BYTES, isOutOfStep, readDumpHead } from '../plain/dump-head.ts';
import { loadArchiveFile } from '../plain/load.ts';
import { checkDirectoryToc, checkSums } from './check-lists.ts';
import type { ArchiveContents, ArchiveFile } from './contents.ts';
import { entriesInUtf8 } from './entries-in-utf8.ts';
import { describeEntry, qualifiedName } from './find-entries.ts';
import { inParallel } from '../../common/in-parallel.ts';
import { loadData, type LargeObjectFile, type LoadTask, planTasks, stagesOf } from './load-data.ts';
import { ArchiveObjects, type NamedRole } from './read-archive.ts';
import { renameStatements } from './rename-plan.ts';
import { verifyRows } from './verify-rows.ts';
import { phasesOf, type RestorePhases, useList } from './restore-phases.ts';

/** A backup whose every part is in the store, and whose TOC and list of contents were read and belong together. */
interface OpenedArchive {
  readonly objects: ArchiveObjects;
  readonly contents: ArchiveContents;
  readonly tocBytes: Uint8Array;
  readonly toc: CustomToc;
  readonly phases: RestorePhases;
  readonly tasks: readonly LoadTask[];
  /** Statements that give other names to what is restored. */
  readonly renames: readonly string[];
  /** Those that are read to check it. */
  readonly files: readonly ArchiveFile[];
}

/** Files that are read at once to be checked. */
const READERS = 4;
/** Each of several streams has a few; together they keep the processors busy. */
export const BLOCKS_IN_FLIGHT = 2;

/** Errors: `corrupt` where something is missing or truncated, `wrong-key`, `key-missing`, `store-…`. */
export async function openArchiveBackup(manifest: Manifest, access: SourceAccess): Promise<LoadSource> {
  const archive = await openArchive(new ArchiveObjects(manifest, access));
  const name = archive.objects.folder.replace(/\/$/, '');
  return sourceOf(archive, name, sizesOf(manifest).storedBytes, access.signal);
}

function sourceOf(archive: OpenedArchive, name: string, storedBytes: number, signal: AbortSignal): LoadSource {
  const { manifest } = archive.objects;
  const sourceMajor = Math.floor(manifest.server.versionNum / 10_000);
  return {
    name,
    format: manifest.format,
    storedBytes,
    like: manifest.database,
    sourceMajor,
    server: manifest.server,
    oneTransaction: 'none',
    evidence: archive.contents.tables.every(({ hash }) => hash !== undefined) ? 'hashes' : 'rows',
    recorded: {
      tables: archive.contents.tables.length,
      rows: archive.contents.tables.reduce((sum, { rows }) => sum + rows, 0),
    },
    alsoLeftOut: archive.phases.alsoLeftOut.map(describeEntry),
    withoutRows: archive.phases.gaps.withoutRows.map(qualifiedName),
    leftBehind: archive.phases.gaps.leftBehind.map(describeEntry),
    only: (selection) => {
      const part = partOf(archive, selection);
      const bytes = part.files.reduce((sum, file) => sum + file.storedBytes, 0);
      return sourceOf(part, `${name} (${describeSelection(selection)})`, bytes, signal);
    },
    readThrough: (how) => readThrough(archive, how, signal),
    checkUnloaded: () => checkUnloaded(archive, signal),
    requirements: async () => requirementsOf(archive.phases),
    prepare: (serverMajor, clientDir) => prepare(archive, sourceMajor, serverMajor, clientDir),
  };
}

/** The archive with fewer entries, and what has to be loaded for them. */
function partOf(archive: OpenedArchive, selection: Selection): OpenedArchive {
  const phases = phasesOf(archive.toc, selection);
  const data = new Set([...phases.tables, ...phases.largeObjects].map(({ dumpId }) => dumpId));
  const tasks = archive.tasks.flatMap((task): readonly LoadTask[] => {
    if (task.kind === 'rows') return data.has(task.entry.dumpId) ? [task] : [];
    const objects = task.objects.filter(({ file }) => data.has(file.largeObject?.entry ?? 0));
    return objects.length === 0 ? [] : [{ ...task, objects }];
  });
  const files = tasks.flatMap((task) => (task.kind === 'rows' ? [task.file] : task.objects.map(({ file }) => file)));
  const restored = [...phases.before, ...phases.tables, ...phases.after];
  const settings = archive.objects.manifest.database.properties?.settings ?? [];
  const renames = renameStatements(selection.renames ?? [], restored, settings);
  return { ...archive, phases, tasks, files, renames };
}

function describeSelection({ tables, schemas, sections, excluding, renames = [] }: Selection): string {
  const lists = [
    ['table', tables],
    ['schema', schemas],
    ['section', sections],
    ['without table', excluding?.tables ?? []],
    ['without schema', excluding?.schemas ?? []],
    ['without rows of', excluding?.tableData ?? []],
    ['renamed', renames.map(({ from, to }) => `${from} to ${to}`)],
  ] as const;
  return lists.flatMap(([what, names]) => (names.length === 0 ? [] : [`${what} ${names.join(', ')}`])).join('; ');
}

export async function openArchive(objects: ArchiveObjects): Promise<OpenedArchive> {
  const contents = await objects.contents();
  const files = contents.files.map((file) => objects.objectOf(file));
  objects.checkPresence([...objects.manifest.objects, ...files], await objects.list());
  const tocBytes = await objects.bytesOf('custom-toc');
  const read = readToc(tocBytes).toc;
  if (read.format !== 'custom') {
    throw new PgarkError('corrupt', `${objects.named('custom-toc').key} is no archive in custom format`);
  }
  const toc = { ...read, entries: entriesInUtf8(read) };
  const phases = phasesOf(toc);
  const tasks = tasksOf(contents, phases, objects);
  return { objects, contents, tocBytes, toc, phases, tasks, renames: [], files: contents.files };
}

/**
 * What has to be loaded, if the list of contents has all of what the TOC says that there is. Error: `corrupt` otherwise.
 */
function tasksOf(contents: ArchiveContents, phases: RestorePhases, { manifest }: ArchiveObjects): readonly LoadTask[] {
  const corrupt = (why: string): PgarkError =>
    new PgarkError('corrupt', `the list of the contents of ${manifest.id} does not fit its TOC: ${why}`);
  const tables = new Map(phases.tables.map((entry) => [entry.dumpId, entry]));
  const rows = contents.files.flatMap((file) => {
    // What is left in the place of a table that was cut has no rows.
    if (file.role !== 'data' || (file.piece === undefined && file.plainBytes === TABLE_DATA_END.length)) return [];
    const entry = tables.get(file.piece?.entry ?? 0);
    if (file.piece === undefined || entry === undefined) throw corrupt(`${file.name} is of no table`);
    return [{ kind: 'rows' as const, file, entry, rows: file.piece.rows }];
  });
  const counted = new Map<number, number>();
  for (const task of rows) counted.set(task.entry.dumpId, (counted.get(task.entry.dumpId) ?? 0) + task.rows);
  const recorded = new Map(contents.tables.map(({ entry, rows: count }) => [entry, count]));
  for (const entry of phases.tables) {
    const [count, evidence] = [counted.get(entry.dumpId), recorded.get(entry.dumpId)];
    if (count !== undefined && count === evidence) continue;
    throw corrupt(`${qualifiedName(entry)} has ${count ?? 'no'} rows in its files, and ${evidence ?? 'no'} recorded`);
  }
  return planTasks(rows, largeObjectsOf(contents, phases.largeObjects, corrupt));
}

function largeObjectsOf(
  contents: ArchiveContents,
  entries: readonly TocEntry[],
  corrupt: (why: string) => PgarkError,
): readonly LargeObjectFile[] {
  const missing = new Set(entries.map(({ dumpId }) => dumpId));
  const known = new Set(missing);
  const objects = contents.files.flatMap((file: ArchiveFile) => {
    if (file.role !== 'large-object') return [];
    if (file.largeObject === undefined || !known.has(file.largeObject.entry)) {
      throw corrupt(`${file.name} is no large object of the TOC`);
    }
    missing.delete(file.largeObject.entry);
    return [{ oid: file.largeObject.oid, file }];
  });
  if (missing.size > 0) throw corrupt(`the large objects of entry ${[...missing].join(', ')} are not there`);
  return objects;
}

function requirementsOf({ before, tables, largeObjects, after }: RestorePhases): ServerRequirements {
  const reader = new RequirementsReader();
  for (const { owner, tablespace, definition } of [...before, ...tables, ...largeObjects, ...after]) {
    reader.addRole(readable(owner ?? ('' as ByteString)));
    reader.addTablespace(readable(tablespace ?? ('' as ByteString)));
    for (const line of readable(definition ?? ('' as ByteString)).split('\n')) reader.read(line);
  }
  return reader;
}

async function readThrough(
  { objects, files }: OpenedArchive,
  { unpacks, onStoredBytes }: ReadThrough,
  signal: AbortSignal,
): Promise<void> {
  const tally = tallyOf(onStoredBytes);
  const options = () => ({ onStoredBytes: tally(), blocksInFlightMax: BLOCKS_IN_FLIGHT });
  const named = objects.manifest.objects.map(
    (object) => () => (unpacks ? objects.read(object, options()) : objects.readStored(object, options())),
  );
  const listed = files.map(
    (file) => () =>
      unpacks ? objects.readFile(file, options()) : objects.readStored(objects.objectOf(file), options()),
  );
  await drainAll([...named, ...listed], signal);
}

/** Reads all to their ends, several at a time. */
export async function drainAll(streams: readonly (() => ByteStream)[], signal: AbortSignal): Promise<void> {
  await inParallel(streams, READERS, signal, async (take, either) => {
    for (let open = take(); open !== undefined; open = take()) await drain(open(), either);
  });
}

/** These were read when it was opened. */
const READ_ALREADY: ReadonlySet<string> = new Set<NamedRole | typeof KEY_ROLE>(['custom-toc', 'contents', KEY_ROLE]);
/** Of these it is also checked what they say. */
const LISTS: ReadonlySet<string> = new Set<NamedRole>(['toc', 'sums']);

/** What only stock tools read, and what is left in the place of tables that were cut. */
async function checkUnloaded({ objects, contents, tasks }: OpenedArchive, signal: AbortSignal): Promise<void> {
  await checkDirectoryToc(objects, contents);
  await checkSums(objects, contents);
  const loaded = new Set(
    tasks.flatMap((task) => (task.kind === 'rows' ? [task.file] : task.objects.map(({ file }) => file))),
  );
  const options = { blocksInFlightMax: BLOCKS_IN_FLIGHT };
  const named = objects.manifest.objects
    .filter(({ role }) => !READ_ALREADY.has(role) && !LISTS.has(role))
    .map((object) => () => objects.read(object, options));
  const listed = contents.files
    .filter((file) => !loaded.has(file))
    .map((file) => () => objects.readFile(file, options));
  await drainAll([...named, ...listed], signal);
}

async function prepare(
  archive: OpenedArchive,
  sourceMajor: number,
  serverMajor: number,
  clientDir: string | undefined,
): Promise<PreparedLoad> {
  const head = readDumpHead(archive.tocBytes.subarray(0, DUMP_HEAD_BYTES));
  const loader = chooseLoader(
    'archive',
    await findLoaders(clientDir),
    { server: serverMajor, dump: head?.writtenBy?.major ?? sourceMajor },
    { asText: head !== undefined && isOutOfStep(head) },
  );
  return {
    programVersion: loader.program.version,
    load: (how) => load(archive, { ...loader, dumpMajor: sourceMajor, serverMajor }, how),
  };
}

/**
 * Definitions, then rows and large objects on several connections, then indexes, constraints and all else. Rows are compared
 * before the rest is there: triggers may change them, and rights and row-level security keep even their owner from reading
 * them all. Nothing here is in one transaction.
 */
async function load(
  { objects, contents, tocBytes, toc, phases, tasks, renames }: OpenedArchive,
  means: Omit<Parameters<typeof loadArchiveFile>[1], keyof LoadHow | 'useList'>,
  how: LoadHow,
): Promise<void> {
  const { onStoredBytes, connection, leaveOut, applicationName, logger, clock, signal, verify } = how;
  await using tocFile = await makePrivateFile(tocBytes);
  const restoreEntries = async (entries: readonly TocEntry[], connections: number): Promise<void> => {
    await using list = await makePrivateFile(useList(entries));
    const common = { connection, leaveOut, applicationName, logger, signal };
    await loadArchiveFile(tocFile.path, { ...means, ...common, useList: list.path, jobs: connections });
  };
  await restoreEntries(phases.before, 1);
  const tally = tallyOf(onStoredBytes);
  const encoding = clientEncodingOf(toc);
  const connections = await loadData(stagesOf(tasks, toc.entries), {
    ...how,
    encoding,
    read: (file) => objects.readFile(file, { onStoredBytes: tally(), blocksInFlightMax: BLOCKS_IN_FLIGHT }),
  });
  const loadedMs = clock.monotonicMs();
  if (verify !== undefined) {
    let bytesTotal = 0;
    const onBytesRead = (bytes: number): void => verify.onBytes((bytesTotal += bytes));
    const recorded = new Map(contents.tables.map((table) => [table.entry, table]));
    const tables = phases.tables.map((entry) => ({ rows: 0, ...recorded.get(entry.dumpId), entry }));
    const largeObjects = tasks.flatMap((task) => (task.kind === 'large-objects' ? task.objects : []));
    await verifyRows(tables, largeObjects, { ...how, jobs: connections, encoding, onBytesRead });
    // For whoever is shown what goes on: it is the load again.
    onStoredBytes(0);
  }
  const comparedMs = clock.monotonicMs() - loadedMs;
  await restoreEntries(phases.after, connections);
  how.onLoaded?.(comparedMs);
  if (renames.length > 0) await renameAll(renames, how);
}

/** All of them or none. Error: `restore-failed`. */
async function renameAll(renames: readonly string[], { connection, applicationName, signal }: LoadHow): Promise<void> {
  try {
    await withSession(connect(connection, { applicationName, signal }), signal, (session) =>
      session.query(['BEGIN', ...renames, 'COMMIT'].join('; ')),
    );
  } catch (cause) {
    if (!isPgarkError(cause, 'postgres-failed') && !isPgarkError(cause, 'postgres-privileges')) throw cause;
    throw new PgarkError('restore-failed', `what is restored cannot be renamed: ${cause.message}`, {
      cause,
      hint: 'nothing was kept; correct the cause and restore again',
    });
  }
}
