import { describe, expect, test } from 'vitest';
import { customSample } from '../../../test/support/toc-samples.ts';
import { byteStringOf, toByteString } from '../../postgres/toc/byte-string.ts';
import type { CustomToc } from '../../postgres/toc/toc.ts';
import { withoutInternals } from './fit-toc.ts';

const VERSION = 'ALTER TABLE ONLY public.t ALTER COLUMN a SET (pg_attver=22097032);\n';

/** A table of contents by these versions, whose entries have these definitions. */
function tocOf(server: string, dump: string, definitions: readonly Buffer[]): CustomToc {
  const sample = customSample(15);
  const [entry] = sample.entries.filter(({ description }) => description === 'TABLE');
  if (entry === undefined) throw new Error('there is no table in the sample');
  return {
    ...sample,
    serverVersion: toByteString(server),
    dumpVersion: toByteString(dump),
    entries: definitions.map((definition) => ({ ...entry, definition: byteStringOf(definition) })),
  };
}

async function edited(server: string, dump: string, ...texts: readonly string[]): Promise<readonly string[]> {
  const toc = tocOf(
    server,
    dump,
    texts.map((text) => Buffer.from(text)),
  );
  const { entries } = await withoutInternals(toc);
  return entries.map(({ definition }) => Buffer.from(definition ?? '', 'latin1').toString());
}

describe('the table of contents of a pg_dump that is out of step with its server', () => {
  test.each([
    ['an older minor release', '15.20', '15.18 (Debian 15.18-0+deb12u1)'],
    ['a newer major version', '15.20', '17.5'],
  ])('has no versions of columns: %s', async (_what, server, dump) => {
    const table = 'CREATE TABLE public.t (\n    a integer\n);\n';
    const options = 'ALTER TABLE ONLY public.t ALTER COLUMN b SET (n_distinct=5, pg_attver=22097032);\n';
    expect(await edited(server, dump, `${table}${VERSION}${options}`, table)).toEqual([
      `${table}\nALTER TABLE ONLY public.t ALTER COLUMN b SET (n_distinct=5);\n`,
      table,
    ]);
  });

  test('keeps what only looks like one', async () => {
    const body = `CREATE FUNCTION public.f() RETURNS void\n    LANGUAGE sql\n    AS $$\n${VERSION}$$;\n`;
    expect(await edited('15.20', '15.18', body)).toEqual([body]);
  });

  test('keeps the bytes of every other statement, whatever their encoding', async () => {
    const latin = Buffer.from(
      'ALTER TABLE ONLY public."Gr\xf6\xdfe" ALTER COLUMN "\xe4" SET STATISTICS 77;\n',
      'latin1',
    );
    const toc = tocOf('15.20', '15.18', [Buffer.concat([latin, Buffer.from(VERSION)])]);
    const [entry] = (await withoutInternals(toc)).entries;
    expect(entry?.definition).toBe(byteStringOf(Buffer.concat([latin, Buffer.from('\n')])));
  });

  test.each([
    ['the same release', '15.20', '15.20'],
    ['a later minor release', '15.18', '15.20'],
  ])('is left as it is where they are in step: %s', async (_what, server, dump) => {
    const toc = tocOf(server, dump, [Buffer.from(VERSION)]);
    expect(await withoutInternals(toc)).toBe(toc);
  });
});
