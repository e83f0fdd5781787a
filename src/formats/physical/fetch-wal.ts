import { createHash } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import { releaseBlock } from '../../common/block-memory.ts';
import { type ByteStream, MIB } from '../../common/bytes.ts';
import { PgarkError } from '../../common/errors.ts';
import { inParallel } from '../../common/in-parallel.ts';
import { toByteString } from '../../postgres/toc/byte-string.ts';
import { historyFileName } from '../../postgres/wal/timeline-history.ts';
import { TablespaceWatch } from '../../postgres/wal/tablespace-watch.ts';
import { walKey } from '../../repository/wal-keys.ts';
import type { SourceAccess } from '../load-source.ts';
import { readHistoryBytes } from '../wal/history-object.ts';
import { laterTimelines } from '../wal/later-timelines.ts';
import { readPiece } from '../wal/read-piece.ts';
import { type ArchivedPart, type ArchivedSegment, findSpan, type WalSpan } from './needed-wal.ts';
import { cannotWrite, type TargetFolder } from './target-files.ts';

/** Segments that are fetched at once. */
const FETCHES = 4;
const ZEROS_BYTES = MIB;

/**
 * Writes the segments of a span into `pg_wal` of a data directory, each as long as all are, with the history of their
 * timeline. What is archived behind the span's end is left out: a server that replays all that lies there ends where the span
 * does. With `refusesTablespaces` no record of the span may make a tablespace at a path. Errors: `tablespace-path` for that; `corrupt`
 * where anything is missing or damaged; `wrong-key`, `key-missing`, `store-…`.
 */
export async function fetchSpan(
  span: WalSpan,
  access: SourceAccess,
  data: TargetFolder,
  { refusesTablespaces = false } = {},
): Promise<void> {
  const { store, signal } = access;
  const segments = await findSpan(store, span, { signal });
  await inParallel(segments, FETCHES, signal, async (take, either) => {
    for (let segment = take(); segment !== undefined; segment = take()) {
      const watch = refusesTablespaces ? new TablespaceWatch(span) : undefined;
      await writeSegment(segment, span, { ...access, signal: either }, data, watch);
    }
  });
  if (span.timeline > 1) await writeHistory(span, access, data);
}

/**
 * Reads the segments of a span through, as `fetchSpan` would, and writes nothing. Errors: as those of `fetchSpan`, without those
 * of writing; `corrupt` also for the history of a later timeline.
 */
export async function checkSpan(span: WalSpan, access: SourceAccess): Promise<void> {
  await readSegments(span, access, () => undefined);
  if (span.timeline > 1) await readHistory(span, access);
  // Those of timelines behind its own lead from it to what came later.
  for await (const _ of laterTimelines(access.store, span.folder, span.timeline, { signal: access.signal })) void _;
}

/** Refuses a span before `fetchSpan` would for its tablespaces, and writes nothing. Errors: as those of `fetchSpan`. */
export async function refuseTablespacesOf(span: WalSpan, access: SourceAccess): Promise<void> {
  await readSegments(span, access, () => new TablespaceWatch(span));
}

async function readSegments(
  span: WalSpan,
  access: SourceAccess,
  makeWatch: () => TablespaceWatch | undefined,
): Promise<void> {
  const segments = await findSpan(access.store, span, { signal: access.signal });
  await inParallel(segments, FETCHES, access.signal, async (take, either) => {
    for (let segment = take(); segment !== undefined; segment = take()) {
      const watch = makeWatch();
      for (const part of segment.parts) {
        let at = part.from;
        for await (const block of contentOf(part, span, { ...access, signal: either })) {
          watch?.push(block, at);
          at += block.length;
          releaseBlock(block);
        }
      }
      watch?.finish();
    }
  });
}

/**
 * A segment as long as all are: what is not archived of it, and what lies behind the span's end, is zeros, where its WAL ends.
 * Errors: those of `checkSpan`.
 */
export async function* segmentContent({ parts }: ArchivedSegment, span: WalSpan, access: SourceAccess): ByteStream {
  let done = 0;
  for (const part of parts) {
    const end = Number(span.to - part.start);
    let at = part.from;
    for await (const block of contentOf(part, span, access)) {
      // A part may begin in the one before.
      const fresh = block.subarray(Math.min(block.length, Math.max(0, done - at)), Math.max(0, end - at));
      at += block.length;
      done += fresh.length;
      if (fresh.length > 0) yield fresh;
    }
  }
  for (; done < span.segmentBytes; done += ZEROS_BYTES) {
    yield new Uint8Array(Math.min(ZEROS_BYTES, span.segmentBytes - done));
  }
}

async function writeSegment(
  { name, parts }: ArchivedSegment,
  span: WalSpan,
  access: SourceAccess,
  data: TargetFolder,
  watch: TablespaceWatch | undefined,
): Promise<void> {
  const file = await data.create(toByteString(`pg_wal/${name}`));
  try {
    for (const part of parts) {
      let at = part.from;
      for await (const block of contentOf(part, span, access)) {
        const wanted = Math.max(0, Number(span.to - part.start) - at);
        watch?.push(block, at);
        await writeAt(file, block.subarray(0, wanted), at).catch((error: unknown) => {
          throw cannotWrite(name, data.path, error);
        });
        at += block.length;
        releaseBlock(block);
      }
    }
    watch?.finish();
    // PostgreSQL reads no segment that is shorter; what is not written of it is zeros, where its WAL ends.
    await file.truncate(span.segmentBytes);
  } finally {
    await file.close();
  }
}

/** All of it: on a disk that is nearly full one write takes a part, and only the next one fails. */
export async function writeAt(file: Pick<FileHandle, 'write'>, bytes: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const { bytesWritten } = await file.write(bytes, done, bytes.length - done, position + done);
    done += bytesWritten;
  }
}

/** Ends normally only if it is what the part's name says. */
async function* contentOf(
  part: ArchivedPart,
  { folder, timeline }: WalSpan,
  { store, keys, signal }: SourceAccess,
): ByteStream {
  const { facts, content } = await readPiece(store, part, { keys, signal });
  yield* content;
  const { systemIdentifier } = folder;
  const isAsNamed =
    facts.bytes === part.to - part.from &&
    facts.timeline === timeline &&
    facts.systemIdentifier === systemIdentifier &&
    facts.from === part.start + BigInt(part.from);
  if (!isAsNamed) throw new PgarkError('corrupt', `${part.key} does not hold what its name says`);
}

async function writeHistory(span: WalSpan, access: SourceAccess, data: TargetFolder): Promise<void> {
  await data.replace(`pg_wal/${historyFileName(span.timeline)}`, await readHistory(span, access));
}

/** Error: `corrupt` where it is missing, or not what it was when the backup was made. */
export async function readHistory(
  { folder, timeline, historySha256 }: WalSpan,
  { store, signal }: SourceAccess,
): Promise<Uint8Array> {
  const key = walKey(folder, { kind: 'history', name: historyFileName(timeline) }, '');
  const history = await readHistoryBytes(store, folder, timeline, { signal });
  if (history === undefined) {
    throw new PgarkError('corrupt', `${key}, the history of the backup’s timeline, is missing from ${store.location}`);
  }
  const sha256 = createHash('sha256').update(history).digest('hex');
  if (historySha256 === undefined || sha256 === historySha256) return history;
  throw new PgarkError('corrupt', `${key} in ${store.location} has not the SHA-256 that the backup has noted of it`);
}
