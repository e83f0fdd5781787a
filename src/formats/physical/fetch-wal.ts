import { releaseBlock } from '../../common/block-memory.ts';
import { PgarkError } from '../../common/errors.ts';
import { inParallel } from '../../common/in-parallel.ts';
import { toByteString } from '../../postgres/toc/byte-string.ts';
import { historyFileName } from '../../postgres/wal/timeline-history.ts';
import { readStateBytes } from '../../repository/state-object.ts';
import { walKey } from '../../repository/wal-keys.ts';
import type { SourceAccess } from '../load-source.ts';
import { readPiece } from '../wal/read-piece.ts';
import { type ArchivedSegment, findSpan, type WalSpan } from './needed-wal.ts';
import { cannotWrite, type TargetFolder } from './target-files.ts';

/** Segments that are fetched at once. */
const FETCHES = 4;

/**
 * Writes the segments of a span into `pg_wal` of a data directory, each as long as all are, with the history of their
 * timeline. Errors: `corrupt` where anything is missing or damaged; `wrong-key`, `key-missing`, `store-…`.
 */
export async function fetchSpan(span: WalSpan, access: SourceAccess, data: TargetFolder): Promise<void> {
  const { store, signal } = access;
  const segments = await findSpan(store, span, { signal });
  await inParallel(segments, FETCHES, signal, async (take, either) => {
    for (let segment = take(); segment !== undefined; segment = take()) {
      await writeSegment(segment, span, { ...access, signal: either }, data);
    }
  });
  if (span.timeline > 1) await writeHistory(span, access, data);
}

async function writeSegment(
  { name, parts }: ArchivedSegment,
  { segmentBytes, timeline }: WalSpan,
  { store, keys, signal }: SourceAccess,
  data: TargetFolder,
): Promise<void> {
  const file = await data.create(toByteString(`pg_wal/${name}`));
  try {
    for (const part of parts) {
      const { facts, content } = await readPiece(store, part, { keys, signal });
      let at = part.from;
      for await (const block of content) {
        await file.write(block, 0, block.length, at).catch((error: unknown) => {
          throw cannotWrite(name, data.path, error);
        });
        at += block.length;
        releaseBlock(block);
      }
      if (at !== part.to || facts.timeline !== timeline) {
        throw new PgarkError('corrupt', `${part.key} does not hold what its name says`);
      }
    }
    // PostgreSQL reads no segment that is shorter; what is not archived of it is zeros, where its WAL ends.
    await file.truncate(segmentBytes);
  } finally {
    await file.close();
  }
}

async function writeHistory({ folder, timeline }: WalSpan, access: SourceAccess, data: TargetFolder): Promise<void> {
  const name = historyFileName(timeline);
  const key = walKey(folder, { kind: 'history', name }, '');
  const history = await readStateBytes(access.store, key, { signal: access.signal });
  if (history === undefined) {
    throw new PgarkError(
      'corrupt',
      `${key}, the history of the backup’s timeline, is missing from ${access.store.location}`,
    );
  }
  await data.replace(`pg_wal/${name}`, history.bytes);
}
