import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { ByteStream } from '../../common/bytes.ts';
import { withoutNewerSettings } from './newer-settings.ts';

/** The top of a dump as pg_dump 17 writes it. */
const HEAD = `--
-- PostgreSQL database dump
--

\\restrict Yq3fW0dTtWm2

-- Dumped from database version 15.8
-- Dumped by pg_dump version 17.6

SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET transaction_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
`;
const ROWS = `CREATE TABLE public.t (a text);
COPY public.t (a) FROM stdin;
SET transaction_timeout = 0;
\\.
SELECT '
SET transaction_timeout = 0;
';
`;
const LINE = 'SET transaction_timeout = 0;';
const COMMENTED = '--  transaction_timeout = 0;';

async function run(serverMajor: number, script: string, chunkBytes = script.length): Promise<string> {
  const bytes = Buffer.from(script);
  async function* chunks(): ByteStream {
    for (let at = 0; at < bytes.length; at += chunkBytes) yield Uint8Array.from(bytes.subarray(at, at + chunkBytes));
  }
  const out: Uint8Array[] = [];
  for await (const block of withoutNewerSettings(serverMajor)(chunks())) out.push(block);
  return Buffer.concat(out).toString();
}

describe('a setting that the server does not know', () => {
  test.each([13, 16])('is commented out for PostgreSQL %i, however the blocks are cut', async (major) => {
    const script = HEAD + ROWS;
    const expected = HEAD.replace(LINE, COMMENTED) + ROWS;
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: script.length }), async (chunkBytes) => {
        expect(await run(major, script, chunkBytes)).toBe(expected);
      }),
    );
    const windows = script.replaceAll('\n', '\r\n');
    expect(await run(major, windows, 100)).toBe(expected.replaceAll('\n', '\r\n'));
  });

  test('is commented out in a dump that is longer than what is looked through', async () => {
    const rest = `${ROWS}-- ${'x'.repeat(40_000)}\n${ROWS}`;
    for (const chunkBytes of [1000, 16_384, 100_000])
      expect(await run(15, HEAD + rest, chunkBytes)).toBe(HEAD.replace(LINE, COMMENTED) + rest);
  });

  test.each([17, 18])('stays for PostgreSQL %i, which knows it', async (major) => {
    expect(await run(major, HEAD + ROWS)).toBe(HEAD + ROWS);
  });

  test.each([
    ['a row', ROWS],
    ['a string', `SET search_path = 'a\n${LINE}\n';\n`],
    ['a comment over several lines', `/*\n${LINE}\n*/\n`],
    ['a statement over several lines', `SELECT 1\n${LINE}\n`],
  ])('is left alone in %s', async (_what, text) => {
    const script = HEAD.replace(`${LINE}\n`, '') + text;
    expect(await run(15, script)).toBe(script);
    expect(await run(15, text, 3)).toBe(text);
  });

  test('may be missing, as may everything else', async () => {
    for (const script of ['', 'x', LINE, '\n', HEAD.slice(0, 30)]) expect(await run(15, script, 7)).toBe(script);
  });
});
