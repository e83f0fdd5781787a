import { execFile } from 'node:child_process';
import { mkdtemp, readdir, realpath, rm, statfs } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { MIB } from '../../common/bytes.ts';
import { systemClock } from '../../common/clock.ts';
import { messageOf } from '../../common/errors.ts';
import { systemRandom } from '../../common/random.ts';
import {
  digestOf,
  distinctBytes,
  listKeys,
  readObject,
  streamOf,
  textBytes,
  uploadsOf,
} from '../contract/harness.contract.ts';
import { FileStore } from './file-store.ts';

const run = promisify(execFile);

describe('the file store on a file system of its own', () => {
  let root = '';
  let store: FileStore;

  const mount = async (options: string): Promise<void> => {
    try {
      await run('mount', ['-t', 'tmpfs', '-o', options, 'tmpfs', root]);
    } catch (error) {
      throw new Error(`this test mounts a small tmpfs and must run as root (CAP_SYS_ADMIN): ${messageOf(error)}`, {
        cause: error,
      });
    }
  };
  const freeBytes = async (): Promise<number> => {
    const { bfree, bsize } = await statfs(root);
    return bfree * bsize;
  };

  beforeEach(async () => {
    root = await mkdtemp(join(await realpath(tmpdir()), 'pgark-tmpfs-'));
    store = new FileStore({ root, clock: systemClock, random: systemRandom });
    await mount('size=10m,mode=0700');
  });
  afterEach(async () => {
    await run('umount', [root]);
    await rm(root, { recursive: true, force: true });
  });

  test('says that it is full, gives the room back, and has kept what it had', async () => {
    const kept = distinctBytes(3 * MIB);
    await store.putStream('shop/kept', streamOf(kept));
    const before = await freeBytes();
    const tooLong = store.putStream('shop/too-long', streamOf(distinctBytes(20 * MIB)));
    await expect(tooLong).rejects.toMatchObject({
      code: 'store-full',
      message: expect.stringContaining('shop/too-long'),
    });
    expect(await listKeys(store, '')).toEqual(['shop/kept']);
    expect(await uploadsOf(store, '')).toEqual([]);
    expect(await readdir(root, { recursive: true })).toEqual(
      expect.arrayContaining(['.pgark-uploads', 'shop', join('shop', 'kept')]),
    );
    expect(before - (await freeBytes())).toBeLessThan(64 * 1024);
    expect(digestOf(await readObject(store, 'shop/kept'))).toBe(digestOf(kept));
    await store.putStream('shop/fits', streamOf(distinctBytes(5 * MIB)));
    expect(await listKeys(store, '')).toEqual(['shop/fits', 'shop/kept']);
  });

  test('says that it is full for a small object too, keeps the old one, and can delete and tell the time', async () => {
    await store.putSmall('state', textBytes('old'));
    await store.putStream('filler', streamOf(new Uint8Array(await freeBytes())));
    await expect(store.putSmall('state', distinctBytes(100_000))).rejects.toMatchObject({ code: 'store-full' });
    expect(Buffer.from(await readObject(store, 'state')).toString()).toBe('old');
    expect(await uploadsOf(store, '')).toEqual([]);
    await store.now();
    await store.delete('filler');
    await store.putSmall('state', distinctBytes(100_000));
  });

  test('reads from a read-only mount, and says why it cannot write there', async () => {
    await store.putSmall('shop/kept', textBytes('kept'));
    await mount('remount,ro');
    const denied = { code: 'store-access-denied', message: expect.stringContaining('read-only') };
    expect(await store.probe()).toMatchObject({ conditionalWrites: false });
    expect(Buffer.from(await readObject(store, 'shop/kept')).toString()).toBe('kept');
    expect(await listKeys(store, '')).toEqual(['shop/kept']);
    await expect(store.probe({ write: true })).rejects.toMatchObject(denied);
    await expect(store.putSmall('x', textBytes('x'))).rejects.toMatchObject(denied);
    await expect(store.putStream('x', streamOf(textBytes('x')))).rejects.toMatchObject(denied);
    await expect(store.delete('shop/kept')).rejects.toMatchObject(denied);
    await expect(store.now()).rejects.toMatchObject(denied);
    await mount('remount,rw');
    expect(await store.probe({ write: true })).toMatchObject({ conditionalWrites: true });
  });

  test('refuses to publish into another file system that is mounted inside, and leaves nothing', async () => {
    await store.putSmall('inner/x', textBytes('x'));
    await run('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', join(root, 'inner')]);
    try {
      const refused = { code: 'store-unsupported', message: expect.stringContaining('another file system') };
      await expect(store.putStream('inner/y', streamOf(textBytes('y')))).rejects.toMatchObject(refused);
      await expect(store.putSmall('inner/y', textBytes('y'))).rejects.toMatchObject(refused);
      expect(await listKeys(store, '')).toEqual([]);
      expect(await uploadsOf(store, '')).toEqual([]);
    } finally {
      await run('umount', [join(root, 'inner')]);
    }
  });
});
