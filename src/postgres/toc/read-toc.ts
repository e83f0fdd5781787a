import { type ByteStream, MIB } from '../../common/bytes.ts';
import { PgarkError } from '../../common/errors.ts';
import {
  type CustomEntry,
  DEPENDENCY_MAX,
  type DirectoryEntry,
  FORMAT_BYTES,
  INTEGER_BYTES,
  MAGIC,
  SECTION,
  type Toc,
  type TocEntry,
  type TocHead,
  type TocTime,
  type TocVersion,
} from './toc.ts';
import { damagedToc, type Reading, TocInput } from './toc-input.ts';

interface TocLimits {
  /**
   * How many bytes header and table of contents may take; they are not read any further. The default is 512 MiB: that of
   * a database with 300,000 large objects has 60. The memory needed is this much, and a few times this for contents
   * made to be as bad as can be.
   */
  readonly bytesMax?: number;
}

interface ReadToc {
  readonly toc: Toc;
  /**
   * How many bytes header and table of contents take. In custom format the data follows, and these bytes alone are an
   * archive that pg_restore takes for everything but data; `writeToc` gives them back as they were.
   */
  readonly bytes: number;
}

const BYTES_MAX = 512 * MIB;

/**
 * Reads the table of contents at the start of an archive in custom format, or all of a `toc.dat`. Errors: `corrupt` for
 * what is truncated, damaged or no archive, `archive-unsupported` for another version or format, and beyond the limit.
 */
export function readToc(bytes: Uint8Array, limits: TocLimits = {}): ReadToc {
  const input = new TocInput(limits.bytesMax ?? BYTES_MAX);
  const reading = readAll(input);
  reading.next();
  const step = reading.next(bytes);
  if (step.done !== true) throw truncated(bytes.length);
  if (step.value.format === 'directory' && input.restBytes > 0) throw tooLong(input.takenBytes);
  return { toc: step.value, bytes: input.takenBytes };
}

/**
 * Like `readToc`, of a stream that may go on for long. In custom format no chunk is asked for after the one that holds
 * the end of the table of contents, and the source is left: the dump that writes it is over. Errors of the source pass.
 */
export async function readTocOf(source: ByteStream, limits: TocLimits = {}): Promise<ReadToc> {
  const input = new TocInput(limits.bytesMax ?? BYTES_MAX);
  const reading = readAll(input);
  reading.next();
  let toc: Toc | undefined;
  for await (const chunk of source) {
    if (chunk.length === 0) continue;
    if (toc === undefined) {
      const step = reading.next(chunk);
      if (step.done !== true) continue;
      toc = step.value;
      if (toc.format === 'custom') break;
      if (input.restBytes === 0) continue;
    }
    throw tooLong(input.takenBytes);
  }
  if (toc === undefined) throw truncated(input.takenBytes);
  return { toc, bytes: input.takenBytes };
}

function truncated(bytes: number): PgarkError {
  return new PgarkError('corrupt', `the archive’s table of contents is truncated: it breaks off after ${bytes} bytes`);
}

function tooLong(bytes: number): PgarkError {
  return damagedToc(`its file goes on after its end at byte ${bytes}`);
}

function* readAll(input: TocInput): Reading<Toc> {
  const magic = (yield* input.take(MAGIC.length)).toString('latin1');
  if (magic !== MAGIC)
    throw new PgarkError('corrupt', `this is no archive of pg_dump: it does not begin with ${MAGIC}`);
  const version = knownVersion(yield* input.byte(), yield* input.byte(), yield* input.byte());
  input.oneOf([INTEGER_BYTES], yield* input.byte(), 'the size of an integer');
  const offsetBytes = input.oneOf([4, 8], yield* input.byte(), 'the size of an offset');
  const format = knownFormat(yield* input.byte());
  const head: TocHead = {
    version,
    offsetBytes,
    compression: version >= 15 ? yield* input.byte() : yield* input.integer(),
    createdAt: yield* readTime(input),
    database: yield* input.text(),
    serverVersion: yield* input.text(),
    dumpVersion: yield* input.text(),
  };
  const entryCount = yield* input.integer();
  if (entryCount < 0) throw damagedToc(`it claims to have ${entryCount} entries`);
  if (format === 'directory') {
    const entries: DirectoryEntry[] = [];
    while (entries.length < entryCount) {
      entries.push({ ...(yield* readEntry(input, version)), file: yield* input.requiredText() });
    }
    return { ...head, format, entries };
  }
  const entries: CustomEntry[] = [];
  while (entries.length < entryCount) {
    entries.push({
      ...(yield* readEntry(input, version)),
      offsetState: input.oneOf([1, 2, 3], yield* input.byte(), 'the state of an offset'),
      offset: readOffset(yield* input.take(offsetBytes)),
    });
  }
  return { ...head, format, entries };
}

