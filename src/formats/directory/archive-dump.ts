import { availableParallelism } from 'node:os';
import { aborted } from '../../common/aborted.ts';
import { type ByteStream, MIB, once } from '../../common/bytes.ts';
import { messageOf, PgarkError } from '../../common/errors.ts';
import { inParallel } from '../../common/in-parallel.ts';
import { compressionSuffix } from '../../pipeline/compression.ts';
import { type Session, sqlStateOf } from '../../postgres/client/connect.ts';
import { describeConnection } from '../../postgres/client/connection-parameters.ts';
import { clientEncodingOf } from '../../postgres/toc/client-encoding.ts';
import type { CustomToc } from '../../postgres/toc/toc.ts';
import { writeToc } from '../../postgres/toc/write-toc.ts';
import { IDENTITY_FILE } from '../own-key.ts';
import type { Seal, SealedDigests } from '../sealed-object.ts';
import { type ArchiveContents, evidenceOf, serialiseContents } from './contents.ts';
import { readAll, type ReadPiece } from './crew.ts';
import { SnapshotSession } from './dump-session.ts';
import { type BeginRequest, begin } from './begin.ts';
import { changedType } from './catalogue-changes.ts';
import type { Leader } from './leader.ts';
import {
  type DumpPlan,
  largeObjectFile,
  type LargeObjectPiece,
  type Piece,
  planDump,
  type TablePiece,
} from './piece-plan.ts';
import { HEADS_AT_ONCE, readHeads, readLargeObject, readTablePiece } from './read-piece.ts';

/** More sessions than this are a burden for most servers, whatever reads them. */
const JOBS_MAX = 8;
const PIECE_BYTES = 128 * MIB;
/** Their storage answers no faster than that of large ones. */
const SMALL_FILES_AT_ONCE = 8;
/** Uncompressed text of rows that are compressed in the table. */
const UNFOLDED = 4;

export interface ArchiveDumpRequest extends BeginRequest {
  /** Sessions that read at once. Default: one for each processor, 8 at the most. */
  readonly jobs?: number | undefined;
  /** Tables that are larger are read in pieces of about this size. Default: 128 MiB. */
  readonly pieceBytes?: number | undefined;
  /** For what is compressed and encrypted; some files are what stock tools want. */
  readonly seal: Seal;
  /** Length of each piece as it comes from the server, for watchdogs. */
  readonly onBytesRead: (bytes: number) => void;
}

/** A file of the archive's folder. */
export interface DumpedFile {
  /** With all endings. */
  readonly name: string;
  readonly role: 'toc' | 'custom-toc' | 'contents' | 'sums' | 'key' | ArchiveContents['files'][number]['role'];
  readonly source: ByteStream;
  readonly seal: Seal;
  /** Upper estimate of the stored size. */
  readonly bytesEstimateMax: number;
  /** How many files are put at the same time and share the memory that there is for that. */
  readonly filesAtOnce: number;
  /** Whether the content has a digest of its own. Default: it has. */
  readonly isContentDigested?: boolean;
  /** Told once, when all of it has passed and before any store has confirmed it. */
  readonly onSealed?: (digests: SealedDigests) => void;
}

/** Where the files go. */
export interface ArchiveSink {
  /**
   * Resolves with what is stored. Rejects with the source's own error, where that is the cause: then nothing is stored, and
   * the file may be put again.
   */
  put(file: DumpedFile): Promise<SealedDigests>;
}

/**
 * Dumps a database as pg_dump's directory format, by several sessions at once and in pieces of tables, without a copy on
 * the disk. All files but the last one are put when it resolves; that one, the list of their digests, it gives back.
 * Errors: `dump-failed`, `archive-unsupported`, `postgres-…`, and those of the sink.
 */
export async function dumpArchive(request: ArchiveDumpRequest, sink: ArchiveSink): Promise<DumpedFile> {
  try {
    return await dumpAll(request, sink);
  } catch (error) {
    throw sqlStateOf(error) === NOT_IN_ENCODING ? unreadableName(request, error) : error;
  }
}

/** character_not_in_repertoire */
const NOT_IN_ENCODING = '22021';

/** What is asked of the server is told in UTF-8; only rows come in the database's own bytes. */
function unreadableName({ connection }: ArchiveDumpRequest, cause: unknown): PgarkError {
  return new PgarkError(
    'dump-failed',
    `a name in ${describeConnection(connection)} is no text in UTF-8, as can be where a database has no encoding (SQL_ASCII): ${messageOf(cause)}`,
    { cause, hint: 'back up with format plain, which takes names as they are' },
  );
}

async function dumpAll(request: ArchiveDumpRequest, sink: ArchiveSink): Promise<DumpedFile> {
  const key = await request.seal.sealer?.forMany?.();
  const { leader, toc } = await begin(request);
  try {
    const jobs = request.jobs ?? Math.min(availableParallelism(), JOBS_MAX);
    const seal = key === undefined ? request.seal : { ...request.seal, sealer: key.sealer };
    const dump = new ArchiveDump({ ...request, seal }, sink, { leader, toc, jobs });
    return await dump.run(
      key && { content: key.identityFile.reveal(), seal: { ...OPEN, sealer: request.seal.sealer } },
    );
  } finally {
    await leader.close();
  }
}

