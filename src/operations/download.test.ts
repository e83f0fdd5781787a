import { createHash } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { MemoryStore } from '../../test/support/memory-store.ts';
import { manifestOf } from '../../test/support/repository-place.ts';
import { systemRandom } from '../common/random.ts';
import { serialiseContents } from '../formats/directory/contents.ts';
import { makeBackupId } from '../repository/ids.ts';
import { keys } from '../repository/keys.ts';
import { type Manifest, serialiseManifest } from '../repository/manifest.ts';
import type { ObjectInfo } from '../storage/object-store.ts';
import { operationContext } from './context.ts';
import { download } from './download.ts';

const TIME = new Date('2026-11-20T02:00:00Z');
let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'pgark-download-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

/** An archive whose table of contents lies, as somebody has written into the storage, at another place than in its folder. */
async function archiveWith(store: MemoryStore, tocName: string): Promise<Manifest> {
  const id = makeBackupId(TIME, 'd', systemRandom);
  const prefix = keys.archivePrefix('main', id);
  const contents = serialiseContents({ layout: 1, files: [], tables: [] });
  const sha256 = createHash('sha256').update(contents).digest('hex');
  const sizes = {
    storedBytes: contents.length,
    storedSha256: sha256,
    plainBytes: contents.length,
    plainSha256: sha256,
  };
  const manifest: Manifest = {
    ...manifestOf(id, 'shop', ['unused']),
    format: 'directory',
    objects: [
      { key: `${prefix}contents.json`, role: 'contents', ...sizes },
      { key: `${prefix}${tocName}`, role: 'toc', ...sizes },
    ],
    compression: { algorithm: 'none', level: 0 },
  };
  await store.putSmall(`${prefix}contents.json`, contents);
  await store.putSmall(keys.manifest('main', 'shop', id), serialiseManifest(manifest));
  // Not every store takes such a name; some do.
  const list = store.list.bind(store);
  store.list = async function* (start, options): AsyncIterable<ObjectInfo> {
    for await (const info of list(start, options)) {
      yield info;
      if (info.key.endsWith('/contents.json')) yield { ...info, key: `${prefix}${tocName}` };
    }
  };
  return manifest;
}

test.each(['../victim', '../../victim', 'sub/toc.dat', '..', '.', 'a\nb'])(
  'a manifest that names a file %j leads to no file beyond the folder',
  async (name) => {
    const store = new MemoryStore();
    await archiveWith(store, name);
    const victim = path.join(folder, 'victim');
    await writeFile(victim, 'not pgark’s');
    const request = {
      store,
      filter: {},
      selector: { kind: 'latest' } as const,
      keys: { identities: [], passphrases: [] },
      folder: path.join(folder, 'target'),
    };
    await expect(download(request, operationContext())).rejects.toMatchObject({ code: 'corrupt' });
    expect(await readFile(victim, 'utf8')).toBe('not pgark’s');
    expect(await readdir(folder)).toEqual(['victim']);
  },
);
