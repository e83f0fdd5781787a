import { describe, expect, test } from 'vitest';
import { tocEntry } from '../../../test/support/toc-entry.ts';
import { SECTION, type TocEntry } from '../../postgres/toc/toc.ts';
import { phasesOf, useList } from './restore-phases.ts';

let lastId = 0;

function entry(description: string, section: TocEntry['section'], hasData = false): TocEntry {
  lastId += 1;
  return { ...tocEntry(lastId, description, 't'), section, hasData };
}

const { none, preData, data, postData } = SECTION;

function described(entries: readonly TocEntry[]): string[] {
  return entries.map(({ description }) => description);
}

describe('the phases of a restore', () => {
  test('are definitions, rows and large objects, and the rest, each in the order of the TOC', () => {
    const phases = phasesOf({
      entries: [
        entry('ENCODING', preData),
        entry('TABLE', preData),
        entry('COMMENT', none),
        entry('BLOB', preData),
        entry('TABLE DATA', data, true),
        entry('SEQUENCE SET', data),
        entry('BLOBS', data, true),
        entry('CONSTRAINT', postData),
        entry('COMMENT', none),
      ],
    });
    expect(described(phases.before)).toEqual(['ENCODING', 'TABLE', 'COMMENT', 'BLOB']);
    expect(described(phases.tables)).toEqual(['TABLE DATA']);
    expect(described(phases.largeObjects)).toEqual(['BLOBS']);
    expect(described(phases.after)).toEqual(['SEQUENCE SET', 'CONSTRAINT', 'COMMENT']);
  });

  test('give rights only after the rows, which an owner may have no right to insert', () => {
    const phases = phasesOf({ entries: [entry('TABLE', preData), entry('ACL', none), entry('DEFAULT ACL', postData)] });
    expect(described(phases.before)).toEqual(['TABLE']);
    expect(described(phases.after)).toEqual(['ACL', 'DEFAULT ACL']);
  });

  test('make the large objects of PostgreSQL 17 before they are written, though they count as data', () => {
    const phases = phasesOf({
      entries: [entry('BLOB METADATA', data), entry('ACL', none), entry('BLOBS', data, true), entry('INDEX', postData)],
    });
    expect(described(phases.before)).toEqual(['BLOB METADATA']);
    expect(described(phases.after)).toEqual(['ACL', 'INDEX']);
  });

  test('refuse data of an unknown kind, which would be left out in silence', () => {
    expect(() => phasesOf({ entries: [entry('CRYSTAL', data, true)] })).toThrow(/data of a kind .* CRYSTAL/);
  });

  test('are told to pg_restore by ids, one a line', () => {
    const entries = [entry('TABLE', preData), entry('INDEX', postData)];
    expect(Buffer.from(useList(entries)).toString()).toBe(entries.map(({ dumpId }) => `${dumpId};\n`).join(''));
  });
});
