import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { guardPsqlScript } from './psql-guard.ts';

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
