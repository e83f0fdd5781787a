import type { ByteStream } from '../../common/bytes.ts';
import { type ReplayedSpan, TablespaceWatch } from '../../postgres/wal/tablespace-watch.ts';

/**
 * A segment's content as it is, while its records are looked through. Errors: `tablespace-path`, and `corrupt`, of those that are
 * replayed; undefined lets all through.
 */
export async function* watched(content: ByteStream, replayed: ReplayedSpan | undefined): ByteStream {
  const watch = replayed && new TablespaceWatch(replayed);
  for await (const block of content) {
    watch?.push(block);
    yield block;
  }
  watch?.finish();
}
