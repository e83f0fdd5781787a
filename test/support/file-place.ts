import { systemClock } from '../../src/common/clock.ts';
import { systemRandom } from '../../src/common/random.ts';
import { FileStore } from '../../src/storage/file/file-store.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { makeTempDirectory } from './temp.ts';

/** A file store in a directory of the test's own. */
export async function openFileStore(): Promise<{ readonly store: ObjectStore; readonly dispose: () => Promise<void> }> {
  const directory = await makeTempDirectory();
  return {
    store: new FileStore({ root: directory.path, clock: systemClock, random: systemRandom }),
    dispose: async () => {
      await directory[Symbol.asyncDispose]();
    },
  };
}
