import { describe, expect, test } from 'vitest';
import type { UploadInfo } from '../object-store.ts';
import {
  type ContractContext,
  digestOf,
  distinctBytes,
  listKeys,
  multiPartBytes,
  readObject,
  streamOf,
  streamThen,
  uploadsOf,
} from './harness.contract.ts';

/** What is left of a put whose process died, and how it is swept. */
export function describeUploads(context: ContractContext): void {
  const body = (): Uint8Array => distinctBytes(multiPartBytes(context.options.partBytes));

  describe('an upload', () => {
    test('is told before it begins, is listed while it is open, and no longer when it is complete', async () => {
      const folder = context.folder();
      const key = `${folder}deep/object`;
      const opened: UploadInfo[] = [];
      const { promise: isOpen, resolve: open } = Promise.withResolvers<void>();
      const bytes = body();
      await context.store.putStream(
        key,
        streamThen(bytes, async () => {
          await isOpen;
          expect(await uploadsOf(context.other, folder)).toEqual(opened);
          expect(await uploadsOf(context.other, key)).toEqual(opened);
          expect(await uploadsOf(context.other, `${folder}deep/obj`)).toEqual(opened);
          expect(await uploadsOf(context.other, `${folder}de/`)).toEqual([]);
          expect(await uploadsOf(context.other, `${key}/`)).toEqual([]);
        }),
        {
          onUploadOpened: async (upload) => {
            opened.push(upload);
            expect(await uploadsOf(context.other, folder)).toEqual([upload]);
            open();
          },
        },
      );
      expect(opened).toHaveLength(1);
      expect(opened[0]?.key).toBe(key);
      expect(await uploadsOf(context.other, folder)).toEqual([]);
      expect(digestOf(await readObject(context.other, key))).toBe(digestOf(bytes));
    });

    test('waits with its first byte until the caller has written down that it is open', async () => {
      const key = `${context.folder()}object`;
      let noted = false;
      const progress: boolean[] = [];
      await context.store.putStream(key, streamOf(body()), {
        onUploadOpened: async () => {
          await new Promise((resolve) => setImmediate(resolve));
          noted = true;
        },
        onBytesStored: () => progress.push(noted),
      });
      expect(progress.length).toBeGreaterThan(0);
      expect(progress.every(Boolean)).toBe(true);
    });

    test('that the caller cannot write down is abandoned with that very error', async () => {
      const folder = context.folder();
      const error = new Error('the intent could not be written');
      const run = context.store.putStream(`${folder}object`, streamOf(body()), {
        onUploadOpened: () => Promise.reject(error),
      });
      await expect(run).rejects.toBe(error);
      expect(await uploadsOf(context.other, folder)).toEqual([]);
      expect(await listKeys(context.other, folder)).toEqual([]);
    });

    test('is abortable by another client, more than once, and its put then fails and leaves nothing', async () => {
      const folder = context.folder();
      const opened: UploadInfo[] = [];
      const { promise: isOpen, resolve: open } = Promise.withResolvers<void>();
      const run = context.store.putStream(
        `${folder}object`,
        streamThen(body(), async () => {
          await isOpen;
          for (const upload of opened) {
            await context.other.abortUpload(upload);
            await context.other.abortUpload(upload);
          }
          expect(await uploadsOf(context.other, folder)).toEqual([]);
        }),
        {
          onUploadOpened: (upload) => {
            opened.push(upload);
            open();
            return Promise.resolve();
          },
        },
      );
      await expect(run).rejects.toMatchObject({ name: 'PgarkError' });
      expect(opened).toHaveLength(1);
      expect(await context.other.head(`${folder}object`)).toBeUndefined();
      expect(await listKeys(context.other, folder)).toEqual([]);
      expect(await uploadsOf(context.other, folder)).toEqual([]);
    });

    test('is not aborted with another one of the same name', async () => {
      const key = `${context.folder()}object`;
      const opened: UploadInfo[] = [];
      const bytes = body();
      const [outer, inner] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
      const note =
        (open: () => void) =>
        (upload: UploadInfo): Promise<void> => {
          opened.push(upload);
          open();
          return Promise.resolve();
        };
      const failure = new Error('the inner one fails');
      await context.store.putStream(
        key,
        streamThen(bytes, async () => {
          await outer.promise;
          const second = context.other.putStream(
            key,
            streamThen(bytes, async () => {
              await inner.promise;
              expect(await uploadsOf(context.other, key)).toHaveLength(2);
              throw failure;
            }),
            { onUploadOpened: note(inner.resolve) },
          );
          await expect(second).rejects.toBe(failure);
        }),
        { onUploadOpened: note(outer.resolve) },
      );
      expect(new Set(opened.map((upload) => upload.uploadId)).size).toBe(2);
      expect(digestOf(await readObject(context.other, key))).toBe(digestOf(bytes));
    });

    test('that was never there, or is complete, is aborted without an error and without harm', async () => {
      const folder = context.folder();
      const opened: UploadInfo[] = [];
      const bytes = body();
      await context.store.putStream(`${folder}object`, streamOf(bytes), {
        onUploadOpened: (upload) => {
          opened.push(upload);
          return Promise.resolve();
        },
      });
      for (const upload of opened) await context.other.abortUpload(upload);
      for (const { uploadId } of opened) await context.other.abortUpload({ key: `${folder}never`, uploadId });
      expect(digestOf(await readObject(context.other, `${folder}object`))).toBe(digestOf(bytes));
    });
  });
}
