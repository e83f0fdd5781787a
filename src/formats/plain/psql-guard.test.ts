import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { allocateBlock, releaseBlock } from '../../common/block-memory.ts';
import { guardPsqlScript } from './psql-guard.ts';
import { withStatementsEdited } from './sql-script.ts';

async function guardText(text: string, chunkBytes = 7, preamble = ''): Promise<string> {
  const bytes = Buffer.from(text);
  async function* chunks(): AsyncGenerator<Uint8Array> {
    for (let start = 0; start < bytes.length; start += chunkBytes) yield bytes.subarray(start, start + chunkBytes);
  }
  const out: Uint8Array[] = [];
  for await (const block of guardPsqlScript('OURS', { preamble })(chunks())) out.push(block);
  return Buffer.concat(out).toString();
}

const header = '--\n-- PostgreSQL database dump\n--\n\n';

describe('the guard of psql scripts', () => {
  test('a dump without \\restrict gets one', async () => {
    expect(await guardText(`${header}SELECT 1;\n`)).toBe(`\\restrict OURS\n${header}SELECT 1;\n`);
  });

  test('pg_dump’s own pair of lines is taken out, and the lines keep their numbers', async () => {
    const dump = `${header}\\restrict abC9\n\nSELECT 1;\n\n--\n-- dump complete\n--\n\n\\unrestrict abC9\n\n`;
    expect(await guardText(dump)).toBe(`\\restrict OURS\n${header}\n\nSELECT 1;\n\n--\n-- dump complete\n--\n\n\n\n`);
  });

  test('a pair in the middle stays, for psql to stop at', async () => {
    const dump = `${header}\\restrict a\nSELECT 1;\n\\unrestrict a\n\\! touch /tmp/x\n`;
    expect(await guardText(dump)).toBe(`\\restrict OURS\n${header}\nSELECT 1;\n\\unrestrict a\n\\! touch /tmp/x\n`);
  });

  test('a \\restrict line after the first statement is not the header’s', async () => {
    const dump = 'COPY t FROM stdin;\n\\restrict a\n\\.\n';
    expect(await guardText(dump)).toBe(`\\restrict OURS\n${dump}`);
  });

  test('the preamble stands behind our \\restrict and before the dump', async () => {
    expect(await guardText('SELECT 1;\n', 7, 'DROP TABLE t;\n')).toBe('\\restrict OURS\nDROP TABLE t;\nSELECT 1;\n');
  });

  test.each([
    ['in one transaction', true],
    ['without', false],
  ])('%s, its bytes pass and the memory of each block is free then', async (_, singleTransaction) => {
    const guard = { singleTransaction };
    const rows = Array.from({ length: 60_000 }, (_each, row) => `${row}\tBEGIN; of row ${row}\n`).join('');
    const script = `BEGIN;\nCOPY t FROM stdin;\n${rows}\\.\n`;
    const dump = Buffer.from(`${header}\\restrict k1\n${script.repeat(2)}\n\\unrestrict k1\n`);
    const blocks: Uint8Array[] = [];
    async function* handed() {
      for (let start = 0; start < dump.length; start += 300_000) {
        const chunk = dump.subarray(start, start + 300_000);
        const block = allocateBlock(chunk.length);
        block.set(chunk);
        blocks.push(block);
        yield block;
      }
    }
    const edited = withStatementsEdited([{ begins: /^COPY t FROM/, edit: (text) => text.replace(' t ', ' u ') }]);
    let out = '';
    const take = (piece: Uint8Array | undefined): void => {
      if (piece === undefined) return;
      out += Buffer.from(piece).toString();
      releaseBlock(piece);
    };
    // Some are still on their way while the next ones are asked for.
    const held: Uint8Array[] = [];
    for await (const piece of guardPsqlScript('OURS', guard)(edited(handed()))) {
      if (held.push(piece) > 3) take(held.shift());
    }
    for (const piece of held) take(piece);
    const [begin, commit] = singleTransaction ? ['BEGIN;\n', '\nCOMMIT;\n'] : ['', ''];
    const body = script.repeat(2).replaceAll('COPY t', 'COPY u');
    const expected = singleTransaction ? body.replaceAll('BEGIN;\nCOPY', '\nCOPY') : body;
    expect(out === `\\restrict OURS\n${begin}${header}\n${expected}\n\n${commit}`).toBe(true);
    expect(blocks.length).toBeGreaterThan(10);
    expect(blocks.map((block) => block.length)).toEqual(blocks.map(() => 0));
  });

  test('whatever the sizes of dump and chunks, every other byte passes unchanged', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.string({ maxLength: 200 }).map((text) => text.replaceAll('\\', '/').repeat(200)),
        fc.integer({ min: 1, max: 30_000 }),
        fc.boolean(),
        async (body, chunkBytes, restricted) => {
          const dump = restricted ? `${header}\\restrict k1\n;${body}\n\\unrestrict k1\n` : `;${body}`;
          const expected = restricted ? `${header}\n;${body}\n\n` : `;${body}`;
          expect(await guardText(dump, chunkBytes)).toBe(`\\restrict OURS\n${expected}`);
        },
      ),
      { numRuns: 50 },
    );
  });
});
