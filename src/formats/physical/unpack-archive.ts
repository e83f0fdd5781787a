import type { FileHandle } from 'node:fs/promises';
import { releaseBlock } from '../../common/block-memory.ts';
import type { ByteStream } from '../../common/bytes.ts';
import { PgarkError } from '../../common/errors.ts';
import type { TarEntry } from '../../postgres/base/tar-header.ts';
import { type TarHandler, TarReader } from '../../postgres/base/tar-reader.ts';
import { readable } from '../../postgres/toc/byte-string.ts';
import { archiveName, type ArchiveOf, SummingHandler } from './archive-files.ts';
import { writeAt } from './fetch-wal.ts';
import type { FileSum } from './file-ledger.ts';
import { cannotWrite, type TargetFolder } from './target-files.ts';

/** A step through an archive. */
export type ArchiveItem =
  | { readonly kind: 'begun'; readonly entry: TarEntry }
  | { readonly kind: 'content'; readonly piece: Uint8Array }
  | { readonly kind: 'ended' };

/**
 * Writes what an archive holds into a folder, and tells of each file what it was when it passed. Errors: `corrupt` for an
 * archive that is none, or that holds what leads out of the folder; `restore-failed` where it cannot be written.
 */
export async function unpackArchive(
  source: ByteStream,
  of: ArchiveOf,
  target: TargetFolder,
  onFile: (file: FileSum) => void,
): Promise<void> {
  await using writer = new FolderWriter(target);
  await writeArchive(source, of, writer, onFile);
}

/** What is done with what an archive holds. */
export interface ItemWriter extends AsyncDisposable {
  write(item: ArchiveItem): Promise<void>;
}

/** Gives a writer what an archive holds, step by step, and tells of each file what it was when the writer was done with it. */
export async function writeArchive(
  source: ByteStream,
  of: ArchiveOf,
  writer: ItemWriter,
  onFile: (file: FileSum) => void,
): Promise<void> {
  const gatherer = new Gatherer();
  const reader = new TarReader(gatherer, archiveName(of));
  const sums = new SummingHandler(of, onFile);
  for await (const block of source) {
    reader.push(block);
    for (const item of gatherer.take()) {
      const writing = writer.write(item);
      // The system writes on another thread meanwhile. What ends, or has begun, is told when it has.
      if (item.kind === 'content') tell(sums, item);
      await writing;
      if (item.kind !== 'content') tell(sums, item);
    }
    releaseBlock(block);
  }
  reader.end();
}

/** Keeps what one block holds, as views of it. */
class Gatherer implements TarHandler {
  #items: ArchiveItem[] = [];

  take(): readonly ArchiveItem[] {
    const items = this.#items;
    this.#items = [];
    return items;
  }

  begun(entry: TarEntry): void {
    this.#items.push({ kind: 'begun', entry });
  }

  content(piece: Uint8Array): void {
    this.#items.push({ kind: 'content', piece });
  }

  ended(): void {
    this.#items.push({ kind: 'ended' });
  }
}

function tell(handler: TarHandler, item: ArchiveItem): void {
  if (item.kind === 'begun') handler.begun(item.entry);
  else if (item.kind === 'content') handler.content(item.piece);
  else handler.ended();
}

/** Writes files and folders as they are. */
export class FolderWriter implements ItemWriter {
  readonly #target: TargetFolder;
  #name = '';
  #file: FileHandle | undefined;
  #at = 0;

  constructor(target: TargetFolder) {
    this.#target = target;
  }

  async write(item: ArchiveItem): Promise<void> {
    if (item.kind === 'begun') await this.#begin(item.entry);
    else if (item.kind === 'content') await this.#append(item.piece);
    else await this.#close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#close();
  }

  async #begin({ kind, name, mode, target }: TarEntry): Promise<void> {
    this.#name = readable(name);
    // Links of tablespaces are in the file tablespace_map, and PostgreSQL sends no others.
    if (kind === 'link') {
      throw new PgarkError(
        'corrupt',
        `the backup holds a link, ${this.#name} to ${readable(target)}, as no base backup does`,
        {
          hint: 'somebody made or changed this archive: do not trust it, and restore another backup',
        },
      );
    }
    this.#at = 0;
    if (kind === 'directory') await this.#target.makeFolder(name, mode);
    else this.#file = await this.#target.create(name, mode);
  }

  async #append(piece: Uint8Array): Promise<void> {
    const at = this.#at;
    this.#at += piece.length;
    try {
      if (this.#file !== undefined) await writeAt(this.#file, piece, at);
    } catch (error) {
      throw cannotWrite(this.#name, this.#target.path, error);
    }
  }

  async #close(): Promise<void> {
    const file = this.#file;
    this.#file = undefined;
    await file?.close();
  }
}