function knownVersion(major: number, minor: number, revision: number): TocVersion {
  if (major === 1 && revision === 0 && (minor === 14 || minor === 15 || minor === 16)) return minor;
  const isNewer = major > 1 || (major === 1 && minor >= 14);
  throw new PgarkError(
    'archive-unsupported',
    `the archive has format version ${major}.${minor}${revision === 0 ? '' : `.${revision}`}; pgark reads 1.14 to 1.16, which pg_dump 12 to 18 write`,
    isNewer ? { hint: 'a newer version of pgark may read it; pg_restore of the version that wrote it does' } : {},
  );
}

function knownFormat(byte: number): Toc['format'] {
  if (byte === FORMAT_BYTES.custom) return 'custom';
  if (byte === FORMAT_BYTES.directory) return 'directory';
  throw new PgarkError(
    'archive-unsupported',
    `the archive is in a format (${byte}) that is neither custom nor directory`,
  );
}

function* readTime(input: TocInput): Reading<TocTime> {
  return {
    second: yield* input.integer(),
    minute: yield* input.integer(),
    hour: yield* input.integer(),
    day: yield* input.integer(),
    month: yield* input.integer(),
    year: yield* input.integer(),
    isDst: yield* input.integer(),
  };
}

const SECTIONS = Object.values(SECTION);
const OID_MAX = 2 ** 32 - 1;

function* readEntry(input: TocInput, version: TocVersion): Reading<TocEntry> {
  const dumpId = yield* input.integer();
  if (dumpId <= 0) throw damagedToc(`an entry has the id ${dumpId}`);
  return {
    dumpId,
    hasData: input.oneOf([0, 1], yield* input.integer(), 'whether there is data') === 1,
    tableOid: yield* readOid(input),
    oid: yield* readOid(input),
    tag: yield* input.requiredText(),
    description: yield* input.requiredText(),
    section: input.oneOf(SECTIONS, yield* input.integer(), 'a section'),
    definition: yield* input.text(),
    dropStatement: yield* input.text(),
    copyStatement: yield* input.text(),
    namespace: yield* input.text(),
    tablespace: yield* input.text(),
    tableAccessMethod: yield* input.text(),
    relkind: version >= 16 ? yield* input.integer() : undefined,
    owner: yield* input.text(),
    withOids: yield* readWithOids(input),
    dependencies: yield* readDependencies(input),
  };
}

function* readOid(input: TocInput): Reading<number> {
  const oid = yield* input.decimal(OID_MAX);
  if (oid === null) throw damagedToc('an entry has no OID');
  return oid;
}

function* readWithOids(input: TocInput): Reading<boolean> {
  const text = yield* input.text();
  if (text !== 'true' && text !== 'false') throw damagedToc('an entry says neither true nor false of its OIDs');
  return text === 'true';
}

/** Strings, until an absent one. */
function* readDependencies(input: TocInput): Reading<number[]> {
  const dependencies: number[] = [];
  for (;;) {
    const dumpId = yield* input.decimal(DEPENDENCY_MAX);
    if (dumpId === null) return dependencies;
    dependencies.push(dumpId);
  }
}

/** Lowest byte first (`ReadOffset`). */
function readOffset(bytes: Buffer): bigint {
  return bytes.length === 8 ? bytes.readBigUInt64LE(0) : BigInt(bytes.readUInt32LE(0));
}
