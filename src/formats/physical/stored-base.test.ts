import { expect, test } from 'vitest';
import { manifestOf as listOf, tarOf } from '../../../test/support/base-archive.ts';
import { MemoryStore } from '../../../test/support/memory-store.ts';
import { manifestOf } from '../../../test/support/repository-place.ts';
import { bytesOf } from '../../../test/support/streams.ts';
import { once } from '../../common/bytes.ts';
import { assert } from '../../common/errors.ts';
import { systemRandom } from '../../common/random.ts';
import { makeBackupId } from '../../repository/ids.ts';
import { keys } from '../../repository/keys.ts';
import { type Manifest, parseManifest, serialiseManifest } from '../../repository/manifest.ts';
import { SealedStream } from '../sealed-object.ts';
import { PhysicalObjects, UNCOMPRESSED } from './physical-objects.ts';
import { fileCheck } from './stored-base.ts';

const OID = '16400';
const { signal } = new AbortController();
const version = Buffer.from('18\n');
const table = Buffer.from('a table');
const row = Buffer.from('of another tablespace');

/** A stored backup of two archives whose digests are right, whatever its list says of the files. */
async function stored(list: { readonly version?: Uint8Array; readonly more?: string }): Promise<PhysicalObjects> {
  const store = new MemoryStore();
  const id = makeBackupId(new Date('2026-11-20T02:00:00Z'), 'f', systemRandom);
  const put = async (name: string, role: string, content: Uint8Array) => {
    const key = `${keys.basePrefix('main', id)}${name}`;
    const isContentDigested = role === 'backup_manifest';
    const source = once(content);
    const stream = new SealedStream({ key, role, source, seal: UNCOMPRESSED, outlets: 1, isContentDigested });
    const [outlet] = stream.outlets;
    assert(outlet !== undefined, 'the stream has an outlet');
    return (await outlet.put(store, {})).object;
  };
  const objects = [
    await put(`${OID}.tar`, 'tablespace', tarOf([{ name: 'PG_18/1/16401', content: row }])),
    await put(
      'base.tar',
      'base',
      tarOf([
        { name: 'PG_VERSION', content: version },
        { name: 'base/1/2600', content: table },
      ]),
    ),
    await put(
      'backup_manifest',
      'backup_manifest',
      listOf([
        { path: `pg_tblspc/${OID}/PG_18/1/16401`, content: row },
        { path: 'PG_VERSION', content: list.version ?? version },
        { path: 'base/1/2600', content: table },
        ...(list.more === undefined ? [] : [{ path: list.more, content: table }]),
      ]),
    ),
  ];
  const manifest: Manifest = {
    ...manifestOf(id, 'main', []),
    format: 'physical',
    objects,
    compression: { algorithm: 'none', level: 0 },
    tablespaces: [{ oid: OID, location: '/srv/fast' }],
  };
  return new PhysicalObjects(manifest, { store, keys: { identities: [], passphrases: [] }, signal });
}

async function readAll(objects: PhysicalObjects): Promise<readonly string[]> {
  const check = await fileCheck(objects, { signal });
  const read: string[] = [];
  for (const { oid, object } of objects.archives()) {
    read.push(String(await bytesOf(check({ oid })(objects.read(object, { signal })))));
  }
  return read;
}

test('archives pass a check of their files as they are', async () => {
  const read = await readAll(await stored({}));
  expect(read).toEqual([expect.stringContaining('a table'), expect.stringContaining('of another tablespace')]);
});

test.each([
  ['another content', { version: Buffer.from('17\n') }, /PG_VERSION has not the SHA-256 that the server listed/],
  ['another length', { version: Buffer.from('18\n\n') }, /PG_VERSION has 3 bytes in one and 4 in the other/],
  ['a file too few', { more: 'base/1/2601' }, /base\/1\/2601 of archive or backup_manifest are not in the other/],
])('archives with %s do not, though every digest of them is right', async (_what, list, message) => {
  const objects = await stored(list);
  await expect(readAll(objects)).rejects.toMatchObject({ code: 'corrupt', message: expect.stringMatching(message) });
});

test('a manifest may leave out the digest of content whose files are listed, and of nothing else', async () => {
  const { manifest } = await stored({});
  expect(parseManifest(serialiseManifest(manifest), 'a.json').objects.map(({ plainSha256 }) => plainSha256)).toEqual([
    undefined,
    undefined,
    expect.stringMatching(/^[0-9a-f]{64}$/),
  ]);
  const { plainSha256: _, ...object } = manifestOf(manifest.id, 'main', ['a.sql.gz']).objects[0] ?? {};
  const without = Buffer.from(JSON.stringify({ ...manifest, objects: [object] }));
  expect(() => parseManifest(without, 'a.json')).toThrow(/objects\.0\.plainSha256: is missing/);
});
