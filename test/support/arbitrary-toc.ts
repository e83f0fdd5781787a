import fc from 'fast-check';
import { type ByteString, byteStringOf } from '../../src/postgres/toc/byte-string.ts';
import type { CustomEntry, DirectoryEntry, Toc, TocEntry, TocVersion } from '../../src/postgres/toc/toc.ts';

const text: fc.Arbitrary<ByteString> = fc.oneof(
  fc.constantFrom(
    ...['', 'TABLE', 'TABLE DATA', 'public', '\xff\xfe\x80', 'Gr\xfcn\n'].map((each) => each as ByteString),
  ),
  fc.array(fc.integer({ min: 1, max: 255 }), { maxLength: 40 }).map((bytes) => byteStringOf(Buffer.from(bytes))),
);
const optionalText = fc.option(text);
const integer = fc.integer({ min: -(2 ** 31) + 1, max: 2 ** 31 - 1 });
const oid = fc.integer({ min: 0, max: 2 ** 32 - 1 });
const dumpId = fc.integer({ min: 1, max: 2 ** 31 - 1 });

function entryOf(version: TocVersion): fc.Arbitrary<TocEntry> {
  return fc.record({
    dumpId,
    hasData: fc.boolean(),
    tableOid: oid,
    oid,
    tag: text,
    description: text,
    section: fc.constantFrom(1, 2, 3, 4),
    definition: optionalText,
    dropStatement: optionalText,
    copyStatement: optionalText,
    namespace: optionalText,
    tablespace: optionalText,
    tableAccessMethod: optionalText,
    relkind: version >= 16 ? integer : fc.constant(undefined),
    owner: optionalText,
    withOids: fc.boolean(),
    dependencies: fc.array(fc.oneof(dumpId, fc.constant(0)), { maxLength: 5 }),
  });
}

function tocOf(version: TocVersion, offsetBytes: 4 | 8): fc.Arbitrary<Toc> {
  const head = {
    version: fc.constant(version),
    offsetBytes: fc.constant(offsetBytes),
    compression: version >= 15 ? fc.integer({ min: 0, max: 255 }) : integer,
    createdAt: fc.record({
      second: integer,
      minute: integer,
      hour: integer,
      day: integer,
      month: integer,
      year: integer,
      isDst: integer,
    }),
    database: optionalText,
    serverVersion: optionalText,
    dumpVersion: optionalText,
  };
  const entry = entryOf(version);
  const custom: fc.Arbitrary<CustomEntry> = fc
    .tuple(entry, fc.constantFrom(1, 2, 3), fc.bigInt({ min: 0n, max: 2n ** BigInt(8 * offsetBytes) - 1n }))
    .map(([each, offsetState, offset]) => ({ ...each, offsetState, offset }));
  const directory: fc.Arbitrary<DirectoryEntry> = fc.tuple(entry, text).map(([each, file]) => ({ ...each, file }));
  return fc.oneof(
    fc.record({ ...head, format: fc.constant('custom'), entries: fc.array(custom, { maxLength: 8 }) }),
    fc.record({ ...head, format: fc.constant('directory'), entries: fc.array(directory, { maxLength: 8 }) }),
  );
}

/** A table of contents with anything that one can hold. */
export const arbitraryToc: fc.Arbitrary<Toc> = fc
  .tuple(fc.constantFrom<TocVersion>(14, 15, 16), fc.constantFrom<4 | 8>(4, 8))
  .chain(([version, offsetBytes]) => tocOf(version, offsetBytes));
