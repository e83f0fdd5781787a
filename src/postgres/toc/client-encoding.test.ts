import { describe, expect, test } from 'vitest';
import { customSample, SAMPLE_MAJORS } from '../../../test/support/toc-samples.ts';
import { type ByteString, toByteString } from './byte-string.ts';
import { clientEncodingOf } from './client-encoding.ts';

const { entries } = customSample(17);

function encodingBy(definition: ByteString | null): string {
  return clientEncodingOf({
    entries: entries.map((entry) => (entry.description === 'ENCODING' ? { ...entry, definition } : entry)),
  });
}

describe('the encoding of an archive', () => {
  test.each(SAMPLE_MAJORS)('is what pg_dump %i has written', (major) => {
    expect(clientEncodingOf(customSample(major))).toBe('UTF8');
  });

  test('may be any that PostgreSQL has', () => {
    expect(encodingBy(toByteString("SET client_encoding = 'EUC_JIS_2004';\n"))).toBe('EUC_JIS_2004');
  });

  test.each([
    ['no definition', null],
    ['an empty name', "SET client_encoding = '';\n"],
    ['a name that leads out of its quotes', "SET client_encoding = 'UTF8'; DROP TABLE t; --';\n"],
    ['more than one statement', "SET client_encoding = 'UTF8';\nDROP TABLE t;\n"],
  ])('is not guessed from %s', (_what, definition) => {
    expect(() => encodingBy(definition === null ? null : toByteString(definition))).toThrow(
      expect.objectContaining({ code: 'corrupt', message: expect.stringContaining('in which encoding it is') }),
    );
  });

  test('is missing where there is no entry for it', () => {
    expect(() => clientEncodingOf({ entries: [] })).toThrow(expect.objectContaining({ code: 'corrupt' }));
  });
});
