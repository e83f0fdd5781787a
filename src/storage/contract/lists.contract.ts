import { describe, expect, test } from 'vitest';
import type { ObjectInfo } from '../object-store.ts';
import { type ContractContext, inParallel, listKeys, textBytes } from './harness.contract.ts';

export function describeLists(context: ContractContext): void {
  const putAll = async (keys: readonly string[]): Promise<void> => {
    await inParallel(keys.map((key) => () => context.store.putSmall(key, textBytes(key))));
  };

  describe('a list', () => {
    test('is exact about its prefix, also in the middle of a name', async () => {
      const folder = context.folder();
      const shop = [`${folder}shop/a`, `${folder}shop/b/c`];
      const shopEu = [`${folder}shop-eu/a`];
      const others = [`${folder}Shop/a`, `${folder}sho`, `${folder}workshop/a`];
      await putAll([...shop, ...shopEu, ...others]);
      expect(await listKeys(context.other, `${folder}shop/`)).toEqual(shop);
      expect(await listKeys(context.other, `${folder}shop`)).toEqual([...shopEu, ...shop]);
      expect(await listKeys(context.other, `${folder}shop/b/c`)).toEqual([`${folder}shop/b/c`]);
      expect(await listKeys(context.other, `${folder}shop/b/c/`)).toEqual([]);
      expect(await listKeys(context.other, `${folder}nothing/`)).toEqual([]);
      expect(await listKeys(context.other, folder)).toHaveLength(6);
    });

    test('ascends by the bytes of the names’ UTF-8, folders and objects alike', async () => {
      const folder = context.folder();
      const names = [
        ' ',
        '-dash',
        'B',
        'a!',
        'a-b',
        'a.b',
        'a/b-c',
        'a/b/c',
        'a/b0',
        'a0',
        'ab',
        'b',
        'z',
        'é',
        '\uff5e before what UTF-16 puts before it',
        '😀',
      ];
      const keys = names.map((name) => folder + name);
      expect(keys.toSorted((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)))).toEqual(keys);
      await putAll(keys.toReversed());
      expect(await listKeys(context.other, folder)).toEqual(keys);
      for (const [index, key] of keys.entries()) {
        const listed = await listKeys(context.other, folder, key);
        expect({ after: key, listed }).toEqual({ after: key, listed: keys.slice(index + 1) });
      }
    });

    test('begins after any name, whether there is such an object or not', async () => {
      const folder = context.folder();
      const keys = ['a', 'm/1', 'm/2', 'z'].map((name) => folder + name);
      await putAll(keys);
      expect(await listKeys(context.other, folder, `${folder}b`)).toEqual(keys.slice(1));
      expect(await listKeys(context.other, folder, `${folder}m/15`)).toEqual(keys.slice(2));
      expect(await listKeys(context.other, folder, `${folder}m0`)).toEqual(keys.slice(3));
      expect(await listKeys(context.other, folder, `${folder}zz`)).toEqual([]);
      expect(await listKeys(context.other, `${folder}m/`, `${folder}a`)).toEqual(keys.slice(1, 3));
      expect(await listKeys(context.other, `${folder}m/`, `${folder}z`)).toEqual([]);
    });

    test('gives each object’s length, time and etag as head does', async () => {
      const folder = context.folder();
      const put = await context.store.putSmall(`${folder}object`, textBytes('twelve bytes'));
      const infos: ObjectInfo[] = [];
      for await (const info of context.other.list(folder)) infos.push(info);
      expect(infos).toHaveLength(1);
      expect(infos[0]).toMatchObject({ key: put.key, bytes: 12, etag: put.etag });
      const head = await context.other.head(put.key);
      // Some stores list milliseconds and tell seconds in headers.
      expect(Math.abs((infos[0]?.modified.getTime() ?? 0) - (head?.modified.getTime() ?? 0))).toBeLessThan(1_000);
    });

    test('gives all objects, however many pages they fill, and may be left early', async () => {
      const folder = context.folder();
      const keys = Array.from(
        { length: context.options.pageObjects },
        (_, index) => `${folder}${String(index % 7)}/${String(index).padStart(6, '0')}`,
      ).toSorted();
      await putAll(keys);
      expect(await listKeys(context.other, folder)).toEqual(keys);
      expect(await listKeys(context.other, folder, keys[10])).toEqual(keys.slice(11));
      for await (const info of context.other.list(folder)) {
        expect(info.key).toBe(keys[0]);
        break;
      }
      await inParallel(keys.map((key) => () => context.store.delete(key)));
      expect(await listKeys(context.other, folder)).toEqual([]);
    });

    test('does not name what was deleted, and a delete of what is not there succeeds', async () => {
      const folder = context.folder();
      await putAll([`${folder}deep/a`, `${folder}deep/b`]);
      await context.store.delete(`${folder}deep/a`);
      await context.store.delete(`${folder}deep/a`);
      await context.other.delete(`${folder}never/was/there`);
      expect(await listKeys(context.other, folder)).toEqual([`${folder}deep/b`]);
      await context.store.delete(`${folder}deep/b`);
      expect(await context.other.head(`${folder}deep/b`)).toBeUndefined();
      expect(await listKeys(context.other, folder)).toEqual([]);
    });

    test('does not lose objects to a delete of a folder’s name', async () => {
      const folder = context.folder();
      await putAll([`${folder}deep/a`]);
      await context.store.delete(`${folder}deep`);
      expect(await listKeys(context.other, folder)).toEqual([`${folder}deep/a`]);
    });
  });
}
