import { mkdtemp, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';

/** A directory of the test's own; `await using` removes it with all that it holds. */
export interface TempDirectory extends AsyncDisposable {
  readonly path: string;
  /** A path inside. */
  join(...parts: string[]): string;
}

export async function makeTempDirectory(): Promise<TempDirectory> {
  const directory = await realpath(await mkdtemp(path.join(tmpdir(), 'pgark-test-')));
  return {
    path: directory,
    join: (...parts) => path.join(directory, ...parts),
    [Symbol.asyncDispose]: () => rm(directory, { recursive: true, force: true, maxRetries: 5 }),
  };
}
