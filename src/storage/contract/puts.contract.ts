import { describe, expect, test } from 'vitest';
import { KIB, MIB } from '../../common/bytes.ts';
import { SMALL_OBJECT_BYTES_MAX } from '../object-store.ts';
import {
  type ContractContext,
  bytesText,
  digestOf,
  distinctBytes,
  listKeys,
  multiPartBytes,
  readObject,
  streamOf,
  streamThen,
  textBytes,
  uploadsOf,
} from './harness.contract.ts';

/** Whole objects: what goes in comes out, all or nothing. */
export function describePuts(context: ContractContext): void {
  const { options } = context;
  const { partBytes } = options;

  describe('a put', () => {
    const sizes: readonly [string, number][] = [
      ['an empty object', 0],
      ['one byte', 1],
      ['one byte less than a part', partBytes - 1],
      ['exactly one part', partBytes],
      ['one byte more than a part', partBytes + 1],
      ['exactly two parts', 2 * partBytes],
      ['20 MiB', 20 * MIB],
    ];
    test.each(sizes)('streams %s', async (_title, size) => {
      const key = `${context.folder()}object`;
      const bytes = distinctBytes(size);
      const progress: number[] = [];
      const stored = await context.store.putStream(key, streamOf(bytes), {
        contentType: 'application/octet-stream',
        onBytesStored: (total) => progress.push(total),
      });
      expect(stored).toMatchObject({ key, bytes: size });
      const info = await context.other.head(key);
      expect(info).toMatchObject({ key, bytes: size, etag: stored.etag });
      expect(digestOf(await readObject(context.other, key))).toBe(digestOf(bytes));
      expect(progress).toEqual(progress.toSorted((a, b) => a - b));
      expect(progress.at(-1) ?? 0).toBe(size);
      expect(await uploadsOf(context.store, key)).toEqual([]);
    });

    test('streams many small and uneven chunks, empty ones among them', async () => {
      const key = `${context.folder()}object`;
      const bytes = distinctBytes(3 * MIB + 5);
      const uneven = async function* (): AsyncGenerator<Uint8Array> {
        for (let start = 0, turn = 0; start < bytes.length; turn += 1) {
          const length = (turn * 37) % 997;
          yield bytes.slice(start, start + length);
          start += length;
        }
      };
      await context.store.putStream(key, uneven());
      expect(digestOf(await readObject(context.other, key))).toBe(digestOf(bytes));
    });

    test('streams blocks larger than a part', async () => {
      const key = `${context.folder()}object`;
      const bytes = distinctBytes(2 * partBytes + 11);
      await context.store.putStream(key, streamOf(bytes, bytes.length));
      expect(digestOf(await readObject(context.other, key))).toBe(digestOf(bytes));
    });

    test('streams what is longer, and what is far shorter, than was estimated', async () => {
      const folder = context.folder();
      const bytes = distinctBytes(partBytes + 3);
      await context.store.putStream(`${folder}longer`, streamOf(bytes), { bytesEstimateMax: 10 });
      await context.store.putStream(`${folder}shorter`, streamOf(bytes), { bytesEstimateMax: 1_000 * MIB });
      expect(digestOf(await readObject(context.other, `${folder}longer`))).toBe(digestOf(bytes));
      expect(digestOf(await readObject(context.other, `${folder}shorter`))).toBe(digestOf(bytes));
    });

    test('may keep the blocks it was given: the stream does not touch them again', async () => {
      const key = `${context.folder()}object`;
      const caller = textBytes('as it was when it was put');
      await context.store.putSmall(key, caller);
      caller.fill(0);
      expect(bytesText(await readObject(context.other, key))).toBe('as it was when it was put');
    });

    test.each([0, 1, 100 * KIB, SMALL_OBJECT_BYTES_MAX])(
      'stores a small object of %i bytes in one step',
      async (size) => {
        const key = `${context.folder()}small.json`;
        const bytes = distinctBytes(size);
        const info = await context.store.putSmall(key, bytes, { contentType: 'application/json' });
        expect(info).toMatchObject({ key, bytes: size });
        expect(Math.abs(info.modified.getTime() - Date.now())).toBeLessThan(60_000);
        expect(await context.other.head(key)).toMatchObject({ key, bytes: size, etag: info.etag });
        expect(digestOf(await readObject(context.other, key))).toBe(digestOf(bytes));
      },
    );

    test('refuses a small object that is larger than the port allows, and stores nothing', async () => {
      const key = `${context.folder()}small`;
      const run = context.store.putSmall(key, new Uint8Array(SMALL_OBJECT_BYTES_MAX + 1));
      await expect(run).rejects.toMatchObject({ name: 'PgarkError' });
      expect(await context.other.head(key)).toBeUndefined();
    });

    test('of a small object replaces the one that was there', async () => {
      const folder = context.folder();
      const before = await context.store.putSmall(`${folder}state`, textBytes('before'));
      const after = await context.store.putSmall(`${folder}state`, textBytes('after, and longer'));
      expect(after.etag).not.toBe(before.etag);
      expect(bytesText(await readObject(context.other, `${folder}state`))).toBe('after, and longer');
      expect(await listKeys(context.other, folder)).toEqual([`${folder}state`]);
    });

    test('is invisible to every client until it is complete', async () => {
      const folder = context.folder();
      const bytes = distinctBytes(multiPartBytes(partBytes));
      let looked = false;
      const look = async (): Promise<void> => {
        for (const client of [context.store, context.other]) {
          expect(await client.head(`${folder}object`)).toBeUndefined();
          expect(await listKeys(client, folder)).toEqual([]);
          await expect(client.get(`${folder}object`)).rejects.toMatchObject({ code: 'object-not-found' });
        }
        looked = true;
      };
      await context.store.putStream(`${folder}object`, streamThen(bytes, look));
      expect(looked).toBe(true);
      expect(await listKeys(context.other, folder)).toEqual([`${folder}object`]);
    });

    test.each([
      ['before its first block', 0],
      ['within the first part', 100],
      ['after several parts', multiPartBytes(partBytes)],
    ])('whose stream throws %s rejects with that very error and leaves nothing', async (_title, size) => {
      const folder = context.folder();
      const error = Object.assign(new Error('pg_dump was killed'), { code: 'ENOENT' });
      const run = context.store.putStream(
        `${folder}object`,
        streamThen(distinctBytes(size), () => Promise.reject(error)),
      );
      await expect(run).rejects.toBe(error);
      expect(await listKeys(context.other, folder)).toEqual([]);
      expect(await uploadsOf(context.other, folder)).toEqual([]);
    });

    test('refuses a name that is taken, before it reads from the stream, and leaves that object untouched', async () => {
      const folder = context.folder();
      const before = await context.store.putSmall(`${folder}object`, textBytes('the first'));
      let read = false;
      const body = async function* (): AsyncGenerator<Uint8Array> {
        read = true;
        yield textBytes('the second');
      };
      const run = context.store.putStream(`${folder}object`, body());
      await expect(run).rejects.toMatchObject({ code: 'object-exists' });
      expect(read).toBe(false);
      expect((await context.other.head(`${folder}object`))?.etag).toBe(before.etag);
      expect(bytesText(await readObject(context.other, `${folder}object`))).toBe('the first');
      expect(await uploadsOf(context.other, folder)).toEqual([]);
    });

    if (options.findsLateCollision) {
      test.each([
        ['a short stream', 100],
        ['a stream of several parts', multiPartBytes(partBytes)],
      ])('of %s finds out in its last step that the name was taken meanwhile', async (_title, size) => {
        const folder = context.folder();
        const takeName = async (): Promise<void> => {
          await context.other.putSmall(`${folder}object`, textBytes('the quicker one'));
        };
        const run = context.store.putStream(`${folder}object`, streamThen(distinctBytes(size), takeName));
        await expect(run).rejects.toMatchObject({ code: 'object-exists' });
        expect(bytesText(await readObject(context.other, `${folder}object`))).toBe('the quicker one');
        expect(await uploadsOf(context.other, folder)).toEqual([]);
      });
    }

    if (options.keepsMetadata) {
      test('keeps metadata, whatever characters it has', async () => {
        const key = `${context.folder()}object`;
        const metadata = {
          id: '20261120T020000Z-pabcdef',
          database: 'we"ird/na me-Ü',
          host: '日本 & 50%25 +x',
          note: " \\ = '",
        };
        await context.store.putStream(key, streamOf(textBytes('x')), { metadata });
        expect((await context.other.head(key))?.metadata).toEqual(metadata);
        expect((await context.other.get(key)).info.metadata).toEqual(metadata);
        const large = `${context.folder()}object`;
        await context.store.putStream(large, streamOf(distinctBytes(multiPartBytes(partBytes))), { metadata });
        expect((await context.other.head(large))?.metadata).toEqual(metadata);
      });
    }
  });
}
