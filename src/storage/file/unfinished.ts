import type { BigIntStats } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import { releaseBlock } from '../../common/block-memory.ts';
import { BLOCK_BYTES, type ByteStream } from '../../common/bytes.ts';
import { PgarkError, systemCodeOf } from '../../common/errors.ts';
import type { Random } from '../../common/random.ts';
import type { ObjectKey } from '../object-store.ts';
import { ensureDirectory } from './directories.ts';
import { uploadFileName, workFolderParts } from './layout.ts';
import { giveToOwnerOf } from './owner.ts';
import { io } from './system-errors.ts';

const FILE_MODE = 0o600;
const REMAKES_MAX = 100;
/** IOV_MAX: buffers of one writev(2). */
const BUFFERS_MAX = 1024;

export interface Unfinished {
  readonly fileName: string;
  readonly path: string;
  readonly handle: FileHandle;
}

/** A new file for content that is to become the object. Raw system errors. */
export async function openUnfinished(root: string, key: ObjectKey, random: Random): Promise<Unfinished> {
  for (let remakes = 0; ; remakes += 1) {
    const folder = await ensureDirectory(root, workFolderParts(key), false);
    const fileName = uploadFileName(random);
    const path = join(folder, fileName);
    try {
      const handle = await open(path, 'wx', FILE_MODE);
      await giveToOwnerOf(folder, handle);
      return { fileName, path, handle };
    } catch (error) {
      // Another client tidied the folder away while it was empty.
      if (systemCodeOf(error) !== 'ENOENT' || remakes === REMAKES_MAX) throw error;
    }
  }
}

async function writeAll(handle: FileHandle, buffers: readonly Uint8Array[], bytes: number): Promise<void> {
  const { bytesWritten } = await handle.writev(buffers);
  if (bytesWritten === bytes) return;
  // Short writes come before a full disk or at a limit; the next write says which.
  const rest = Buffer.concat(buffers).subarray(bytesWritten);
  for (let written = 0; written < rest.length; ) {
    written += (await handle.write(rest, written)).bytesWritten;
  }
}

/** Writes the stream, small chunks together; gives its length. The stream's own errors are passed on as they are. */
export async function writeStream(
  handle: FileHandle,
  body: ByteStream,
  doing: string,
  onBytesStored?: (bytesTotal: number) => void,
): Promise<number> {
  let total = 0;
  let gathered: Uint8Array[] = [];
  let gatheredBytes = 0;
  const flush = async (): Promise<void> => {
    if (gatheredBytes === 0) return;
    const [buffers, bytes] = [gathered, gatheredBytes];
    gathered = [];
    gatheredBytes = 0;
    await io(doing, () => writeAll(handle, buffers, bytes));
    for (const block of buffers) releaseBlock(block);
    total += bytes;
    onBytesStored?.(total);
  };
  for await (const block of body) {
    if (block.length === 0) continue;
    gathered.push(block);
    gatheredBytes += block.length;
    if (gatheredBytes >= BLOCK_BYTES || gathered.length === BUFFERS_MAX) await flush();
  }
  await flush();
  return total;
}

/** Makes the content durable and looks whether it has the length that was written. */
export async function finish(handle: FileHandle, bytes: number, doing: string): Promise<BigIntStats> {
  return io(doing, async () => {
    await handle.sync();
    const stat = await handle.stat({ bigint: true });
    if (stat.size !== BigInt(bytes)) {
      throw new PgarkError(
        'store-integrity',
        `cannot ${doing}: ${bytes} bytes were written, and the file has ${stat.size}`,
      );
    }
    return stat;
  });
}
