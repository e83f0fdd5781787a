import { describe, expect, test } from 'vitest';
import { SAMPLE_MAJORS, customSample } from '../../../test/support/toc-samples.ts';
import { readable, toByteString } from './byte-string.ts';
import { readCopyStatement } from './copy-statement.ts';
import type { TocEntry } from './toc.ts';

function read(statement: string | null): { relation: string; columns: string } {
  const [entry] = customSample(15).entries.filter((each) => each.description === 'TABLE DATA');
  if (entry === undefined) throw new Error('there is no data in the sample');
  const of: TocEntry = { ...entry, copyStatement: statement === null ? null : toByteString(statement) };
  const { relation, columns } = readCopyStatement(of);
  return { relation: readable(relation), columns: readable(columns) };
}

describe('the COPY statement of an entry', () => {
  test.each([
    ['COPY public.t (a, b_1$) FROM stdin;\n', 'public.t', 'a, b_1$'],
    ['COPY public.nothing  FROM stdin;\n', 'public.nothing', ''],
    ['COPY "S".t ("A", "b c", "d""e") FROM stdin;\n', '"S".t', '"A", "b c", "d""e"'],
    [
      'COPY s."x (a) FROM stdin;\n" ("b) FROM stdin;\n", c) FROM stdin;\n',
      's."x (a) FROM stdin;\n"',
      '"b) FROM stdin;\n", c',
    ],
    ['COPY s." FROM stdin;\n"  FROM stdin;\n', 's." FROM stdin;\n"', ''],
    ['COPY s."""" ("""", "("")") FROM stdin;\n', 's.""""', '"""", "("")"'],
    ['COPY größe.t ("Grün", überall) FROM stdin;\n', 'größe.t', '"Grün", überall'],
  ])('%j names table and columns', (statement, relation, columns) => {
    expect(read(statement)).toEqual({ relation, columns });
  });

  test.each(SAMPLE_MAJORS)('is understood as pg_dump %i writes it', (major) => {
    const data = customSample(major).entries.filter((each) => each.description === 'TABLE DATA');
    const targets = new Map(data.map((each) => [readable(each.tag), readCopyStatement(each)]));
    expect(targets.get('customer')).toEqual({ relation: 'public.customer', columns: 'id, name' });
    expect(targets.get('nothing')).toEqual({ relation: 'public.nothing', columns: '' });
    const odd = targets.get('t (a) FROM stdin; ') ?? targets.get('t (a) FROM stdin;\n');
    expect(odd).toEqual({
      relation: '"odd ""name"."t (a) FROM stdin;\n"',
      columns: toByteString('a, "b, c) FROM stdin;\n", "Grün"'),
    });
  });

  test.each([
    [null],
    [''],
    ['COPY t (a) FROM stdin;'],
    ['COPY t (a) FROM stdin;\n '],
    ['COPY t () FROM stdin;\n'],
    ['COPY t (a) FROM stdin WITH (FORMAT csv);\n'],
    ['COPY t (a) TO stdout;\n'],
    ['COPY t (a); DROP TABLE t; COPY t (a) FROM stdin;\n'],
    ['COPY t (a, (SELECT 1)) FROM stdin;\n'],
    ['COPY "t (a) FROM stdin;\n'],
    ['COPY T (a) FROM stdin;\n'],
  ])('%j is none that pg_dump writes', (statement) => {
    expect(() => read(statement)).toThrowError(expect.objectContaining({ code: 'corrupt' }));
  });

  test('of a view or an index is asked for in vain', () => {
    const [first] = customSample(15).entries;
    expect(() => readCopyStatement(first as TocEntry)).toThrowError(/has no COPY statement/);
  });

  test('is understood or refused at once, however long it is', () => {
    const columns = Array.from({ length: 1_600 }, (_, index) => `"column ""${index}"" ${'x'.repeat(40)}"`).join(', ');
    expect(read(`COPY public.t (${columns}) FROM stdin;\n`).columns).toBe(columns);
    expect(() => read(`COPY public.t (${columns}, ") FROM stdin;\n`)).toThrowError(/COPY statement/);
    for (const quotes of [500_000, 2_000_000]) {
      expect(() => read(`COPY "${'""'.repeat(quotes)} FROM stdin;\n`)).toThrowError(/COPY statement/);
    }
    const quoted = `"${'""'.repeat(500_000)}"`;
    expect(read(`COPY ${quoted}  FROM stdin;\n`).relation).toBe(quoted);
  });
});
