import { once } from 'node:events';
import {
  chmod,
  chown,
  lstat,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  realpath,
  rm,
  symlink,
  truncate,
  writeFile,
} from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { MIB } from '../../common/bytes.ts';
import { systemClock } from '../../common/clock.ts';
import { systemRandom } from '../../common/random.ts';
import {
  bytesText,
  distinctBytes,
  listKeys,
  readAll,
  readObject,
  streamOf,
  streamThen,
  textBytes,
  uploadsOf,
} from '../contract/harness.contract.ts';
import { describeObjectStoreContract } from '../object-store.contract.ts';
import { FileStore } from './file-store.ts';
import { claimFileName } from './layout.ts';

const open = (root: string): FileStore => new FileStore({ root, clock: systemClock, random: systemRandom });
const newFolder = async (): Promise<string> => mkdtemp(join(await realpath(tmpdir()), 'pgark-file-store-'));

describeObjectStoreContract(
  'the file store',
  async () => {
    const root = await newFolder();
    return {
      store: open(root),
      reopen: () => Promise.resolve(open(root)),
      dispose: () => rm(root, { recursive: true, force: true }),
    };
  },
  { keepsMetadata: false },
);

describe('the file store', () => {
  let folder = '';
  let root = '';
  let store: FileStore;
  beforeEach(async () => {
    folder = await newFolder();
    root = join(folder, 'backups');
    await mkdir(root, { mode: 0o700 });
    store = open(root);
  });
  afterEach(() => rm(folder, { recursive: true, force: true }));

  const modeOf = async (path: string): Promise<number> => (await lstat(path)).mode & 0o777;

  test('keeps objects as plain files that only their owner may read, in directories alike', async () => {
    await store.putStream('shop/archive/toc.dat', streamOf(textBytes('table of contents')));
    await store.putSmall('shop/state.json', textBytes('{}'));
    expect(await readFile(join(root, 'shop/archive/toc.dat'), 'utf8')).toBe('table of contents');
    expect(await modeOf(join(root, 'shop'))).toBe(0o700);
    expect(await modeOf(join(root, 'shop/archive'))).toBe(0o700);
    expect(await modeOf(join(root, 'shop/archive/toc.dat'))).toBe(0o600);
    expect(await modeOf(join(root, 'shop/state.json'))).toBe(0o600);
    expect(store.location).toBe(`file://${root}`);
  });

  test('removes the folders that a delete leaves empty, and never its own root', async () => {
    await store.putSmall('a/b/c/one', textBytes('1'));
    await store.putSmall('a/two', textBytes('2'));
    await store.delete('a/b/c/one');
    expect(await readdir(join(root, 'a'))).toEqual(['two']);
    await store.delete('a/two');
    await store.putSmall('top', textBytes('3'));
    await store.delete('top');
    expect(await readdir(root, { recursive: true })).toEqual(['.pgark-uploads']);
  });

  test('stores while others delete and tidy the same folders', async () => {
    const turns = Array.from({ length: 40 }, (_, turn) => turn);
    const work = async (name: string): Promise<void> => {
      for (const turn of turns) {
        const key = `deep/er/${name}-${turn}`;
        await (turn % 2 === 0 ? store.putSmall(key, textBytes(key)) : store.putStream(key, streamOf(textBytes(key))));
        await store.delete(key);
      }
    };
    await Promise.all(['a', 'b', 'c', 'd'].map(work));
    expect(await readdir(root, { recursive: true })).toEqual(['.pgark-uploads']);
  });

  test.each([
    ['.pgark-uploads/x', 'reserved'],
    ['shop/.pgark-upload-0', 'reserved'],
    ['.pgark-anything', 'reserved'],
    [`shop/${'x'.repeat(256)}`, '255 bytes'],
    [`shop/${'ü'.repeat(128)}`, '255 bytes'],
  ])('refuses the name %s', async (key, why) => {
    const refused = { code: 'object-key-invalid', message: expect.stringContaining(why) };
    await expect(store.putSmall(key, textBytes('x'))).rejects.toMatchObject(refused);
    await expect(store.get(key)).rejects.toMatchObject(refused);
    await expect(store.delete(key)).rejects.toMatchObject(refused);
    expect(await readdir(root)).toEqual([]);
  });

  test('accepts the repository’s own folder, whose name only looks like a reserved one', async () => {
    await store.putSmall('.pgark/repository.json', textBytes('{}'));
    expect(await listKeys(store, '.pgark/')).toEqual(['.pgark/repository.json']);
    expect(await listKeys(store, '.pgark-uploads/')).toEqual([]);
  });

  test('hides uploads and claims from lists, whatever the prefix', async () => {
    await store.putStream(
      'shop/object',
      streamThen(textBytes('x'), async () => {
        expect(await uploadsOf(store, '')).toHaveLength(1);
        for (const prefix of ['', '.', '.pgark-', '.pgark-uploads/', '.pgark-uploads/shop/']) {
          expect(await listKeys(store, prefix)).toEqual([]);
        }
      }),
    );
  });

  test('says clearly that it cannot keep an object beside a folder of the same name', async () => {
    await store.putSmall('a', textBytes('object'));
    await store.putSmall('b/c', textBytes('object'));
    const refused = { code: 'store-unsupported' };
    await expect(store.putSmall('a/b', textBytes('x'))).rejects.toMatchObject(refused);
    await expect(store.putStream('a/b', streamOf(textBytes('x')))).rejects.toMatchObject(refused);
    await expect(store.putSmall('b', textBytes('x'))).rejects.toMatchObject(refused);
    await expect(store.putStream('b', streamOf(textBytes('x')))).rejects.toMatchObject(refused);
    expect(await listKeys(store, '')).toEqual(['a', 'b/c']);
    expect(await uploadsOf(store, '')).toEqual([]);
  });

  test('deletes an object only when no write of it is about to commit', async () => {
    await store.putSmall('shop/state', textBytes('old'));
    const work = join(root, '.pgark-uploads/shop/state');
    await mkdir(work, { recursive: true });
    await writeFile(join(work, claimFileName(systemRandom)), 'of a writer that is paused, or dead');
    const patient = new FileStore({ root, clock: systemClock, random: systemRandom, claimStaleMs: 50 });
    await patient.delete('shop/state');
    expect(await uploadsOf(store, '')).toEqual([]);
    expect(await store.head('shop/state')).toBeUndefined();
  });

  describe('in a directory that others use too', () => {
    test('follows no symbolic link out of it, neither to read nor to write nor to delete', async () => {
      const outside = join(folder, 'outside');
      await mkdir(outside);
      await writeFile(join(outside, 'secret'), 'not ours');
      await symlink(outside, join(root, 'link'));
      await symlink(join(outside, 'secret'), join(root, 'file-link'));
      await symlink(join(folder, 'nowhere'), join(root, 'broken-link'));
      await store.putSmall('own', textBytes('ours'));
      expect(await listKeys(store, '')).toEqual(['own']);
      expect(await listKeys(store, 'link/')).toEqual([]);
      for (const key of ['link/secret', 'file-link', 'broken-link']) {
        expect(await store.head(key)).toBeUndefined();
        await expect(store.get(key)).rejects.toMatchObject({ code: 'object-not-found' });
        await store.delete(key);
        await expect(store.putSmall(key, textBytes('x'))).rejects.toMatchObject({ code: 'store-unsupported' });
        await expect(store.putStream(key, streamOf(textBytes('x')))).rejects.toMatchObject({
          code: 'store-unsupported',
        });
      }
      expect(await readdir(outside)).toEqual(['secret']);
      expect(await readFile(join(outside, 'secret'), 'utf8')).toBe('not ours');
      expect((await readdir(root)).toSorted()).toEqual(['.pgark-uploads', 'broken-link', 'file-link', 'link', 'own']);
    });

    test('lists regular files only, with names that objects can have', async () => {
      const server = createServer().listen(join(root, 'socket'));
      await once(server, 'listening');
      await writeFile(join(root, 'line\nbreak'), 'x');
      await writeFile(Buffer.concat([Buffer.from(`${root}/latin1-`), Buffer.of(0xfc)]), 'x');
      await mkdir(join(root, 'empty-folder'));
      await writeFile(join(root, 'foreign.sql.gz'), 'x');
      expect(await listKeys(store, '')).toEqual(['foreign.sql.gz']);
      expect(await store.head('socket')).toBeUndefined();
      await expect(store.get('socket')).rejects.toMatchObject({ code: 'object-not-found' });
      server.close();
      await once(server, 'close');
    });

    test('notices that a file is shortened or replaced while it is read', async () => {
      await store.putStream('object', streamOf(distinctBytes(4 * MIB)));
      const shortened = await store.get('object');
      const read = async (): Promise<void> => {
        for await (const block of shortened.body) {
          expect(block.length).toBeGreaterThan(0);
          await truncate(join(root, 'object'), 2 * MIB);
        }
      };
      await expect(read()).rejects.toMatchObject({ code: 'corrupt', message: expect.stringContaining('object') });
      const replaced = await store.get('object');
      await store.putSmall('object', distinctBytes(2 * MIB, 7));
      await expect(readAll(replaced.body)).rejects.toMatchObject({ code: 'store-condition-failed' });
      const deleted = await store.get('object');
      await store.delete('object');
      await expect(readAll(deleted.body)).rejects.toMatchObject({ code: 'object-not-found' });
    });
  });

  describe('whose directory', () => {
    test('is not there yet is an empty store to read from', async () => {
      const fresh = open(join(folder, 'fresh'));
      expect(await fresh.head('x')).toBeUndefined();
      await expect(fresh.get('x')).rejects.toMatchObject({ code: 'object-not-found' });
      expect(await listKeys(fresh, '')).toEqual([]);
      expect(await uploadsOf(fresh, '')).toEqual([]);
      await fresh.delete('x');
      await fresh.abortUpload({ key: 'x', uploadId: `upload-${'0'.repeat(32)}` });
      expect(await readdir(folder)).toEqual(['backups']);
    });

    test('is not there yet refuses writes, and makes it with the first write probe', async () => {
      const fresh = open(join(folder, 'fresh'));
      const missing = { code: 'store-bucket-missing', message: expect.stringContaining('fresh') };
      await expect(fresh.putSmall('x', textBytes('x'))).rejects.toMatchObject(missing);
      await expect(fresh.putStream('x', streamOf(textBytes('x')))).rejects.toMatchObject(missing);
      await expect(fresh.now()).rejects.toMatchObject(missing);
      await expect(fresh.probe()).rejects.toMatchObject(missing);
      await fresh.probe({ write: true });
      expect(await modeOf(join(folder, 'fresh'))).toBe(0o700);
      await fresh.putSmall('x', textBytes('x'));
      expect(await listKeys(fresh, '')).toEqual(['x']);
    });

    test('has no parent, is a file or a link to nowhere is not taken for an empty store', async () => {
      await writeFile(join(folder, 'file'), 'x');
      await symlink(join(folder, 'nowhere'), join(folder, 'broken'));
      const missing = { code: 'store-bucket-missing' };
      for (const name of ['not-mounted/backups', 'file', 'file/backups', 'broken']) {
        await expect(listKeys(open(join(folder, name)), '')).rejects.toMatchObject(missing);
        await expect(open(join(folder, name)).head('x')).rejects.toMatchObject(missing);
      }
    });

    test('has no parent is not made: the path is wrong, or a disk is not mounted', async () => {
      const run = open(join(folder, 'not-mounted/backups')).probe({ write: true });
      await expect(run).rejects.toMatchObject({ code: 'store-bucket-missing' });
      expect(await readdir(folder)).toEqual(['backups']);
    });

    test('is a file says so', async () => {
      await writeFile(join(folder, 'file'), 'x');
      const missing = { code: 'store-bucket-missing', message: expect.stringContaining('not a directory') };
      await expect(open(join(folder, 'file')).probe({ write: true })).rejects.toMatchObject(missing);
      await expect(open(join(folder, 'file')).putSmall('x', textBytes('x'))).rejects.toMatchObject(missing);
    });

    test('is reached by a symbolic link is fine', async () => {
      await symlink(root, join(folder, 'alias'));
      const alias = open(join(folder, 'alias'));
      await alias.putSmall('shop/x', textBytes('x'));
      expect(bytesText(await readObject(store, 'shop/x'))).toBe('x');
      expect(await listKeys(alias, '')).toEqual(['shop/x']);
      await alias.delete('shop/x');
      expect(await listKeys(store, '')).toEqual([]);
    });

    test('must be named by an absolute path', () => {
      expect(() => open('backups')).toThrow('absolute path');
    });

    test('of somebody else is theirs also in what root writes', async () => {
      const nobody = 65_534;
      await store.probe({ write: true });
      await chmod(folder, 0o755);
      await chown(join(folder, 'backups'), nobody, nobody);
      for (const each of await readdir(join(folder, 'backups')))
        await rm(join(folder, 'backups', each), { recursive: true });
      await store.putSmall('.pgark/pins/x', textBytes('x'));
      await store.putStream('shop/data/y', streamOf(textBytes('y')));
      process.seteuid?.(nobody);
      try {
        expect(await listKeys(store, '')).toEqual(['.pgark/pins/x', 'shop/data/y']);
        await store.putSmall('.pgark/pins/x', textBytes('another'));
        await store.delete('shop/data/y');
        await store.delete('.pgark/pins/x');
      } finally {
        process.seteuid?.(0);
      }
    });

    test('may not be written by this user is told apart from a missing one, in every call', async () => {
      await store.putSmall('shop/x', textBytes('x'));
      await chmod(folder, 0o755);
      const denied = { code: 'store-access-denied', hint: expect.stringContaining('right to read and write') };
      const nobody = 65_534;
      process.seteuid?.(nobody);
      try {
        // The directory is 0700 and root's: not even its names can be looked up.
        await expect(store.probe()).rejects.toMatchObject(denied);
        await expect(store.head('shop/x')).rejects.toMatchObject(denied);
        await expect(store.get('shop/x')).rejects.toMatchObject(denied);
        await expect(listKeys(store, '')).rejects.toMatchObject(denied);
        await expect(uploadsOf(store, '')).rejects.toMatchObject(denied);
        await expect(store.putSmall('shop/y', textBytes('y'))).rejects.toMatchObject(denied);
        await expect(store.putStream('shop/y', streamOf(textBytes('y')))).rejects.toMatchObject(denied);
        await expect(store.delete('shop/x')).rejects.toMatchObject(denied);
        await expect(store.now()).rejects.toMatchObject(denied);
        await expect(open(join(folder, 'other')).probe({ write: true })).rejects.toMatchObject(denied);
      } finally {
        process.seteuid?.(0);
      }
      expect(await listKeys(store, '')).toEqual(['shop/x']);
    });
  });
});
