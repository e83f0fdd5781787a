import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import { FaultyStore } from '../../test/support/faulty-store.ts';
import { MemoryStore } from '../../test/support/memory-store.ts';
import { PgarkError } from '../common/errors.ts';
import { readState, writeState } from './state-object.ts';

const schema = z.object({ layout: z.literal(1), holder: z.object({ pid: z.number() }) });
const KEY = '.pgark/leases/shop.json';
const value = { layout: 1, holder: { pid: 1 } };

describe('a state object', () => {
  test('comes back with the etag that replaces exactly it', async () => {
    const store = new MemoryStore();
    expect(await readState(store, KEY, schema)).toBeUndefined();
    const etag = await writeState(store, KEY, value, { condition: { ifAbsent: true } });
    expect(await readState(store, KEY, schema)).toEqual({ value, etag });
    await writeState(store, KEY, { layout: 1, holder: { pid: 2 } }, { condition: { ifMatch: etag } });
    const late = writeState(store, KEY, { layout: 1, holder: { pid: 3 } }, { condition: { ifMatch: etag } });
    await expect(late).rejects.toMatchObject({ code: 'store-condition-failed' });
    const second = writeState(store, KEY, value, { condition: { ifAbsent: true } });
    await expect(second).rejects.toMatchObject({ code: 'store-condition-failed' });
  });

  test.each([
    ['{"layout": 1, "holder": {"pid": "x"}}', 'holder.pid'],
    ['[]', 'expected object'],
    ['{"layout": 1', 'no JSON'],
    ['', 'no JSON'],
    ['\u0000', 'no JSON'],
    [Buffer.from([0xff, 0xfe]), 'no JSON'],
  ])('that is nonsense (%j) is refused by key and place', async (text, why) => {
    const store = new MemoryStore();
    await store.putSmall(KEY, Buffer.from(text));
    await expect(readState(store, KEY, schema)).rejects.toMatchObject({
      code: 'repository-damaged',
      message: expect.stringMatching(new RegExp(`leases/shop\\.json in memory: .*${why}`)),
    });
  });

  test('of a newer layout is refused as such', async () => {
    const store = new MemoryStore();
    await store.putSmall(KEY, Buffer.from('{"layout": 2, "pgarkVersion": "3.1.0"}'));
    await expect(readState(store, KEY, schema)).rejects.toMatchObject({
      code: 'repository-unknown-layout',
      hint: expect.stringContaining('3.1.0'),
    });
  });

  test('that is larger than any state object is refused without being read', async () => {
    const store = new MemoryStore();
    const block = new Uint8Array(1024 * 1024);
    const body = async function* (): AsyncGenerator<Uint8Array> {
      for (let count = 0; count < 9; count += 1) yield block;
    };
    await store.putStream(KEY, body());
    await expect(readState(store, KEY, schema)).rejects.toMatchObject({ code: 'repository-damaged' });
  });

  test('that was written although the condition then failed (a retried request) counts as written', async () => {
    const memory = new MemoryStore();
    const store = new FaultyStore(memory, {
      after: ({ method }) => {
        if (method === 'putSmall') throw new PgarkError('store-condition-failed', 'the second attempt met the first');
      },
    });
    const etag = await writeState(store, KEY, value, { condition: { ifAbsent: true } });
    expect(etag).toBe((await memory.head(KEY))?.etag);
  });
});
