import { mkdir, readdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { systemClock } from '../../src/common/clock.ts';
import { silentLogger } from '../../src/common/log.ts';
import { systemRandom } from '../../src/common/random.ts';
import type { RcloneStoreOptions } from '../../src/storage/rclone/options.ts';
import { findRclone } from '../../src/storage/rclone/environment.ts';
import { RcloneStore } from '../../src/storage/rclone/rclone-store.ts';
import { type S3Login, s3Facts } from './facts.ts';
import { createBucket, type TestBucket } from './s3.ts';
import { makeTempDirectory } from './temp.ts';

export interface RclonePlace extends AsyncDisposable {
  /** rclone.conf with the remotes `disk:` (an alias of `root`) and `ceph:` (the tests' S3 server). */
  readonly configFile: string;
  /** The directory that `disk:` shows. */
  readonly root: string;
  readonly path: string;
  readonly remove: () => Promise<void>;
}

/** A configuration of rclone's own kind, in a directory of the test's own. */
export async function makeRclonePlace(login: S3Login = s3Facts()): Promise<RclonePlace> {
  const directory = await makeTempDirectory();
  const root = path.join(directory.path, 'disk');
  await mkdir(root);
  const configFile = path.join(directory.path, 'rclone.conf');
  const { endpoint, region } = s3Facts();
  const lines = [
    '[disk]',
    'type = alias',
    `remote = ${root}`,
    '[ceph]',
    'type = s3',
    'provider = Ceph',
    `endpoint = ${endpoint}`,
    `region = ${region}`,
    `access_key_id = ${login.accessKey}`,
    `secret_access_key = ${login.secretKey}`,
  ];
  await writeFile(configFile, `${lines.join('\n')}\n`, { mode: 0o600 });
  const remove = async (): Promise<void> => directory[Symbol.asyncDispose]();
  return { configFile, root, path: directory.path, remove, [Symbol.asyncDispose]: remove };
}

/** Both kinds of remotes: one that renames, and one that shows nothing before it is complete. */
export interface RcloneStage extends AsyncDisposable {
  readonly place: RclonePlace;
  readonly bucket: TestBucket;
  readonly remotes: readonly { readonly remote: string; readonly files: () => Promise<string[]> }[];
}

export async function setRcloneStage(): Promise<RcloneStage> {
  const place = await makeRclonePlace();
  const bucket = await createBucket();
  const filesOnDisk = async (): Promise<string[]> => {
    const entries = await readdir(place.root, { recursive: true, withFileTypes: true });
    return entries
      .filter((entry) => entry.isFile())
      .map((entry) => path.relative(place.root, path.join(entry.parentPath, entry.name)));
  };
  return {
    place,
    bucket,
    remotes: [
      { remote: 'disk:', files: filesOnDisk },
      { remote: `ceph:${bucket.name}`, files: () => bucket.listKeys() },
    ],
    [Symbol.asyncDispose]: async () => {
      await bucket.remove();
      await place.remove();
    },
  };
}

export function openRcloneStore(
  options: Pick<RcloneStoreOptions, 'remote'> & Partial<RcloneStoreOptions>,
): RcloneStore {
  return new RcloneStore({
    env: process.env,
    retry: { retriesMax: 2, delayMs: 10, delayMsMax: 100 },
    clock: systemClock,
    random: systemRandom,
    logger: silentLogger,
    ...options,
  });
}

/** A PATH on which `rclone` is a shell script of the test's: `$rclone` is the real program, `$1` the command. */
export async function withScriptedRclone(folder: string, script: string): Promise<Record<string, string | undefined>> {
  const real = findRclone(process.env);
  if (real === undefined) throw new Error('rclone is not installed: run "node scripts/setup.mjs --tests"');
  await mkdir(folder, { recursive: true });
  await writeFile(path.join(folder, 'rclone'), `#!/bin/sh\nrclone=${real}\nfolder='${folder}'\n${script}\n`, {
    mode: 0o755,
  });
  return { ...process.env, PATH: `${folder}${path.delimiter}${process.env['PATH'] ?? ''}` };
}

/** A process for each step takes its time: fewer objects than a page has, which is rclone's business. */
export const rcloneContract = {
  pageObjects: 12,
  keepsMetadata: false,
  conditionalWrites: false,
  namesOneByOne: false,
} as const;
