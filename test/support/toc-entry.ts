import { toByteString } from '../../src/postgres/toc/byte-string.ts';
import { SECTION, type TocEntry } from '../../src/postgres/toc/toc.ts';

/** `TABLE public.orders`, which depends on the entries with these ids. */
export function tocEntry(
  dumpId: number,
  description: string,
  name: string,
  ...dependencies: readonly number[]
): TocEntry {
  const [, namespace, tag = ''] = /^(?:([^. ]*)\.)?(.*)$/s.exec(name) ?? [];
  return {
    dumpId,
    hasData: description === 'TABLE DATA',
    tableOid: 0,
    oid: 0,
    tag: toByteString(tag),
    description: toByteString(description),
    section: SECTION.none,
    definition: null,
    dropStatement: null,
    copyStatement: null,
    namespace: namespace === undefined ? null : toByteString(namespace),
    tablespace: null,
    tableAccessMethod: null,
    relkind: undefined,
    owner: null,
    withOids: false,
    dependencies,
  };
}
