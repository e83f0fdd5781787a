import { describe, expect, test } from 'vitest';
import {
  SAMPLE_MAJORS,
  SAMPLE_VERSIONS,
  customSample,
  sampleBytes,
  type SampleMajor,
} from '../../../test/support/toc-samples.ts';
import { MIB } from '../../common/bytes.ts';
import { isPgarkError } from '../../common/errors.ts';
import { readable, toByteString } from './byte-string.ts';
import { readToc, readTocOf } from './read-toc.ts';
import type { Toc, TocEntry } from './toc.ts';
import { writeToc } from './write-toc.ts';

const FORMATS = ['custom', 'directory'] as const;
const SAMPLES = SAMPLE_MAJORS.flatMap((major) => FORMATS.map((format) => [major, format] as const));

async function* chunksOf(bytes: Uint8Array, chunkBytes: number): AsyncGenerator<Uint8Array> {
  for (let start = 0; start < bytes.length; start += chunkBytes) yield bytes.subarray(start, start + chunkBytes);
}

function entryNamed(entries: readonly TocEntry[], description: string, tag: string): TocEntry | undefined {
  return entries.find((each) => each.description === description && readable(each.tag) === tag);
}

/** Whether that is what reading it says. */
function breaksOff(bytes: Uint8Array): boolean {
  try {
    readToc(bytes);
    return false;
  } catch (error) {
    return isPgarkError(error, 'corrupt') && error.message.includes('truncated');
  }
}

/** The bytes with others in the place where `find` stands first. */
function replaced(bytes: Buffer, find: Buffer | string, by: Buffer): Buffer {
  const at = bytes.indexOf(find);
  expect(at).toBeGreaterThan(0);
  return Buffer.concat([bytes.subarray(0, at), by, bytes.subarray(at + find.length)]);
}

describe.each(SAMPLES)('what pg_dump %i writes in %s format', (major: SampleMajor, format) => {
  const bytes = sampleBytes(major, format);

  test('is read', () => {
    const { toc } = readToc(bytes);
    expect(toc).toMatchObject({ version: SAMPLE_VERSIONS[major], format, offsetBytes: 8, compression: 0 });
    expect(toc.database).toBe('sample');
    // Those of 16 are made of those of 17.
    expect(toc.dumpVersion).toMatch(new RegExp(`^${major === 16 ? 17 : major}\\.\\d+ `));
    expect(toc.createdAt.year).toBeGreaterThanOrEqual(126);
    const table = entryNamed(toc.entries, 'TABLE', 'customer');
    const data = entryNamed(toc.entries, 'TABLE DATA', 'customer');
    expect(table).toMatchObject({
      hasData: false,
      section: 2,
      namespace: 'public',
      tablespace: '',
      tableAccessMethod: 'heap',
      relkind: major >= 17 ? 'r'.charCodeAt(0) : undefined,
      withOids: false,
      copyStatement: null,
    });
    expect(table?.oid).toBeGreaterThanOrEqual(16384);
    expect(data).toMatchObject({
      hasData: true,
      section: 3,
      copyStatement: 'COPY public.customer (id, name) FROM stdin;\n',
      dependencies: [table?.dumpId],
    });
    expect(entryNamed(toc.entries, 'FK CONSTRAINT', 'order order_customer_id_fkey')).toMatchObject({ section: 4 });
  });

  test('is written again byte for byte', () => {
    const { toc, bytes: tocBytes } = readToc(bytes);
    expect(Buffer.from(writeToc(toc)).equals(bytes.subarray(0, tocBytes))).toBe(true);
    if (format === 'directory') expect(tocBytes).toBe(bytes.length);
  });

  test('is read from a stream, however that is cut', async () => {
    const whole = readToc(bytes);
    for (const chunkBytes of [1, 7, 4096, bytes.length]) {
      expect(await readTocOf(chunksOf(bytes, chunkBytes))).toEqual(whole);
    }
  });

  test('is corrupt wherever it breaks off', async () => {
    const { bytes: tocBytes } = readToc(bytes);
    const lengths = Array.from({ length: tocBytes }, (_, length) => length);
    expect(lengths.filter((length) => !breaksOff(bytes.subarray(0, length)))).toEqual([]);
    await expect(readTocOf(chunksOf(bytes.subarray(0, tocBytes - 1), 100))).rejects.toMatchObject({
      code: 'corrupt',
      message: expect.stringContaining(`breaks off after`),
    });
  });
});

