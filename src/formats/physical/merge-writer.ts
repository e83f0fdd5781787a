import type { FileHandle } from 'node:fs/promises';
import type { TarEntry } from '../../postgres/base/tar-header.ts';
import { type ByteString, readable } from '../../postgres/toc/byte-string.ts';
import { type ArchiveOf, folderOf } from './archive-files.ts';
import { writeAt } from './fetch-wal.ts';
import { IncrementalHead, pathOfIncremental, placePiece } from './incremental-file.ts';
import { MergedFile, type MergedFiles } from './merged-files.ts';
import { cannotWrite, type TargetFolder } from './target-files.ts';
import { type ArchiveItem, FolderWriter, type ItemWriter } from './unpack-archive.ts';

/** As PostgreSQL writes it, it has some lines. */
const LABEL_BYTES_MAX = 64 * 1024;

/** Where a backup of a chain stands, and what is known of all. */
export interface MergeState {
  readonly files: MergedFiles;
  readonly blockBytes: number;
  /** The backup_label of each backup, in the order of the chain. */
  readonly labels: string[];
}

/** An incremental file on its way: its head, then the bytes of its blocks. */
interface Changes {
  readonly path: ByteString;
  readonly head: IncrementalHead;
  blocksAt: number;
}

/**
 * Writes an archive of the newest backup of a chain: whole files as they are; of the others the blocks that there are, to be
 * completed by the backups before.
 */
export class NewestWriter implements ItemWriter {
  readonly #folder: ByteString;
  readonly #target: TargetFolder;
  readonly #state: MergeState;
  readonly #whole: FolderWriter;
  #changes: (Changes & { readonly name: ByteString; readonly file: FileHandle }) | undefined;

  constructor(of: ArchiveOf, target: TargetFolder, state: MergeState) {
    this.#folder = folderOf(of);
    this.#target = target;
    this.#state = state;
    this.#whole = new FolderWriter(target);
  }

  async write(item: ArchiveItem): Promise<void> {
    if (item.kind === 'begun') await this.#begin(item);
    else if (this.#changes === undefined) await this.#whole.write(item);
    else if (item.kind === 'content') await this.#append(item.piece);
    else await this.#end();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#changes?.file.close();
    await this.#whole[Symbol.asyncDispose]();
  }

  async #begin(item: ArchiveItem & { kind: 'begun' }): Promise<void> {
    const { kind, name, bytes, mode } = item.entry;
    const path = (this.#folder + name) as ByteString;
    const merged = kind === 'file' ? pathOfIncremental(path) : undefined;
    if (merged === undefined) return this.#whole.write(item);
    const plainName = merged.slice(this.#folder.length) as ByteString;
    const { blockBytes } = this.#state;
    this.#changes = {
      path: merged,
      name: plainName,
      head: new IncrementalHead({ path, bytes, blockBytes }),
      blocksAt: 0,
      file: await this.#target.create(plainName, mode),
    };
  }

  async #append(piece: Uint8Array): Promise<void> {
    const changes = this.#changes;
    if (changes === undefined) return;
    const rest = changes.head.push(piece);
    if (rest.length === 0) return;
    const { numbers } = changes.head.changed;
    await writePlaced(changes, rest, (index) => numbers[index], {
      file: changes.file,
      name: changes.name,
      target: this.#target,
      blockBytes: this.#state.blockBytes,
    });
  }

  async #end(): Promise<void> {
    const changes = this.#changes;
    if (changes === undefined) return;
    const { path, name, head, file } = changes;
    const merged = new MergedFile({ target: this.#target, name }, head.changed, this.#state.blockBytes);
    try {
      await file.truncate(merged.bytes);
    } catch (error) {
      throw cannotWrite(readable(name), this.#target.path, error);
    }
    this.#changes = undefined;
    await file.close();
    this.#state.files.add(path, merged);
  }
}

/** A file of an older backup that something is wanted of. */
interface Completion {
  readonly merged: MergedFile;
  /** Undefined for a whole one. */
  readonly head: IncrementalHead | undefined;
  readonly blocks: number;
  readonly file: FileHandle;
  blocksAt: number;
}

/** Takes of an archive of an older backup the blocks that newer ones have not. */
export class OlderWriter implements ItemWriter {
  readonly #folder: ByteString;
  readonly #link: number;
  readonly #state: MergeState;
  #completion: Completion | undefined;
  #label: Buffer[] | undefined;
  /** A file that is wholly of this backup and just came to its end. */
  wholeOf: MergedFile | undefined;

  constructor(of: ArchiveOf, link: number, state: MergeState) {
    this.#folder = folderOf(of);
    this.#link = link;
    this.#state = state;
  }

  async write(item: ArchiveItem): Promise<void> {
    if (item.kind === 'begun') await this.#begin(item.entry);
    else if (item.kind === 'content') await this.#append(item.piece);
    else await this.#end();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#completion?.file.close();
  }

  async #begin({ kind, name, bytes }: TarEntry): Promise<void> {
    this.wholeOf = undefined;
    if (kind !== 'file') return;
    const path = (this.#folder + name) as ByteString;
    if (path === 'backup_label' && bytes <= LABEL_BYTES_MAX) this.#label = [];
    const incremental = pathOfIncremental(path);
    const merged = this.#state.files.pending(incremental ?? path);
    if (merged === undefined) return;
    const { blockBytes } = this.#state;
    this.#completion = {
      merged,
      head: incremental === undefined ? undefined : new IncrementalHead({ path, bytes, blockBytes }),
      // Of a whole one that was written to meanwhile, the last block may be a part, which is never wanted.
      blocks: Math.floor(bytes / blockBytes),
      file: await merged.target.reopen(merged.name),
      blocksAt: 0,
    };
    if (incremental === undefined && merged.isUntouched && merged.bytes === bytes) this.wholeOf = merged;
  }

  async #append(piece: Uint8Array): Promise<void> {
    this.#label?.push(Buffer.from(piece));
    const completion = this.#completion;
    if (completion === undefined) return;
    const { merged, head, blocks, file } = completion;
    const rest = head === undefined ? piece : head.push(piece);
    if (rest.length === 0) return;
    const numbers = head?.changed.numbers;
    const numberOf = (index: number): number | undefined => {
      const number = numbers === undefined ? (index < blocks ? index : undefined) : numbers[index];
      return number !== undefined && merged.wants(number) ? number : undefined;
    };
    const { target, name } = merged;
    await writePlaced(completion, rest, numberOf, { file, name, target, blockBytes: this.#state.blockBytes });
  }

  async #end(): Promise<void> {
    if (this.#label !== undefined) this.#state.labels[this.#link] = Buffer.concat(this.#label).toString('utf8');
    this.#label = undefined;
    const completion = this.#completion;
    if (completion === undefined) return;
    this.#completion = undefined;
    await completion.file.close();
    const { merged, head } = completion;
    if (head === undefined) merged.cameWhole();
    else merged.came(head.changed.numbers, this.#link);
  }
}

/** Writes a piece of a sequence of blocks where they go, and moves on in that sequence. */
async function writePlaced(
  sequence: { blocksAt: number },
  piece: Uint8Array,
  numberOf: (index: number) => number | undefined,
  { file, name, target, blockBytes }: { file: FileHandle; name: ByteString; target: TargetFolder; blockBytes: number },
): Promise<void> {
  for (const { from, to, at } of placePiece(sequence.blocksAt, piece.length, blockBytes, numberOf)) {
    await writeAt(file, piece.subarray(from, to), at).catch((error: unknown) => {
      throw cannotWrite(readable(name), target.path, error);
    });
  }
  sequence.blocksAt += piece.length;
}
