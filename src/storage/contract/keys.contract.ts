import { describe, expect, test } from 'vitest';
import { KEY_BYTES_MAX } from '../object-store.ts';
import {
  type ContractContext,
  bytesText,
  inParallel,
  listKeys,
  readObject,
  streamOf,
  textBytes,
} from './harness.contract.ts';

const awkwardNames = [
  'with spaces and  two',
  ' leading space',
  'trailing space ',
  'trailing dot.',
  '...',
  '.hidden',
  '-leading-dash',
  '--help',
  '~tilde',
  "single'quote",
  'double"quote',
  'back`tick',
  'plus+and+plus',
  'percent%2Fslash',
  'percent%20space',
  'lone%percent',
  'a&b=c;d',
  'hash#fragment',
  'what?is=this',
  'colon:2026-11-20T02:00:00Z',
  'back\\slash',
  'at@comma,dollar$',
  '(round)[square]{curly}<angle>',
  'pipe|caret^star*',
  'umlaut Ü',
  '日本語のバックアップ',
  'emoji 😀',
  'x'.repeat(200),
  'ü'.repeat(100),
  'deep/er/and/deep/er/still',
] as const;

const invalidKeys = [
  '',
  '/',
  '/x',
  'x/',
  'a//b',
  '..',
  '../x',
  'a/../b',
  './a',
  'a/./b',
  'a/..',
  'line\nbreak',
  'nul\u0000',
  'delete\u007f',
  'c1\u0085',
  'lone \ud800 surrogate',
  'x'.repeat(KEY_BYTES_MAX + 1),
  `${'ü'.repeat(KEY_BYTES_MAX / 2)}x`,
] as const;

export function describeKeys(context: ContractContext): void {
  const roundTrip = async (folder: string, key: string): Promise<void> => {
    await context.store.putSmall(key, textBytes(key));
    expect(bytesText(await readObject(context.other, key))).toBe(key);
    expect((await context.other.head(key))?.key).toBe(key);
    expect(await listKeys(context.other, folder)).toEqual([key]);
    expect(await listKeys(context.other, key)).toEqual([key]);
    await context.other.delete(key);
    expect(await listKeys(context.store, folder)).toEqual([]);
    await context.store.putStream(key, streamOf(textBytes(`streamed ${key}`)));
    expect(bytesText(await readObject(context.other, key))).toBe(`streamed ${key}`);
    await context.store.delete(key);
  };

  describe('a name', () => {
    if (context.options.namesOneByOne) {
      test.each(awkwardNames)('may be %j, as an object’s and as a folder’s', async (name) => {
        const folder = context.folder();
        await roundTrip(folder, folder + name);
        await roundTrip(folder, `${folder}${name}/object`);
      });
    }

    test('may be as long as the port says', async () => {
      const folder = context.folder();
      const part = `${'p'.repeat(199)}/`;
      const key = (folder + part.repeat(5)).slice(0, KEY_BYTES_MAX - 1).concat('e');
      expect(key).toHaveLength(KEY_BYTES_MAX);
      await roundTrip(folder, key);
    });

    test('keeps every awkward neighbour apart', async () => {
      const folder = context.folder();
      const keys = awkwardNames.map((name) => folder + name);
      await inParallel(keys.map((key) => () => context.store.putSmall(key, textBytes(key))));
      for (const key of keys) expect(bytesText(await readObject(context.other, key))).toBe(key);
      const sorted = keys.toSorted((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
      expect(await listKeys(context.other, folder)).toEqual(sorted);
    });

    if (context.options.keepsCompositionApart) {
      test('composed and the same name decomposed are two names', async () => {
        const folder = context.folder();
        const composed = `${folder}Stra\u00dfe-\u00fc`;
        const decomposed = `${folder}Stra\u00dfe-u\u0308`;
        await context.store.putSmall(composed, textBytes('composed'));
        await context.store.putSmall(decomposed, textBytes('decomposed'));
        expect(bytesText(await readObject(context.other, composed))).toBe('composed');
        expect(bytesText(await readObject(context.other, decomposed))).toBe('decomposed');
        expect(await listKeys(context.other, folder)).toEqual([decomposed, composed]);
      });
    }

    test.each(invalidKeys)('is refused if it is %j, before anything is touched', async (key) => {
      const { store } = context;
      const refused = { name: 'PgarkError', code: 'object-key-invalid' };
      let read = false;
      const body = async function* (): AsyncGenerator<Uint8Array> {
        read = true;
        yield textBytes('x');
      };
      await expect(store.putSmall(key, textBytes('x'))).rejects.toMatchObject(refused);
      await expect(store.putStream(key, body())).rejects.toMatchObject(refused);
      await expect(store.get(key)).rejects.toMatchObject(refused);
      await expect(store.head(key)).rejects.toMatchObject(refused);
      await expect(store.delete(key)).rejects.toMatchObject(refused);
      await expect(store.abortUpload({ key, uploadId: 'x' })).rejects.toMatchObject(refused);
      expect(read).toBe(false);
    });

    test.each(['/', '/x', '../', 'a//', 'a/../b', './'])(
      'cannot begin with %j: a list of it is refused',
      async (prefix) => {
        const refused = { code: 'object-key-invalid' };
        await expect(listKeys(context.store, prefix)).rejects.toMatchObject(refused);
        const uploads = async (): Promise<void> => {
          for await (const upload of context.store.listUploads(prefix)) expect(upload).toBeUndefined();
        };
        await expect(uploads()).rejects.toMatchObject(refused);
      },
    );
  });
}
