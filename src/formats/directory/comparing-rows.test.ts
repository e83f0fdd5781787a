import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { bytesOf, chunksOf, WatchedSource } from '../../../test/support/streams.ts';
import type { ByteStream } from '../../common/bytes.ts';
import { RowsHash } from '../../pipeline/rows-hash.ts';
import { TABLE_DATA_END } from '../../postgres/toc/toc.ts';
import { comparingRows, countingRows } from './comparing-rows.ts';

const name = '3347.dat.zst';
const ROWS = '1\tone\n2\ttwo\n3\tthree\n';

function hashOf(rows: string): string {
  const hash = new RowsHash();
  hash.update(Buffer.from(rows));
  return hash.digest();
}

/** A file of that length whose recorded rows are others than it may hold. */
function compared(text: string, hash: string | undefined, lengths: readonly number[] = [7]): ByteStream {
  const bytes = Buffer.from(text);
  const plainBytes = Buffer.byteLength(ROWS + TABLE_DATA_END);
  return comparingRows({ name, plainBytes }, { hash })(new WatchedSource(chunksOf(bytes, lengths)));
}

describe('rows that are compared with their hash', () => {
  test('pass with what ends them, wherever chunks are cut', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.integer({ min: 0, max: 12 }), { minLength: 1 }), async (lengths) => {
        const passed = await bytesOf(compared(ROWS + TABLE_DATA_END, hashOf(ROWS), lengths));
        expect(passed.toString()).toBe(ROWS + TABLE_DATA_END);
      }),
    );
  });

  test('of a table without any pass', async () => {
    const file = { name, plainBytes: TABLE_DATA_END.length };
    const source = new WatchedSource([Buffer.from(TABLE_DATA_END)]);
    expect((await bytesOf(comparingRows(file, { hash: hashOf('') })(source))).toString()).toBe(TABLE_DATA_END);
  });

  test('are refused if one has changed, and nobody has had all of them by then', async () => {
    for (const lengths of [[7], [1], [1000], [ROWS.length, 2, 2]]) {
      const passed: Uint8Array[] = [];
      const reading = async (): Promise<void> => {
        const changed = ROWS.replace('two', 'twi') + TABLE_DATA_END;
        for await (const block of compared(changed, hashOf(ROWS), lengths)) passed.push(block);
      };
      await expect(reading()).rejects.toMatchObject({
        code: 'corrupt',
        message: expect.stringMatching(
          /^3347\.dat\.zst holds other rows than were recorded: their hash is [0-9a-f]{32}$/,
        ),
      });
      expect(Buffer.concat(passed).length).toBeLessThan(Buffer.byteLength(ROWS));
    }
  });

  test('are refused if there are none where some were recorded, or the last one has no end', async () => {
    const short = compared(TABLE_DATA_END, hashOf(ROWS));
    await expect(bytesOf(short)).rejects.toMatchObject({ code: 'corrupt' });
    const open = compared(`${ROWS.slice(0, -1)}!${TABLE_DATA_END}`, hashOf(ROWS));
    await expect(bytesOf(open)).rejects.toMatchObject({
      code: 'corrupt',
      message: expect.stringContaining('their last line has no end'),
    });
  });

  test('are refused if something else ends them, wherever chunks are cut', async () => {
    for (const end of ['3\tx\n\n', '\\.\n\n3', '\\.\n\n', '', `${TABLE_DATA_END}\n`]) {
      for (const lengths of [[1], [7], [1000], [ROWS.length, 2, 1]]) {
        await expect(bytesOf(compared(ROWS + end, hashOf(ROWS), lengths))).rejects.toMatchObject({
          code: 'corrupt',
          message: '3347.dat.zst does not end as the data of a table in an archive does',
        });
      }
    }
  });

  test('pass as they come where no hash was recorded', async () => {
    expect((await bytesOf(compared('1\n', undefined))).toString()).toBe('1\n');
  });
});

describe('rows that are counted', () => {
  test('are refused if they are not as many as were recorded', async () => {
    const counted = (rows: number) =>
      bytesOf(countingRows(name, { rows })(new WatchedSource(chunksOf(Buffer.from(ROWS), [4]))));
    expect((await counted(3)).toString()).toBe(ROWS);
    await expect(counted(2)).rejects.toMatchObject({
      code: 'corrupt',
      message: '3347.dat.zst holds 3 rows, and 2 were recorded',
    });
  });
});
