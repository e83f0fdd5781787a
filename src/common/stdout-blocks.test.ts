import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { PassThrough } from 'node:stream';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { BLOCK_BYTES } from './bytes.ts';
import { stdoutBlocks } from './stdout-blocks.ts';

/** A program that writes so many bytes, each the number of its own block. */
function writer(bytes: number) {
  const script = `
    const rest = { bytes: ${bytes}, at: 0 };
    const next = () => {
      while (rest.bytes > 0) {
        const length = Math.min(rest.bytes, 50_000);
        const chunk = Buffer.alloc(length);
        for (let i = 0; i < length; i += 1) chunk[i] = Math.floor((rest.at + i) / ${BLOCK_BYTES});
        rest.bytes -= length;
        rest.at += length;
        if (!process.stdout.write(chunk)) return process.stdout.once('drain', next);
      }
    };
    next();`;
  return spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
}

async function collect(blocks: AsyncIterable<Uint8Array>): Promise<Uint8Array[]> {
  const all: Uint8Array[] = [];
  for await (const block of blocks) all.push(block);
  return all;
}

describe('the output of a program in blocks', () => {
  test('all that a program writes comes in order, in full blocks up to the last', async () => {
    const child = writer(5 * BLOCK_BYTES + 4711);
    const blocks = await collect(stdoutBlocks(child.stdout));
    expect(blocks.map((block) => block.length)).toEqual([...Array.from({ length: 5 }, () => BLOCK_BYTES), 4711]);
    blocks.forEach((block, index) => expect(block.every((byte) => byte === index)).toBe(true));
  });

  test('chunks of any size keep every byte', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.integer({ min: 1, max: 700_000 }), { maxLength: 12 }), async (lengths) => {
        const stream = new PassThrough();
        const sent = lengths.map((length, index) => Buffer.alloc(length, index + 1));
        const expected = Buffer.concat(sent);
        for (const chunk of sent) stream.write(chunk);
        stream.end();
        const got = await collect(stdoutBlocks(stream));
        expect(Buffer.concat(got).equals(expected)).toBe(true);
        expect(got.slice(0, -1).every((block) => block.length === BLOCK_BYTES)).toBe(true);
      }),
      { numRuns: 20 },
    );
  });

  test('small chunks that share their memory with others are not freed', async () => {
    const stream = new PassThrough();
    const shared = Buffer.from('first second');
    stream.write(shared.subarray(0, 6));
    stream.end(shared.subarray(6));
    const got = await collect(stdoutBlocks(stream));
    expect(Buffer.concat(got).toString()).toBe('first second');
    expect(shared.toString()).toBe('first second');
  });

  test('no output gives no block', async () => {
    expect(await collect(stdoutBlocks(writer(0).stdout))).toEqual([]);
  });

  test('a program is held up while nobody takes its blocks', async () => {
    const child = writer(40 * BLOCK_BYTES);
    const blocks = stdoutBlocks(child.stdout)[Symbol.asyncIterator]();
    await blocks.next();
    await once(child.stdout, 'pause');
    // Two full blocks and what the pipe holds: the rest is still to be written.
    expect(child.exitCode).toBeNull();
    let taken = 1;
    while ((await blocks.next()).done !== true) taken += 1;
    expect(taken).toBe(40);
  });

  test('left early, it does not keep the program from ending', async () => {
    const child = writer(20 * BLOCK_BYTES);
    for await (const block of stdoutBlocks(child.stdout)) {
      expect(block).toHaveLength(BLOCK_BYTES);
      break;
    }
    const [code] = (await once(child, 'close')) as [number];
    expect(code).toBe(0);
  });

  test('what the stream throws is thrown, and a stream that closes before its end is no whole one', async () => {
    const broken = new PassThrough();
    broken.destroy(new Error('the pipe broke'));
    await expect(collect(stdoutBlocks(broken))).rejects.toThrow('the pipe broke');
    const cut = new PassThrough();
    cut.write('half of it');
    setImmediate(() => cut.destroy());
    await expect(collect(stdoutBlocks(cut))).rejects.toThrow('cut off');
  });
});
