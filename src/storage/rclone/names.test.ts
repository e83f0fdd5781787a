import { expect, test } from 'vitest';
import { systemRandom } from '../../common/random.ts';
import {
  assertRcloneKey,
  clockPath,
  dataPath,
  isRcloneKey,
  isUploadId,
  newUploadId,
  notePath,
  smallPath,
} from './names.ts';

test.each(['.pgark-x', 'a/.pgark-uploads/b', '.pgark-uploads', 'a/.pgark-'])('%j is reserved', (key) => {
  expect(() => assertRcloneKey(key)).toThrow(expect.objectContaining({ code: 'object-key-invalid' }));
  expect(isRcloneKey(key)).toBe(false);
});

test.each(['.pgark/backups/a', 'a.pgark-x', 'pgark-x', 'a/.pgark'])('%j is a key', (key) => {
  expect(() => assertRcloneKey(key)).not.toThrow();
  expect(isRcloneKey(key)).toBe(true);
});

test('all names of the store’s own are reserved, short, and new each time', () => {
  const id = newUploadId(systemRandom);
  expect(isUploadId(id)).toBe(true);
  expect(isUploadId(`${id}/../x`)).toBe(false);
  for (const make of [clockPath, smallPath]) expect(make(systemRandom)).not.toBe(make(systemRandom));
  for (const path of [notePath(id), dataPath(id), smallPath(systemRandom), clockPath(systemRandom)]) {
    expect(isRcloneKey(path)).toBe(false);
    expect(path.length).toBeLessThan(80);
  }
});
