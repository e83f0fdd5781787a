import { decodeText } from '../../postgres/client/text-encodings.ts';
import { type ByteString, bytesOf, toByteString } from '../../postgres/toc/byte-string.ts';
import { clientEncodingOf } from '../../postgres/toc/client-encoding.ts';
import type { CustomEntry, CustomToc } from '../../postgres/toc/toc.ts';

/**
 * The entries as they are told to people, and found by names that people write. Their COPY statements stay as they are: the
 * server is told them in the encoding of the archive.
 */
export function entriesInUtf8(toc: CustomToc): readonly CustomEntry[] {
  const encoding = clientEncodingOf(toc);
  if (encoding === 'UTF8' || encoding === 'SQL_ASCII') return toc.entries;
  const decoded = <S extends ByteString | null>(text: S): ByteString | S =>
    text === null || isAscii(text) ? text : toByteString(decodeText(bytesOf(text), encoding));
  return toc.entries.map((entry) => ({
    ...entry,
    tag: decoded(entry.tag),
    definition: decoded(entry.definition),
    namespace: decoded(entry.namespace),
    tablespace: decoded(entry.tablespace),
    owner: decoded(entry.owner),
  }));
}

/** The bytes of ASCII are the same in all encodings that a server has. */
function isAscii(text: string): boolean {
  return !BEYOND_ASCII.test(text);
}

const BEYOND_ASCII = /[\x80-\xff]/;
