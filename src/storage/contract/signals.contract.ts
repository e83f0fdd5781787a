import { describe, expect, test } from 'vitest';
import type { CallOptions, ObjectStore } from '../object-store.ts';
import {
  type ContractContext,
  distinctBytes,
  listKeys,
  multiPartBytes,
  streamOf,
  textBytes,
  uploadsOf,
} from './harness.contract.ts';

type Call = (store: ObjectStore, key: string, options: CallOptions) => Promise<unknown>;

const drain = async (items: AsyncIterable<unknown>): Promise<void> => {
  for await (const _item of items);
};

const calls: readonly [string, Call][] = [
  ['putSmall', (store, key, options) => store.putSmall(`${key}-small`, textBytes('x'), options)],
  ['putStream', (store, key, options) => store.putStream(`${key}-stream`, streamOf(textBytes('x')), options)],
  ['get', (store, key, options) => store.get(key, options)],
  ['head', (store, key, options) => store.head(key, options)],
  ['list', (store, key, options) => drain(store.list(key, options))],
  ['delete', (store, key, options) => store.delete(key, options)],
  ['listUploads', (store, key, options) => drain(store.listUploads(key, options))],
  ['abortUpload', (store, key, options) => store.abortUpload({ key, uploadId: 'x' }, options)],
  ['now', (store, _key, options) => store.now(options)],
  ['probe', (store, _key, options) => store.probe(options)],
];

export function describeSignals(context: ContractContext): void {
  const size = multiPartBytes(context.options.partBytes);

  describe('an aborted signal', () => {
    test.each(calls)('makes %s reject with its reason and do nothing', async (_name, call) => {
      const folder = context.folder();
      await context.store.putSmall(`${folder}object`, textBytes('stays'));
      const reason = new Error('stopped by the user');
      await expect(call(context.store, `${folder}object`, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
      expect(await listKeys(context.other, folder)).toEqual([`${folder}object`]);
    });

    test.each([
      ['within the first part', 100],
      ['after several parts', size],
    ])('ends a put %s at once, though its stream hangs, and leaves nothing', async (_title, bytes) => {
      const folder = context.folder();
      const controller = new AbortController();
      const reason = new Error('stopped by the user');
      const hanging = async function* (): AsyncGenerator<Uint8Array> {
        yield* streamOf(distinctBytes(bytes));
        setImmediate(() => controller.abort(reason));
        await new Promise(() => {});
      };
      const run = context.store.putStream(`${folder}object`, hanging(), { signal: controller.signal });
      await expect(run).rejects.toBe(reason);
      expect(await listKeys(context.other, folder)).toEqual([]);
      expect(await uploadsOf(context.other, folder)).toEqual([]);
    });

    test('ends a put’s stream, which may clean up', async () => {
      const folder = context.folder();
      const controller = new AbortController();
      const reason = new Error('stopped by the user');
      let cleaned = false;
      const endless = async function* (): AsyncGenerator<Uint8Array> {
        try {
          for (let block = 0; ; block += 1) {
            if (block === 3) controller.abort(reason);
            yield distinctBytes(1_000);
          }
        } finally {
          cleaned = true;
        }
      };
      const run = context.store.putStream(`${folder}object`, endless(), { signal: controller.signal });
      await expect(run).rejects.toBe(reason);
      expect(cleaned).toBe(true);
      expect(await listKeys(context.other, folder)).toEqual([]);
    });

    test('ends a read in its middle', async () => {
      const key = `${context.folder()}object`;
      await context.store.putStream(key, streamOf(distinctBytes(size)));
      const controller = new AbortController();
      const reason = new Error('stopped by the user');
      const { body } = await context.store.get(key, { signal: controller.signal });
      const read = async (): Promise<void> => {
        for await (const block of body) {
          expect(block.length).toBeGreaterThan(0);
          controller.abort(reason);
        }
      };
      await expect(read()).rejects.toBe(reason);
    });

    test('ends a list in its middle', async () => {
      const folder = context.folder();
      for (const name of ['a', 'b', 'c']) await context.store.putSmall(folder + name, textBytes(name));
      const controller = new AbortController();
      const reason = new Error('stopped by the user');
      const walk = async (): Promise<void> => {
        for await (const info of context.store.list(folder, { signal: controller.signal })) {
          expect(info.key).toBe(`${folder}a`);
          controller.abort(reason);
        }
      };
      await expect(walk()).rejects.toBe(reason);
    });
  });
}
