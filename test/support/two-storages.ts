import { writeFile } from 'node:fs/promises';
import { s3Storage, type Storage } from './backups.ts';
import type { TestBucket } from './s3.ts';
import { makeTempDirectory } from './temp.ts';

/** Two buckets, `near` and `far` in this order, and settings by which both answer, or one does not. */
export interface TwoStorages extends AsyncDisposable {
  readonly near: Storage & { readonly bucket: TestBucket };
  readonly far: Storage & { readonly bucket: TestBucket };
  /** Settings for a command; `away`: that storage is at an address where nobody listens. */
  env(away?: 'near' | 'far' | 'both'): Promise<Record<string, string>>;
}

/** `databases` as they stand in a configuration file, and other sections. */
export async function twoStorages(
  databases: Readonly<Record<string, unknown>>,
  sections: Readonly<Record<string, unknown>> = {},
): Promise<TwoStorages> {
  const stack = new AsyncDisposableStack();
  const near = stack.use(await s3Storage());
  const far = stack.use(await s3Storage());
  const directory = stack.use(await makeTempDirectory());
  const storageOf = ({ bucket }: { readonly bucket: TestBucket }, isAway: boolean) => ({
    ...bucket.inFile(isAway ? 'http://127.0.0.1:1' : undefined),
    retry: { attempts: 2, delay: '10ms' },
  });
  return {
    near,
    far,
    async env(away) {
      const file = directory.join(`${away ?? 'all'}.yaml`);
      const storages = {
        near: storageOf(near, away === 'near' || away === 'both'),
        far: storageOf(far, away === 'far' || away === 'both'),
      };
      await writeFile(file, JSON.stringify({ version: 1, storages, databases, ...sections }), { mode: 0o600 });
      return { PGARK_CONFIG: file };
    },
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}
