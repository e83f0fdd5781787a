import { createHash } from 'node:crypto';
import { expect, test } from 'vitest';
import { storeChain } from '../../../test/support/base-chain.ts';
import { DamagingStore } from '../../../test/support/damaging-store.ts';
import { MemoryStore } from '../../../test/support/memory-store.ts';
import type { ManifestObject } from '../../repository/manifest.ts';
import { checkUnrestored } from './check-base.ts';
import { PhysicalObjects } from './physical-objects.ts';

const { signal } = new AbortController();

/** A backup with its sums, and with an object that no restore knows. */
async function scene() {
  const store = new MemoryStore();
  const [{ manifest, folder } = { manifest: undefined, folder: '' }] = await storeChain(store, [{ files: [] }]);
  if (manifest === undefined) throw new Error('there is no backup');
  const put = async (name: string, role: string, content: Buffer): Promise<ManifestObject> => {
    await store.putSmall(folder + name, content);
    const sha256 = createHash('sha256').update(content).digest('hex');
    const bytes = content.length;
    return {
      key: folder + name,
      role,
      storedBytes: bytes,
      storedSha256: sha256,
      plainBytes: bytes,
      plainSha256: sha256,
    };
  };
  const objects = [...manifest.objects, await put('8.tar', 'tablespace', Buffer.from('of no tablespace'))];
  const lines = objects.map(({ key, storedSha256 }) => `${storedSha256}  ${key.slice(folder.length)}\n`);
  objects.push(await put('SHA256SUMS', 'sums', Buffer.from(lines.join(''))));
  return (damaged?: string) => {
    const reads: string[] = [];
    const read = new DamagingStore(store, (key) => {
      reads.push(key.slice(folder.length));
      return key === folder + damaged;
    });
    const access = { store: read, keys: { identities: [], passphrases: [] }, signal };
    return { reads, checking: checkUnrestored(new PhysicalObjects({ ...manifest, objects }, access), signal) };
  };
}

test('reads what no restore reads, and nothing else', async () => {
  const check = await scene();
  const { reads, checking } = check();
  await checking;
  expect(reads).toEqual(['SHA256SUMS', '8.tar']);
});

test.each(['SHA256SUMS', '8.tar'])('names %s where that is damaged', async (name) => {
  const check = await scene();
  await expect(check(name).checking).rejects.toMatchObject({
    code: 'corrupt',
    message: expect.stringContaining(name),
  });
});
