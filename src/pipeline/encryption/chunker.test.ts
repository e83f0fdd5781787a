import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Chunker } from './chunker.ts';

describe('chunker', () => {
  test('however the stream is cut, the chunks are whole, in order, and the last comes from the end only', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 30 })), fc.integer({ min: 1, max: 12 }), (blocks, chunkBytes) => {
        const chunker = new Chunker(chunkBytes);
        const chunks = blocks.flatMap((block) => chunker.push(block).map((chunk) => Buffer.from(chunk)));
        const last = chunker.end();
        const whole = Buffer.concat(blocks);
        expect(chunks.every((chunk) => chunk.length === chunkBytes)).toBe(true);
        expect(last.length).toBeLessThanOrEqual(chunkBytes);
        expect(last.length === 0).toBe(whole.length === 0);
        expect(Buffer.concat([...chunks, last])).toEqual(whole);
      }),
    );
  });
});
