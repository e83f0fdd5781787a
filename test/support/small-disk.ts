import { execFile } from 'node:child_process';
import { statfs } from 'node:fs/promises';
import { promisify } from 'node:util';
import { messageOf } from '../../src/common/errors.ts';
import { makeTempDirectory } from './temp.ts';

const run = promisify(execFile);

/** A disk that is soon full. */
export async function smallDisk(
  mib = 10,
): Promise<AsyncDisposable & { readonly path: string; freeBytes(): Promise<number> }> {
  const directory = await makeTempDirectory();
  try {
    await run('mount', ['-t', 'tmpfs', '-o', `size=${mib}m,mode=0755`, 'tmpfs', directory.path]);
  } catch (error) {
    throw new Error(`this test mounts a small tmpfs and must run as root (CAP_SYS_ADMIN): ${messageOf(error)}`, {
      cause: error,
    });
  }
  return {
    path: directory.path,
    freeBytes: async () => {
      const { bavail, bsize } = await statfs(directory.path);
      return bavail * bsize;
    },
    [Symbol.asyncDispose]: async () => {
      await run('umount', [directory.path]);
      await directory[Symbol.asyncDispose]();
    },
  };
}
