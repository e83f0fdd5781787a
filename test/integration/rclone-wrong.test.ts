import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { inspect } from 'node:util';
import { describe, expect, test } from 'vitest';
import { listKeys, readObject, streamOf, textBytes, uploadsOf } from '../../src/storage/contract/harness.contract.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { s3Facts } from '../support/facts.ts';
import { makeRclonePlace, openRcloneStore, setRcloneStage, withScriptedRclone } from '../support/rclone.ts';
import { createS3User } from '../support/s3.ts';

const failureOf = async (run: Promise<unknown>): Promise<unknown> => {
  try {
    return await run;
  } catch (error) {
    return error;
  }
};

const calls = (store: ObjectStore): readonly (() => Promise<unknown>)[] => [
  () => store.probe(),
  () => store.probe({ write: true }),
  () => store.head('a'),
  () => store.get('a'),
  () => store.now(),
  () => store.putSmall('a', textBytes('x')),
  () => store.putStream('a', streamOf(textBytes('x'))),
  () => listKeys(store, ''),
  () => listKeys(store, 'folder/'),
  () => uploadsOf(store, ''),
];
const all = async (store: ObjectStore, expected: object): Promise<void> => {
  for (const call of calls(store)) await expect(call()).rejects.toMatchObject({ name: 'PgarkError', ...expected });
};

describe('what is wrong with a storage of rclone', () => {
  test('is said of a remote that rclone does not know', async () => {
    await using place = await makeRclonePlace();
    const store = openRcloneStore({ remote: 'nowhere:x', configFile: place.configFile });
    await all(store, {
      code: 'storage-config-invalid',
      message: expect.stringContaining("rclone:nowhere:x can do: didn't find section in config file"),
      hint: expect.stringContaining('rclone config'),
    });
  });

  test('is said where rclone is missing', async () => {
    await using place = await makeRclonePlace();
    const store = openRcloneStore({ remote: 'disk:', configFile: place.configFile, env: { ...process.env, PATH: '' } });
    await all(store, { code: 'store-unsupported', hint: expect.stringContaining('apt-get install rclone') });
  });

  test('is said of a bucket that is missing, and none is made', async () => {
    await using place = await makeRclonePlace();
    const store = openRcloneStore({ remote: 'ceph:no-such-bucket-here/path', configFile: place.configFile });
    await all(store, { code: 'store-bucket-missing' });
    await all(openRcloneStore({ remote: 'ceph:', configFile: place.configFile }), { code: 'storage-config-invalid' });
  });

  test('is said of a folder that is missing, until a backup is made', async () => {
    await using place = await makeRclonePlace();
    const store = openRcloneStore({ remote: 'disk:typo', configFile: place.configFile });
    await expect(listKeys(store, '')).rejects.toMatchObject({ code: 'store-bucket-missing' });
    await expect(store.head('a')).rejects.toMatchObject({ code: 'store-bucket-missing' });
    await store.probe({ write: true });
    expect(await listKeys(store, '')).toEqual([]);
  });

  test('is said of a server that does not answer', async () => {
    await using place = await makeRclonePlace();
    const env = { ...process.env, RCLONE_CONFIG_CEPH_ENDPOINT: 'http://127.0.0.1:1' };
    const store = openRcloneStore({
      remote: 'ceph:bucket',
      configFile: place.configFile,
      env,
      retry: { retriesMax: 0 },
    });
    await expect(store.probe()).rejects.toMatchObject({
      code: 'store-unreachable',
      message: expect.stringMatching(/127\.0\.0\.1:1.*connection refused/u),
    });
  });

  test('is said of wrong credentials, without showing them, in messages or in arguments', async () => {
    await using stage = await setRcloneStage();
    const env = {
      ...(await withScriptedRclone(
        path.join(stage.place.path, 'bin'),
        'echo "$@" >> "$folder/arguments"; exec $rclone "$@"',
      )),
      RCLONE_CONFIG_CEPH_SECRET_ACCESS_KEY: 'not-the-secret',
      RCLONE_VERBOSE: '2',
      RCLONE_DUMP: 'headers,auth',
    };
    const store = openRcloneStore({ remote: `ceph:${stage.bucket.name}`, configFile: stage.place.configFile, env });
    for (const call of calls(store)) {
      const error = await failureOf(call());
      expect(error).toMatchObject({
        code: 'store-credentials-rejected',
        message: expect.stringContaining('SignatureDoesNotMatch'),
      });
      expect(inspect(error, { depth: 10 })).not.toMatch(/not-the-secret|Signature=|Authorization/u);
    }
    const said = await readFile(path.join(stage.place.path, 'bin', 'arguments'), 'utf8');
    expect(said).not.toContain('not-the-secret');
    expect(said).not.toContain(s3Facts().secretKey);
  });

  test('is said to who may only read, and lets him read', async () => {
    await using stage = await setRcloneStage();
    await stage.bucket.put('kept', 'kept');
    await using place = await makeRclonePlace(await createS3User({ readOnlyBuckets: [stage.bucket] }));
    const store = openRcloneStore({ remote: `ceph:${stage.bucket.name}`, configFile: place.configFile });
    expect(await store.probe()).toMatchObject({ conditionalWrites: false });
    expect(Buffer.from(await readObject(store, 'kept')).toString()).toBe('kept');
    const denied = { code: 'store-access-denied' };
    await expect(store.probe({ write: true })).rejects.toMatchObject(denied);
    await expect(store.putSmall('new', textBytes('x'))).rejects.toMatchObject(denied);
    await expect(store.putStream('new', streamOf(textBytes('x')))).rejects.toMatchObject(denied);
    await expect(store.delete('kept')).rejects.toMatchObject(denied);
    expect(await stage.bucket.listKeys()).toEqual(['kept']);
  });
});