describe('a stream in custom format', () => {
  test('is left when the table of contents has been read, and no more is asked for', async () => {
    const bytes = sampleBytes(17, 'custom');
    const { bytes: tocBytes } = readToc(bytes);
    let left = false;
    async function* dump(): AsyncGenerator<Uint8Array> {
      try {
        yield bytes.subarray(0, tocBytes - 10);
        yield bytes.subarray(tocBytes - 10, tocBytes);
        throw new Error('the data was asked for');
      } finally {
        left = true;
      }
    }
    expect(await readTocOf(dump())).toMatchObject({ bytes: tocBytes });
    expect(left).toBe(true);
  });

  test('passes on what its source fails with', async () => {
    async function* dump(): AsyncGenerator<Uint8Array> {
      yield sampleBytes(17, 'custom').subarray(0, 100);
      throw new Error('pg_dump was killed');
    }
    await expect(readTocOf(dump())).rejects.toThrowError('pg_dump was killed');
  });
});

test('a toc.dat that goes on after its end is corrupt', async () => {
  const bytes = Buffer.concat([sampleBytes(17, 'directory'), Buffer.from([0])]);
  const expected = { code: 'corrupt', message: expect.stringContaining('goes on after its end') };
  expect(() => readToc(bytes)).toThrowError(expect.objectContaining(expected));
  await expect(readTocOf(chunksOf(bytes, bytes.length))).rejects.toMatchObject(expected);
  await expect(readTocOf(chunksOf(bytes, bytes.length - 1))).rejects.toMatchObject(expected);
});

describe('refused with a sentence is', () => {
  const bytes = sampleBytes(17, 'custom');
  const withByte = (at: number, byte: number): Buffer => {
    const changed = Buffer.from(bytes);
    changed[at] = byte;
    return changed;
  };

  test.each([
    ['an older archive', withByte(6, 13), /version 1\.13; pgark reads 1\.14 to 1\.16/],
    ['a newer archive', withByte(6, 17), /version 1\.17; pgark reads 1\.14 to 1\.16/],
    ['one of another major version', withByte(5, 2), /version 2\.16;/],
    ['one of an unknown revision', withByte(7, 1), /version 1\.16\.1;/],
    ['an unknown format', withByte(10, 4), /a format \(4\) that is neither/],
  ])('%s', (_what, changed, message) => {
    expect(() => readToc(changed)).toThrowError(
      expect.objectContaining({ code: 'archive-unsupported', message: expect.stringMatching(message) }),
    );
  });

  test.each([
    ['what is no archive', Buffer.from('--\n-- PostgreSQL database dump\n'), /no archive of pg_dump/],
    ['an integer of another size', withByte(8, 8), /the size of an integer, and 8/],
    ['an offset of another size', withByte(9, 0), /the size of an offset, and 0/],
    ['an unknown sign', replaced(bytes, '\0\x06\0\0\0sample', Buffer.from('\x02\x06\0\0\0sample')), /is no integer/],
    ['a negative zero', replaced(bytes, '\0\x06\0\0\0sample', Buffer.from('\x01\0\0\0\0')), /is no integer/],
    ['a length below -1', replaced(bytes, '\0\x06\0\0\0sample', Buffer.from('\x01\x02\0\0\0')), /length of a string/],
    ['a zero byte in a string', replaced(bytes, 'sample', Buffer.from('sam\0le')), /holds a zero byte/],
    ['an OID that is no number', replaced(bytes, '\x01\0\0\x000', Buffer.from('\x01\0\0\0x')), /no such number/],
    ['an OID of another form', replaced(bytes, '\x01\0\0\x000', Buffer.from('\x02\0\0\x0000')), /no such number/],
    [
      'a missing kind',
      replaced(bytes, '\0\x08\0\0\0ENCODING\0\x08\0\0\0ENCODING', Buffer.from('\x01\x01\0\0\0')),
      /absent/,
    ],
    [
      'other than true or false',
      replaced(bytes, '\0\x05\0\0\0false', Buffer.from('\0\x05\0\0\0False')),
      /neither true/,
    ],
  ])('%s', (_what, changed, message) => {
    expect(() => readToc(changed)).toThrowError(
      expect.objectContaining({ code: 'corrupt', message: expect.stringMatching(message) }),
    );
  });

  test.each([
    [
      'a negative count',
      { ...customSample(17), entries: { length: -5, [Symbol.iterator]: () => [].values() } },
      /-5 entries/,
    ],
    ['an id of 0', withEntry({ dumpId: 0 }), /the id 0/],
    ['a negative id', withEntry({ dumpId: -7 }), /the id -7/],
    ['an unknown section', withEntry({ section: 5 }), /a section, and 5/],
    ['an unknown state of an offset', withEntry({ offsetState: 0 }), /the state of an offset, and 0/],
    ['an OID beyond 32 bits', withEntry({ oid: 2 ** 32 }), /no such number/],
    ['a dependency beyond 31 bits', withEntry({ dependencies: [2 ** 31] }), /no such number/],
  ])('%s', (_what, toc, message) => {
    const written = writeToc(toc as Toc);
    expect(() => readToc(written)).toThrowError(
      expect.objectContaining({ code: 'corrupt', message: expect.stringMatching(message) }),
    );
  });
});

