import { createHash } from 'node:crypto';
import { mkdir, open, readdir, rm } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { CompressionAlgorithm } from '../common/compression-levels.ts';
import { inParallel } from '../common/in-parallel.ts';
import { messageOf, PgarkError, systemCodeOf } from '../common/errors.ts';
import type { DownloadFile, DownloadSource } from '../formats/download-source.ts';
import { downloadSource } from '../formats/open-download.ts';
import type { DecryptionKeys } from '../pipeline/encryption/sealer.ts';
import { tallyOf } from '../pipeline/meter.ts';
import type { Manifest } from '../repository/manifest.ts';
import { type BackupFilter, Repository } from '../repository/repository.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import type { OperationContext } from './context.ts';
import { type BackupSelector, findBackup } from './find-backup.ts';
import { whileHeld } from './while-held.ts';

export interface DownloadRequest {
  readonly store: ObjectStore;
  readonly filter: BackupFilter;
  readonly selector: BackupSelector;
  readonly keys: DecryptionKeys;
  /** A folder that is empty, or is made. */
  readonly folder: string;
  /** Of the files that hold data. Default: as they are, or none where the backup's own version of pg_restore reads no such. */
  readonly compression?: CompressionAlgorithm | undefined;
}

export interface DownloadOutcome {
  readonly manifest: Manifest;
  readonly folder: string;
  readonly files: number;
  readonly bytes: number;
  /** What restores the files with stock tools. */
  readonly command: string;
}

/** Files that are written at once. */
const WRITERS = 4;
const SUMS = 'SHA256SUMS';

/**
 * Writes a backup into a folder as the files that PostgreSQL's own tools restore: decrypted, compressed as is wanted,
 * readable to this user alone, with a `SHA256SUMS` that comes last. A failure leaves the folder as it was. Errors: `target-not-empty`, `restore-failed`
 * where the disk does not take it, `corrupt`, `wrong-key`, `key-missing`, `backup-not-found`, `store-…`.
 */
export async function download(request: DownloadRequest, context: OperationContext): Promise<DownloadOutcome> {
  const { store, keys, folder } = request;
  const { signal } = context;
  const found = await findBackup(new Repository(store, context), request.selector, request.filter, context);
  if (found.kind === 'foreign') {
    throw new PgarkError('backup-not-found', `${found.key} was written by another tool, and is a file as it is`, {
      hint: `copy it from ${store.location} with a tool of the storage, or restore it: pgark restore ${found.key} --to-db NAME`,
    });
  }
  const { manifest } = found;
  context.onProgress({ phase: 'checking', subject: manifest.id, bytes: 0 });
  const source = await downloadSource(manifest, { store, keys, signal }, { compression: request.compression });
  for (const { name } of source.files) refuseOtherPlaces(name, manifest);
  const held = { store, manifest, command: 'download', logger: context.logger } as const;
  const written = await whileHeld(held, context, () => writeFiles(source, folder, context));
  return { manifest, folder, ...written, command: source.command(folder) };
}

/** All files of a backup, and the sums of them. */
async function writeFiles(
  source: DownloadSource,
  folder: string,
  { signal, onProgress }: OperationContext,
): Promise<Pick<DownloadOutcome, 'files' | 'bytes'>> {
  const isNew = await makeFolder(folder);
  const tally = tallyOf((bytes) =>
    onProgress({ phase: 'downloading', subject: folder, bytes, bytesTotal: source.storedBytes }),
  );
  const written: string[] = [];
  const sums = new Map<string, string>();
  let bytes = 0;
  try {
    await inParallel(source.files, WRITERS, signal, async (take, either) => {
      for (let file = take(); file !== undefined; file = take()) {
        const path = join(folder, file.name);
        written.push(path);
        const made = await writeFile(path, file, tally(), either);
        sums.set(file.name, made.sha256);
        bytes += made.bytes;
      }
    });
    const lines = source.files.map(({ name }) => `${sums.get(name) ?? ''}  ${name}\n`);
    written.push(join(folder, SUMS));
    await writeFile(join(folder, SUMS), { name: SUMS, open: () => oneBlock(lines.join('')) }, () => {}, signal);
  } catch (error) {
    for (const path of written) await rm(path, { force: true });
    if (isNew) await rm(folder, { recursive: true, force: true });
    throw error;
  }
  return { files: source.files.length + 1, bytes };
}

/** The names come from the storage, into which others may write: none leads out of the folder. Error: `corrupt`. */
function refuseOtherPlaces(name: string, { id }: Manifest): void {
  if (basename(name) === name && !['', '.', '..', SUMS].includes(name) && !/\p{Cc}/u.test(name)) return;
  throw new PgarkError('corrupt', `backup ${id} names ${JSON.stringify(name)}, which is no file of a folder`);
}

/** Whether the folder was made. */
async function makeFolder(folder: string): Promise<boolean> {
  try {
    if ((await mkdir(folder, { recursive: true, mode: 0o700 })) !== undefined) return true;
    if ((await readdir(folder)).length === 0) return false;
  } catch (error) {
    throw cannotWrite(folder, error);
  }
  throw new PgarkError('target-not-empty', `the folder ${folder} is not empty`, {
    hint: 'name one that is empty, or that does not exist yet',
  });
}

async function writeFile(
  path: string,
  file: DownloadFile,
  onStoredBytes: (bytesTotal: number) => void,
  signal: AbortSignal,
): Promise<{ readonly bytes: number; readonly sha256: string }> {
  const hash = createHash('sha256');
  let bytes = 0;
  await using handle = await open(path, 'wx', 0o600).catch((error: unknown) => {
    throw cannotWrite(path, error);
  });
  for await (const block of file.open(onStoredBytes)) {
    signal.throwIfAborted();
    hash.update(block);
    bytes += block.length;
    await handle.writeFile(block).catch((error: unknown) => {
      throw cannotWrite(path, error);
    });
  }
  await handle.sync();
  return { bytes, sha256: hash.digest('hex') };
}

async function* oneBlock(text: string): AsyncGenerator<Uint8Array> {
  yield Buffer.from(text);
}

function cannotWrite(path: string, error: unknown): PgarkError {
  const hint = systemCodeOf(error) === 'ENOSPC' ? 'the disk is full: choose a folder on another one' : undefined;
  return new PgarkError('restore-failed', `cannot write ${path}: ${messageOf(error)}`, {
    cause: error,
    hint: hint ?? 'choose a folder that this user may write to',
  });
}
