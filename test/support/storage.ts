import { mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { DeleteObjectCommand } from '@aws-sdk/client-s3';
import { createBucket } from './s3.ts';
import { expectNoSecretsIn } from './secrets.ts';
import { makeTempDirectory } from './temp.ts';

/** A storage of the test's own as pgark is told of it, and what lies in it as any other tool sees it. */
export interface TestStorage extends AsyncDisposable {
  /** The settings that name it. */
  readonly env: Readonly<Record<string, string>>;
  /** As pgark calls it in messages: `file:///tmp/…`, `s3://bucket`. */
  readonly location: string;
  keys(): Promise<string[]>;
  get(key: string): Promise<Buffer>;
  put(key: string, body: string | Uint8Array): Promise<void>;
  remove(key: string): Promise<void>;
}

export async function fileStorage(): Promise<TestStorage & { readonly path: string }> {
  const directory = await makeTempDirectory();
  const root = directory.join('backups');
  await mkdir(root);
  const storage: TestStorage & { readonly path: string } = {
    path: root,
    env: { BACKUP_STORAGE: `file://${root}` },
    location: `file://${root}`,
    async keys() {
      const names = await readdir(root, { recursive: true });
      const files = await Promise.all(
        names.map(async (name) => ((await stat(path.join(root, name))).isFile() ? [name] : [])),
      );
      return files.flat().sort();
    },
    get: (key) => readFile(path.join(root, key)),
    async put(key, body) {
      await mkdir(path.dirname(path.join(root, key)), { recursive: true });
      await writeFile(path.join(root, key), body);
    },
    remove: (key) => rm(path.join(root, key)),
    async [Symbol.asyncDispose]() {
      await expectNoSecretsIn(storage);
      await directory[Symbol.asyncDispose]();
    },
  };
  return storage;
}

export async function s3Storage(): Promise<TestStorage> {
  const bucket = await createBucket();
  return {
    env: { ...bucket.env, BACKUP_PREFIX: 'prefix' },
    location: `s3://${bucket.name}/prefix`,
    keys: async () => (await bucket.listKeys('prefix/')).map((key) => key.slice('prefix/'.length)),
    get: (key) => bucket.get(`prefix/${key}`),
    put: (key, body) => bucket.put(`prefix/${key}`, body),
    async remove(key) {
      await bucket.client.send(new DeleteObjectCommand({ Bucket: bucket.name, Key: `prefix/${key}` }));
    },
    [Symbol.asyncDispose]: () => bucket[Symbol.asyncDispose](),
  };
}
