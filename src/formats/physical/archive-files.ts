import { createHash, type Hash } from 'node:crypto';
import { assert, PgarkError } from '../../common/errors.ts';
import { orderedMap } from '../../pipeline/blocks.ts';
import { type DigestSpan, DigestStream } from '../../pipeline/digest-thread.ts';
import type { Transform } from '../../pipeline/transform.ts';
import type { ManifestFile } from '../../postgres/base/backup-manifest.ts';
import type { TarEntry } from '../../postgres/base/tar-header.ts';
import { type TarHandler, TarReader } from '../../postgres/base/tar-reader.ts';
import { type ByteString, readable } from '../../postgres/toc/byte-string.ts';
import type { FileSum } from './file-ledger.ts';

/** What an archive is of: a tablespace, or the data directory. */
export interface ArchiveOf {
  /** Missing: the data directory. */
  readonly oid?: string | undefined;
}

/** Folder of the data directory in which the files of an archive lie, with its slash: empty for the data directory itself. */
export function folderOf({ oid }: ArchiveOf): ByteString {
  return (oid === undefined ? '' : `pg_tblspc/${oid}/`) as ByteString;
}

/** Name of the archive's object, without the endings of compression and encryption. */
export function archiveName({ oid }: ArchiveOf): string {
  return `${oid ?? 'base'}.tar`;
}

/** Tells the size and digest of each file of an archive; everything else is left to others. */
export class SummingHandler implements TarHandler {
  readonly #folder: ByteString;
  readonly #onFile: (file: FileSum) => void;
  #entry: TarEntry | undefined;
  #hash: Hash | undefined;

  constructor(of: ArchiveOf, onFile: (file: FileSum) => void) {
    this.#folder = folderOf(of);
    this.#onFile = onFile;
  }

  begun(entry: TarEntry): void {
    this.#entry = entry;
    this.#hash = entry.kind === 'file' ? createHash('sha256') : undefined;
  }

  content(piece: Uint8Array): void {
    this.#hash?.update(piece);
  }

  ended(): void {
    assert(this.#entry !== undefined, 'what ends has begun');
    if (this.#hash === undefined) return;
    const { name, bytes } = this.#entry;
    this.#onFile({ path: (this.#folder + name) as ByteString, bytes, sha256: this.#hash.digest('hex') });
  }
}

/** Notes where in a block the contents of files are, for digests that are made elsewhere. */
class SpanHandler implements TarHandler {
  /** Files whose digests are still to come. */
  readonly files: Omit<FileSum, 'sha256'>[] = [];
  readonly #folder: ByteString;
  #entry: TarEntry | undefined;
  #block: Uint8Array | undefined;
  #spans: DigestSpan[] = [];

  constructor(of: ArchiveOf) {
    this.#folder = folderOf(of);
  }

  /** Of a block, which is pushed into the reader by `push`. */
  spansOf(block: Uint8Array, push: (block: Uint8Array) => void): readonly DigestSpan[] {
    this.#block = block;
    this.#spans = [];
    push(block);
    return this.#spans;
  }

  begun(entry: TarEntry): void {
    this.#entry = entry;
  }

  content(piece: Uint8Array): void {
    assert(this.#block !== undefined, 'a piece is of a block');
    const from = piece.byteOffset - this.#block.byteOffset;
    this.#spans.push({ from, to: from + piece.length, isLast: false });
  }

  ended(): void {
    assert(this.#entry !== undefined, 'what ends has begun');
    const { kind, name, bytes } = this.#entry;
    if (kind !== 'file') return;
    const last = bytes === 0 ? { from: 0, to: 0 } : this.#spans.pop();
    assert(last !== undefined, 'the end of a file is in the block that its last byte is in');
    this.#spans.push({ ...last, isLast: true });
    this.files.push({ path: (this.#folder + name) as ByteString, bytes });
  }
}

/** Blocks of an archive that the digests' thread has at a time: so many that what is behind it never waits for one of them alone. */
const LENT_MAX = 6;

/** Passes an archive on unchanged, and tells of its files on the way. Error: `corrupt` for one that is no such archive. */
export function summingFiles(of: ArchiveOf, onFile: (file: FileSum) => void): Transform {
  return async function* summed(source) {
    const handler = new SpanHandler(of);
    const reader = new TarReader(handler, archiveName(of));
    using digests = new DigestStream();
    yield* orderedMap(source, LENT_MAX, async (block) => {
      const spans = handler.spansOf(block, (bytes) => reader.push(bytes));
      return digests.digestSpans(block, spans, (sha256) => {
        const file = handler.files.shift();
        assert(file !== undefined, 'a digest is of a file');
        onFile({ ...file, sha256 });
      });
    });
    reader.end();
  };
}

/** Error: `corrupt` for a file that was listed without its SHA-256. */
export function sumOf({ path, bytes, checksum, algorithm }: ManifestFile): FileSum {
  if (checksum !== undefined && algorithm === 'SHA256') return { path, bytes, sha256: checksum };
  throw new PgarkError('corrupt', `the backup_manifest has no SHA-256 of ${readable(path)}`);
}
