import { once } from '../../common/bytes.ts';
import { byteStringOf } from '../../postgres/toc/byte-string.ts';
import type { CustomToc } from '../../postgres/toc/toc.ts';
import { writeToc } from '../../postgres/toc/write-toc.ts';
import { readDumpHead } from '../plain/dump-head.ts';
import { editsAtDump } from '../plain/server-fit.ts';
import { withStatementsEdited } from '../plain/sql-script.ts';

/** Without what a pg_dump that is out of step with its server takes for a part of the database although it is none. */
export async function withoutInternals(toc: CustomToc): Promise<CustomToc> {
  const edits = editsAtDump(readDumpHead(writeToc({ ...toc, entries: [] })) ?? { kind: 'archive' });
  if (edits.length === 0) return toc;
  const entries = await Promise.all(
    toc.entries.map(async (entry) => {
      const { definition } = entry;
      if (definition === null || !edits.some(({ begins }) => new RegExp(begins.source, 'm').test(definition))) {
        return entry;
      }
      const blocks: Buffer[] = [];
      for await (const block of withStatementsEdited(edits)(once(Buffer.from(definition, 'latin1')))) {
        blocks.push(Buffer.from(block));
      }
      return { ...entry, definition: byteStringOf(Buffer.concat(blocks)) };
    }),
  );
  return { ...toc, entries };
}
