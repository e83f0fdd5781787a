import { describe, expect, test } from 'vitest';
import { MIB } from '../../common/bytes.ts';
import { isPgarkError } from '../../common/errors.ts';
import type { ByteRange } from '../object-store.ts';
import {
  type ContractContext,
  digestOf,
  distinctBytes,
  readAll,
  readObject,
  streamOf,
  textBytes,
} from './harness.contract.ts';

const LARGE_BYTES = 3 * MIB + 123;

/** Reading back: whole, by range, twice, left early. */
export function describeReads(context: ContractContext): void {
  describe('a read', () => {
    const ranges: readonly [string, ByteRange, number, number][] = [
      ['the first byte', { start: 0, end: 0 }, 0, 1],
      ['the middle', { start: MIB - 3, end: 2 * MIB + 2 }, MIB - 3, 2 * MIB + 3],
      ['the last byte', { start: LARGE_BYTES - 1, end: LARGE_BYTES - 1 }, LARGE_BYTES - 1, LARGE_BYTES],
      ['all from an open end', { start: 2 * MIB }, 2 * MIB, LARGE_BYTES],
      ['all by an explicit range', { start: 0, end: LARGE_BYTES - 1 }, 0, LARGE_BYTES],
      [
        'what there is of a range whose end lies beyond the object',
        { start: LARGE_BYTES - 5, end: LARGE_BYTES + 5 },
        LARGE_BYTES - 5,
        LARGE_BYTES,
      ],
      ['nothing of a range that begins where the object ends', { start: LARGE_BYTES }, LARGE_BYTES, LARGE_BYTES],
      [
        'nothing of a range far beyond the object',
        { start: 10 * LARGE_BYTES, end: 11 * LARGE_BYTES },
        LARGE_BYTES,
        LARGE_BYTES,
      ],
    ];
    test('gives exactly the range that was asked for, and describes the whole object', async () => {
      const key = `${context.folder()}object`;
      const bytes = distinctBytes(LARGE_BYTES);
      const { etag } = await context.store.putStream(key, streamOf(bytes));
      for (const [title, range, start, end] of ranges) {
        const { info, body } = await context.other.get(key, { range });
        expect({ title, ...info }).toMatchObject({ title, key, bytes: LARGE_BYTES, etag });
        const digest = digestOf(await readAll(body));
        expect({ title, digest }).toEqual({ title, digest: digestOf(bytes.subarray(start, end)) });
      }
    });

    test('of a range of a small or an empty object gives what there is of it', async () => {
      const folder = context.folder();
      await context.store.putSmall(`${folder}small`, textBytes('0123456789'));
      await context.store.putSmall(`${folder}empty`, new Uint8Array());
      const middle = await context.other.get(`${folder}small`, { range: { start: 3, end: 5 } });
      expect(Buffer.from(await readAll(middle.body)).toString()).toBe('345');
      const nothing = await context.other.get(`${folder}empty`, { range: { start: 0 } });
      expect(nothing.info.bytes).toBe(0);
      expect(await readAll(nothing.body)).toHaveLength(0);
    });

    test('gives blocks that belong to the reader, who may overwrite them', async () => {
      const key = `${context.folder()}object`;
      const bytes = distinctBytes(LARGE_BYTES);
      await context.store.putStream(key, streamOf(bytes));
      const { body } = await context.store.get(key);
      const copies: Uint8Array[] = [];
      for await (const block of body) {
        copies.push(block.slice());
        block.fill(0);
      }
      expect(digestOf(Buffer.concat(copies))).toBe(digestOf(bytes));
      expect(digestOf(await readObject(context.store, key))).toBe(digestOf(bytes));
    });

    test('may be left early or not be begun, and the store goes on', async () => {
      const key = `${context.folder()}object`;
      const bytes = distinctBytes(LARGE_BYTES);
      await context.store.putStream(key, streamOf(bytes));
      for (let turn = 0; turn < 20; turn += 1) {
        await context.store.get(key);
        const { body } = await context.store.get(key);
        for await (const block of body) {
          expect(block.length).toBeGreaterThan(0);
          break;
        }
      }
      expect(digestOf(await readObject(context.store, key))).toBe(digestOf(bytes));
    });

    test('of an object that is replaced meanwhile never mixes the two', async () => {
      const key = `${context.folder()}object`;
      const before = new Uint8Array(4 * MIB).fill(0xaa);
      const after = new Uint8Array(4 * MIB).fill(0xbb);
      await context.store.putSmall(key, before);
      const { body } = await context.store.get(key);
      const blocks: Uint8Array[] = [];
      const read = async (): Promise<'whole' | 'refused'> => {
        try {
          for await (const block of body) {
            if (blocks.length === 0) await context.other.putSmall(key, after);
            blocks.push(block);
          }
          return 'whole';
        } catch (error) {
          if (isPgarkError(error)) return 'refused';
          throw error;
        }
      };
      const outcome = await read();
      const received = Buffer.concat(blocks);
      expect(received.every((byte) => byte === 0xaa)).toBe(true);
      expect(outcome === 'refused' || received.length === before.length).toBe(true);
    });

    test('of an object that is not there says so', async () => {
      const key = `${context.folder()}missing`;
      await expect(context.store.get(key)).rejects.toMatchObject({ code: 'object-not-found' });
      await expect(context.store.get(key, { range: { start: 5 } })).rejects.toMatchObject({ code: 'object-not-found' });
      expect(await context.store.head(key)).toBeUndefined();
    });

    test('of a folder is not a read of an object', async () => {
      const folder = context.folder();
      await context.store.putSmall(`${folder}deep/object`, textBytes('x'));
      await expect(context.store.get(`${folder}deep`)).rejects.toMatchObject({ code: 'object-not-found' });
      expect(await context.store.head(`${folder}deep`)).toBeUndefined();
      expect(await context.store.head(`${folder}deep/object-and-more`)).toBeUndefined();
    });
  });

  describe('the store', () => {
    test('tells the time, close to the real one and not going back', async () => {
      const first = await context.store.now();
      const second = await context.other.now();
      expect(Math.abs(first.getTime() - Date.now())).toBeLessThan(60_000);
      // A store that tells whole seconds may repeat itself; one that goes back breaks leases.
      expect(second.getTime()).toBeGreaterThanOrEqual(first.getTime());
    });

    test('finds out what it can do', async () => {
      const profile = await context.store.probe({ write: true, delete: true });
      expect(profile.conditionalWrites).toBe(context.options.conditionalWrites);
      expect(profile.partCountMax).toBeGreaterThanOrEqual(1_000);
      expect(profile.partBytesMin).toBeGreaterThanOrEqual(1);
      expect(Math.abs(profile.clockSkewMs)).toBeLessThan(60_000);
      expect(await context.store.probe()).toEqual(expect.objectContaining({ partChecksum: profile.partChecksum }));
    });

    test('is probed without a trace', async () => {
      const everything = async (): Promise<number> => {
        let count = 0;
        for await (const _info of context.store.list('')) count += 1;
        for await (const _upload of context.store.listUploads('')) count += 1;
        return count;
      };
      const before = await everything();
      await context.other.probe({ write: true, delete: true });
      expect(await everything()).toBe(before);
    });
  });
}
