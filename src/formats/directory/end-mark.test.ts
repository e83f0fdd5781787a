import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { bytesOf, chunksOf, WatchedSource } from '../../../test/support/streams.ts';
import { TABLE_DATA_END } from '../../postgres/toc/toc.ts';
import { withoutEndMark } from './end-mark.ts';

describe('the end of the data of a table', () => {
  test('is taken off, wherever chunks are cut, and nothing else is', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.string({ unit: fc.constantFrom('\\', '.', '\n', 'a', '\t'), maxLength: 40 }),
        fc.array(fc.integer({ min: 0, max: 12 }), { minLength: 1 }),
        async (rows, lengths) => {
          const bytes = Buffer.from(rows + TABLE_DATA_END);
          const source = new WatchedSource(chunksOf(bytes, lengths));
          const loaded = await bytesOf(withoutEndMark(bytes.length, 'the file')(source));
          expect(loaded.toString()).toBe(rows);
        },
      ),
    );
  });

  test('has to be there, else nobody may take the rows for all there are', async () => {
    for (const [text, bytes] of [
      ['1\tone\n', 6],
      ['1\tone\n\\.\n\n', 9],
      [`1\tone\n${TABLE_DATA_END}`, 12],
      [`1\tone\n${TABLE_DATA_END}`, 10],
      ['', 0],
    ] as const) {
      const loading = bytesOf(withoutEndMark(bytes, 'the file')(new WatchedSource([Buffer.from(text)])));
      await expect(loading).rejects.toMatchObject({ code: 'corrupt', message: expect.stringContaining('the file') });
    }
  });

  test('leaves whole blocks before it as they are, without copying them', async () => {
    const block = Buffer.from('1\tone\n');
    async function* source() {
      yield block;
      yield Buffer.from(TABLE_DATA_END);
    }
    for await (const passed of withoutEndMark(block.length + TABLE_DATA_END.length, 'the file')(source())) {
      expect(passed).toBe(block);
    }
  });
});