class ArchiveDump {
  readonly #request: ArchiveDumpRequest;
  readonly #sink: ArchiveSink;
  readonly #leader: Leader;
  readonly #toc: CustomToc;
  readonly #jobs: number;
  readonly #signal: AbortSignal;
  readonly #plan: DumpPlan;
  readonly #encoding: string;
  readonly #files = new Map<string, ArchiveContents['files'][number]>();
  readonly #sums: string[] = [];

  constructor(
    request: ArchiveDumpRequest,
    sink: ArchiveSink,
    begun: { readonly leader: Leader; readonly toc: CustomToc; readonly jobs: number },
  ) {
    this.#request = request;
    this.#sink = sink;
    this.#leader = begun.leader;
    this.#toc = begun.toc;
    this.#jobs = begun.jobs;
    this.#signal = AbortSignal.any([request.signal, begun.leader.lost]);
    this.#encoding = clientEncodingOf(begun.toc);
    this.#plan = planDump({
      toc: begun.toc,
      tables: begun.leader.facts,
      serverMajor: request.serverMajor,
      pieceBytes: request.pieceBytes ?? PIECE_BYTES,
      largeObjectBytes: begun.leader.largeObjectBytes,
      compression: request.seal.compression.algorithm,
    });
  }

  /** `key` is what opens the other files, if they are sealed for a key of the backup's own. */
  async run(key: { readonly content: string; readonly seal: Seal } | undefined): Promise<DumpedFile> {
    const { pieces, cutTables } = this.#plan;
    await readAll({
      leader: this.#leader,
      jobs: this.#jobs,
      pieces,
      cutTables,
      open: () => this.#open(),
      carryOut: (session, piece, signal) => this.#carryOut(session, piece, signal),
      logger: this.#request.logger,
      signal: this.#signal,
    });
    await this.#leader.confirm();
    await this.#checkTypes();
    // What follows is no business of the server's, which may go on.
    await this.#leader.close();
    await this.#putSmallFiles(key);
    return this.#file('SHA256SUMS', 'sums', this.#sums.join(''), OPEN);
  }

  /** What was read before a type changed, and what was read after it, would not both fit the definition. */
  async #checkTypes(): Promise<void> {
    const tables = this.#plan.pieces.flatMap((piece) => (piece.kind === 'table' ? [piece.oid] : []));
    const changed = await changedType(this.#leader.session, [...new Set(tables)]);
    if (changed === undefined) return;
    throw new PgarkError(
      'dump-failed',
      `type ${changed.type} was changed while the dump read tables that use it, such as ${changed.table}`,
      { hint: 'run the backup again when no migration is under way' },
    );
  }

  #open(): Promise<SnapshotSession> {
    const { connection, applicationName } = this.#request;
    return SnapshotSession.open(connection, this.#leader.snapshot, { applicationName, signal: this.#signal });
  }

  async #carryOut(session: Session, piece: Piece, signal: AbortSignal): Promise<ReadPiece> {
    switch (piece.kind) {
      case 'table':
        return this.#putTablePiece(session, piece, signal);
      case 'large-objects':
        await this.#putLargeObjects(session, piece, signal);
        return { stored: Promise.resolve() };
      default:
        return piece satisfies never;
    }
  }

  async #putTablePiece(session: Session, piece: TablePiece, signal: AbortSignal): Promise<ReadPiece> {
    const { seal, onBytesRead } = this.#request;
    const { entry, pages } = piece;
    const name = nameOf(piece.file, seal);
    const { stream, ended, rows, hash } = readTablePiece(session, piece, {
      encoding: this.#encoding,
      onBytes: onBytesRead,
      signal,
    });
    const unfolded = seal.compression.algorithm === 'none' ? UNFOLDED : 1;
    const putting = this.#put({
      name,
      role: 'data',
      source: stream,
      seal,
      bytesEstimateMax: piece.bytes * unfolded,
      filesAtOnce: this.#jobs,
      // Its rows are hashed as they come.
      isContentDigested: false,
    });
    const stored = putting.then((digests) => {
      const range = pages === undefined ? {} : { pages: { ...pages } };
      const found = { entry, ...range, rows: rows(), hash: hash() };
      this.#files.set(name, { name, role: 'data', ...digests, piece: found });
    });
    await Promise.race([ended, stored]);
    return { stored };
  }

  async #putLargeObjects(
    session: Session,
    { entry, oids, bytes }: LargeObjectPiece,
    signal: AbortSignal,
  ): Promise<void> {
    const { seal, onBytesRead: onBytes } = this.#request;
    const left = oids.filter((oid) => !this.#files.has(nameOf(largeObjectFile(oid), seal)));
    for (let at = 0; at < left.length; at += HEADS_AT_ONCE) {
      signal.throwIfAborted();
      const heads = await readHeads(session, left.slice(at, at + HEADS_AT_ONCE), { onBytes });
      const whole = heads.filter(({ isWhole }) => isWhole);
      await inParallel(whole, SMALL_FILES_AT_ONCE, signal, async (take) => {
        for (let head = take(); head !== undefined; head = take()) {
          const source = once(head.bytes);
          await this.#putLargeObject({ oid: head.oid, entry, source, bytesEstimateMax: 2 * head.bytes.length });
        }
      });
      // The session has one answer to give at a time.
      for (const { oid, bytes: head } of heads.filter(({ isWhole }) => !isWhole)) {
        const source = readLargeObject(session, oid, { onBytes, signal }, head);
        await this.#putLargeObject({ oid, entry, source, bytesEstimateMax: bytes * UNFOLDED });
      }
    }
  }

  async #putLargeObject({
    oid,
    entry,
    ...file
  }: Pick<DumpedFile, 'source' | 'bytesEstimateMax'> & {
    readonly oid: string;
    readonly entry: number;
  }): Promise<void> {
    const { seal } = this.#request;
    const name = nameOf(largeObjectFile(oid), seal);
    const filesAtOnce = this.#jobs * SMALL_FILES_AT_ONCE;
    const stored = await this.#put({ name, role: 'large-object', seal, filesAtOnce, ...file });
    this.#files.set(name, { name, role: 'large-object', ...stored, largeObject: { oid, entry } });
  }

  /** The list of contents comes last, as soon as all that it lists has its digests: it does not wait for what the store says of that. */
  async #putSmallFiles(key: Parameters<ArchiveDump['run']>[0]): Promise<void> {
    const { seal } = this.#request;
    const open = this.#uncompressed;
    const allSealed = Promise.withResolvers<void>();
    let unsealed = 0;
    const putting = (file: DumpedFile, onDigests: (digests: SealedDigests) => void = () => {}) => {
      unsealed += 1;
      const onSealed = (digests: SealedDigests): void => {
        this.#addSum(file, digests);
        onDigests(digests);
        unsealed -= 1;
        if (unsealed === 0) allSealed.resolve();
      };
      return () => this.#sink.put({ ...file, onSealed });
    };
    const puts = [
      putting(this.#file(nameOf('pg_dump.toc', seal), 'custom-toc', writeToc(this.#toc), seal)),
      // pg_restore reads this file only as it is.
      putting(this.#file(nameOf('toc.dat', open), 'toc', writeToc(this.#plan.toc), open)),
      ...(key === undefined
        ? []
        : [putting(this.#file(nameOf(IDENTITY_FILE, key.seal), 'key', key.content, key.seal))]),
      ...this.#plan.smallFiles.map(({ file, role, content }) => {
        const form = role === 'data' ? seal : open;
        const name = nameOf(file, form);
        return putting(this.#file(name, role, content, form), (digests) => {
          this.#files.set(name, { name, role, ...digests });
        });
      }),
    ];
    const putContents = async (signal: AbortSignal): Promise<void> => {
      await Promise.race([allSealed.promise, aborted(signal)]);
      signal.throwIfAborted();
      const name = nameOf('contents.json', seal);
      await this.#put(this.#file(name, 'contents', serialiseContents(this.#contents()), seal));
    };
    // All before the last one are under way when its turn comes.
    await inParallel<(signal: AbortSignal) => Promise<unknown>>(
      [...puts, putContents],
      SMALL_FILES_AT_ONCE,
      this.#signal,
      async (take, signal) => {
        for (let put = take(); put !== undefined; put = take()) await put(signal);
      },
    );
  }

  #contents(): ArchiveContents {
    const files = [...this.#files.values()];
    const pieces = Map.groupBy(
      files.flatMap(({ piece }) => piece ?? []),
      ({ entry }) => entry,
    );
    const tables = this.#plan.tables.map((table) => ({ ...table, ...evidenceOf(pieces.get(table.entry) ?? []) }));
    return { layout: 1, files, tables };
  }

  get #uncompressed(): Seal {
    return { ...OPEN, sealer: this.#request.seal.sealer };
  }

  #file(name: string, role: DumpedFile['role'], content: Uint8Array | string, seal: Seal): DumpedFile {
    const bytes = Buffer.from(content);
    const filesAtOnce = SMALL_FILES_AT_ONCE;
    return { name, role, source: once(bytes), seal, bytesEstimateMax: 2 * bytes.length, filesAtOnce };
  }

  async #put(file: DumpedFile): Promise<SealedDigests> {
    const { storedBytes, storedSha256, plainBytes, plainSha256 } = await this.#sink.put(file);
    this.#addSum(file, { storedSha256 });
    return { storedBytes, storedSha256, plainBytes, plainSha256 };
  }

  #addSum({ name }: DumpedFile, { storedSha256 }: Pick<SealedDigests, 'storedSha256'>): void {
    this.#sums.push(`${storedSha256}  ${name}\n`);
  }
}

const OPEN: Seal = { compression: { algorithm: 'none', level: 0 } };

function nameOf(file: string, { compression, sealer }: Seal): string {
  return `${file}${compressionSuffix(compression.algorithm)}${sealer?.suffix ?? ''}`;
}
