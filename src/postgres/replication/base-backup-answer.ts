import type { Flow } from '../../common/block-queue.ts';
import { PgarkError } from '../../common/errors.ts';
import { StreamSequence } from '../../common/stream-sequence.ts';
import type { Answer } from '../protocol/conversation.ts';
import { MESSAGE } from '../protocol/message.ts';
import { readDataRow } from './data-row.ts';

/** Kinds of CopyData messages from PostgreSQL 15 on, by their first byte. */
const KIND = { archive: 0x6e, data: 0x64, progress: 0x70, manifest: 0x6d } as const;
/** An archive's name and the path of its tablespace, of the 1,024 bytes that paths have at the most. */
const ANNOUNCEMENT_BYTES_MAX = 4 * 1024;

type Row = readonly (string | null)[];

/** What the streams of an answer are; the archives come in the order of the tablespaces that were listed before. */
export type BackupStream = 'archive' | 'manifest';

/**
 * Takes the server's answer to BASE_BACKUP apart (https://www.postgresql.org/docs/current/protocol-replication.html): rows
 * that tell where it begins and which tablespaces there are, the archives and the manifest, a row that tells where it ends.
 */
export class BaseBackupAnswer implements Answer {
  readonly streams: StreamSequence<BackupStream>;
  readonly #isFramed: boolean;
  readonly #onBytes: (bytes: number) => void;
  readonly #results: Row[][] = [];
  readonly #begun = Promise.withResolvers<void>();
  /** Of archives, the base itself included, that have not begun; known when the streams begin. */
  #archivesLeft: number | undefined;
  /** Of the CopyData message that is coming: 0 as long as that is not known. */
  #kind = 0;
  #announcementBytes = 0;
  #chunkBytes = 0;

  /** Before PostgreSQL 15 each stream is a COPY of its own. `onBytes` is told of the bytes of each chunk. */
  constructor(options: { readonly major: number; readonly flow: Flow; readonly onBytes: (bytes: number) => void }) {
    this.#isFramed = options.major >= 15;
    this.#onBytes = options.onBytes;
    this.streams = new StreamSequence(options.flow);
  }

  /** Resolves when the first stream may begin, so that the rows before are there. */
  get begun(): Promise<void> {
    return this.#begun.promise;
  }

  /** Rows by result, in their order. */
  get results(): readonly (readonly Row[])[] {
    return this.#results;
  }

  copyData(chunk: DataView, start: number, end: number, begins: boolean): void {
    this.#chunkBytes += end - start;
    if (!this.#isFramed) {
      this.streams.append(chunk, start, end);
      return;
    }
    if (begins) this.#kind = 0;
    if (start === end) return;
    const isFirst = this.#kind === 0;
    if (isFirst) this.#beginMessage(chunk.getUint8(start));
    const from = isFirst ? start + 1 : start;
    if (this.#kind === KIND.data) this.streams.append(chunk, from, end);
    else this.#skip(end - from);
  }

  chunkRead(): void {
    if (this.#chunkBytes > 0) this.#onBytes(this.#chunkBytes);
    this.#chunkBytes = 0;
  }

  message(type: number, frame: Buffer): void {
    switch (type) {
      case MESSAGE.rowDescription:
        this.#results.push([]);
        break;
      case MESSAGE.dataRow:
        this.#results.at(-1)?.push(readDataRow(frame));
        break;
      case MESSAGE.copyOutResponse:
        this.#beginCopy();
        break;
      case MESSAGE.copyDone:
      case MESSAGE.commandComplete:
        break;
      default:
        throw unexpected(`a message of type 0x${type.toString(16)}`);
    }
  }

  #beginCopy(): void {
    this.#archivesLeft ??= this.#results[1]?.length ?? 0;
    if (!this.#isFramed) this.#beginStream(this.#archivesLeft > 0 ? 'archive' : 'manifest');
    this.#begun.resolve();
  }

  #beginMessage(kind: number): void {
    this.#kind = kind;
    this.#announcementBytes = 0;
    if (kind === KIND.archive) this.#beginStream('archive');
    else if (kind === KIND.manifest) this.#beginStream('manifest');
    else if (kind !== KIND.data && kind !== KIND.progress) throw unexpected(`data of kind 0x${kind.toString(16)}`);
  }

  #beginStream(stream: BackupStream): void {
    if (stream === 'archive') {
      if (this.#archivesLeft === 0) throw unexpected('more archives than tablespaces');
      this.#archivesLeft = (this.#archivesLeft ?? 0) - 1;
    } else if (this.#archivesLeft !== 0) throw unexpected('the manifest before the last archive');
    this.streams.begin(stream);
  }

  /** Names of archives follow from the list of the tablespaces, and progress from what comes. */
  #skip(bytes: number): void {
    this.#announcementBytes += bytes;
    if (this.#announcementBytes > ANNOUNCEMENT_BYTES_MAX) throw unexpected('a message that is too long');
  }
}

function unexpected(what: string): PgarkError {
  return new PgarkError('postgres-failed', `the server answered BASE_BACKUP with ${what}`, {
    hint: 'see whether a proxy or a pooler is between here and the server, and whether this version of pgark knows the server’s',
  });
}