/** A sample whose first entry has something that none can have. */
function withEntry(impossible: Readonly<Record<string, unknown>>): unknown {
  const toc = customSample(17);
  return { ...toc, entries: toc.entries.map((entry, index) => (index === 0 ? { ...entry, ...impossible } : entry)) };
}

describe('a table of contents beyond the limit', () => {
  const expected = { code: 'archive-unsupported', message: expect.stringContaining('longer than') };

  test('is refused, whole or as a stream', async () => {
    const bytes = sampleBytes(17, 'custom');
    const { bytes: tocBytes } = readToc(bytes);
    expect(readToc(bytes, { bytesMax: tocBytes })).toMatchObject({ bytes: tocBytes });
    expect(() => readToc(bytes, { bytesMax: tocBytes - 1 })).toThrowError(expect.objectContaining(expected));
    await expect(readTocOf(chunksOf(bytes, 100), { bytesMax: tocBytes - 1 })).rejects.toMatchObject(expected);
  });

  test('is not read beyond it, however much it claims to hold', async () => {
    const head = writeToc({ ...customSample(17), entries: [] });
    const length = (bytes: number): Buffer => {
      const integer = Buffer.alloc(5);
      integer.writeUInt32LE(bytes, 1);
      return integer;
    };
    const pulled = { bytes: 0 };
    async function* endless(): AsyncGenerator<Uint8Array> {
      // One entry, with an OID of a length that is claimed to be 2 GiB.
      const start = Buffer.concat([head.subarray(0, -5), length(1), length(1), length(0), length(2 ** 31 - 1)]);
      yield start;
      for (;;) {
        pulled.bytes += MIB;
        yield Buffer.alloc(MIB, '1');
      }
    }
    await expect(readTocOf(endless())).rejects.toMatchObject(expected);
    expect(pulled.bytes).toBe(0);
    async function* many(): AsyncGenerator<Uint8Array> {
      // As many entries as can be claimed, each one short and sound.
      const { entries, ...rest } = customSample(17);
      const one = writeToc({ ...rest, entries: entries.slice(0, 1) }).subarray(head.length);
      yield Buffer.concat([head.subarray(0, -5), length(2 ** 31 - 1)]);
      const block = Buffer.concat(Array.from({ length: Math.floor(MIB / one.length) }, () => one));
      for (;;) {
        pulled.bytes += block.length;
        yield block;
      }
    }
    await expect(readTocOf(many(), { bytesMax: 5 * MIB })).rejects.toMatchObject(expected);
    expect(pulled.bytes).toBeGreaterThan(4 * MIB);
    expect(pulled.bytes).toBeLessThanOrEqual(6 * MIB);
  });
});

test('a string keeps its bytes, whatever their encoding', () => {
  const toc = { ...customSample(15), database: toByteString('Grün') };
  expect(readable(readToc(writeToc(toc)).toc.database ?? toByteString(''))).toBe('Grün');
  expect(toByteString('Grün')).toHaveLength(5);
});
