import { constants } from 'node:fs';
import { access, type FileHandle, mkdtemp, open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** A file for a program that reads no pipe. `await using` removes it. */
export interface PrivateFile extends AsyncDisposable {
  readonly path: string;
}

/** A file system in memory that every Linux has, though it may be small in a container. */
const MEMORY_FOLDER = '/dev/shm';

/**
 * A file with this content that only this user may read. On Linux it has no name: programs open it through `/proc` while
 * this process lives, nothing stays behind whatever ends it, and where there is room it lies in memory.
 */
export async function makePrivateFile(content: Uint8Array): Promise<PrivateFile> {
  if (process.platform === 'linux') {
    try {
      return await makeUnnamed(MEMORY_FOLDER, content);
    } catch {
      // Missing, full or closed to us: an ordinary folder will do.
    }
  }
  return process.platform === 'linux' ? makeUnnamed(tmpdir(), content) : makeNamed(content);
}

async function makeUnnamed(parent: string, content: Uint8Array): Promise<PrivateFile> {
  const folder = await mkdtemp(join(parent, 'pgark-'));
  let file: FileHandle | undefined;
  try {
    file = await open(join(folder, 'file'), 'wx+', 0o600);
    await file.writeFile(content);
    const path = `/proc/${process.pid}/fd/${file.fd}`;
    await access(path, constants.R_OK);
    const held = file;
    return { path, [Symbol.asyncDispose]: () => held.close() };
  } catch (error) {
    await file?.close();
    throw error;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function makeNamed(content: Uint8Array): Promise<PrivateFile> {
  const folder = await mkdtemp(join(tmpdir(), 'pgark-'));
  const remove = (): Promise<void> => rm(folder, { recursive: true, force: true });
  try {
    const path = join(folder, 'file');
    await using file = await open(path, 'wx', 0o600);
    await file.writeFile(content);
    return { path, [Symbol.asyncDispose]: remove };
  } catch (error) {
    await remove();
    throw error;
  }
}
