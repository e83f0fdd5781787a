import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open, readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { BLOCK_BYTES } from '../../common/bytes.ts';
import { isPgarkError, messageOf, PgarkError, systemCodeOf } from '../../common/errors.ts';
import { chainOfDeltas } from '../../formats/wal/archive-index.ts';
import { findSegmentObjects } from '../../formats/wal/read-segment.ts';
import { deltasOf, receivedPiece } from '../../formats/wal/received-piece.ts';
import { type PutOutcome, putTimelineHistory, putWalDelta, putWalFile } from '../../formats/wal/store-piece.ts';
import type { WalPlace } from '../../formats/wal/store-piece.ts';
import type { WalPiece } from '../../formats/wal/wal-piece.ts';
import type { DecryptionKeys, Sealer } from '../../pipeline/encryption/sealer.ts';
import type { ReceivedWal } from '../../postgres/replication/segment-stream.ts';
import { formatLsn } from '../../postgres/wal/lsn.ts';
import { LONG_HEADER_BYTES, readLongPageHeader } from '../../postgres/wal/page-header.ts';
import { SegmentContent, type WalIdentity } from '../../postgres/wal/segment-content.ts';
import { isSegmentBytes, parseSegmentName } from '../../postgres/wal/segment.ts';
import { type ServerTime, serverTimeOfDate } from '../../postgres/wal/server-time.ts';
import { parseHistoryFileName, parseTimelineHistory } from '../../postgres/wal/timeline-history.ts';
import { unfinishedBytes } from '../../postgres/wal/unfinished-segment.ts';
import { Repository } from '../../repository/repository.ts';
import { parseWalFileName, type WalName } from '../../repository/wal-keys.ts';
import type { OperationContext } from '../context.ts';
import { isAsArchived } from './archived-beginning.ts';
import type { WalStore } from './archives.ts';
import { openWalRecord } from './open-wal-record.ts';
import { systemIdentifierIn } from './control-file.ts';

export interface PushWalRequest {
  readonly source: string;
  readonly stores: readonly WalStore[];
  readonly sealer?: Sealer | undefined;
  readonly keys: DecryptionKeys;
  /** The file to archive, as an archive_command is given it (`%p`), absolute. */
  readonly file: string;
  /** Where the server has its files: an archive_command runs there. */
  readonly dataDirectory: string;
}

/** What an archive_command has come to in each storage. */
export interface PushWalOutcome {
  readonly name: string;
  readonly systemIdentifier: string;
  readonly stores: readonly { readonly storage: string; readonly outcome: PutOutcome }[];
}

/**
 * Archives one file of a server's WAL, for archive_command. Resolves only when every storage has it, also if it had it before; of
 * the file of a segment that the server has not finished, what is in it. Errors: `usage` for what is no such file; `wal-conflict`,
 * `corrupt`, `postgres-failed`, `store-…`. The server calls again after any of them.
 */
export async function pushWal(request: PushWalRequest, context: OperationContext): Promise<PushWalOutcome> {
  const { file, source, stores } = request;
  const wal = parseWalFileName(path.basename(file));
  if (wal === undefined) {
    throw new PgarkError('usage', `${path.basename(file)} is no file of WAL that a server archives`, {
      hint: "archive_command = 'pgark wal push %p'",
    });
  }
  const { systemIdentifier, segmentBytes } = await serverOf(request, wal);
  const segment =
    segmentBytes === undefined ? undefined : await readSegment(file, wal, { systemIdentifier, segmentBytes });
  if (segment !== undefined) tellUnfinished(segment, context);
  const outcomes = stores.map(async ({ name, store }) => {
    const place: WalPlace = {
      store,
      folder: { source, systemIdentifier },
      sealer: request.sealer,
      keys: request.keys,
    };
    const outcome = await putInto(place, wal, { file, segment }, context);
    context.logger.debug('wal.pushed', `${wal.name}: ${outcome} in ${store.location}`, { name: wal.name, outcome });
    return { storage: name, outcome };
  });
  await Promise.allSettled(outcomes);
  return { name: wal.name, systemIdentifier, stores: await Promise.all(outcomes) };
}

/** What is to be archived: of a segment what was read of it. */
interface Pushed {
  readonly file: string;
  readonly segment: ReadSegment | undefined;
}

async function putInto(
  place: WalPlace,
  wal: WalName,
  { file, segment }: Pushed,
  context: OperationContext,
): Promise<PutOutcome> {
  const { store, folder } = place;
  const call = { signal: context.signal };
  if (segment !== undefined) {
    const { received, identity } = segment;
    await openWalRecord(store, { ...folder, segmentBytes: identity.segmentBytes }, { ...context, ...call });
    if (received.to < identity.segmentBytes) return putBeginning(place, segment, context);
    return putWalFile(place, receivedPiece(received, identity), call);
  }
  // A timeline may begin before its first segment is there.
  await new Repository(store, context).initialise({ ...call, pgarkVersion: context.pgarkVersion });
  if (wal.kind !== 'history') return putWalFile(place, await filePiece(place, wal, file), call);
  const content = await reading(file, () => readFile(file));
  // What no server could use is better refused while somebody looks.
  parseTimelineHistory(parseHistoryFileName(wal.name) ?? 1, content.toString());
  return putTimelineHistory(place, wal.name, content, call);
}

interface Server {
  readonly systemIdentifier: string;
  /** Of a segment alone. */
  readonly segmentBytes: number | undefined;
}

/** A segment says itself whose it is; other files are the server's whose directory they come from. */
async function serverOf({ file, dataDirectory }: PushWalRequest, wal: WalName): Promise<Server> {
  const candidates = [dataDirectory, path.join(path.dirname(file), '..')];
  let known: string | undefined;
  for (const directory of candidates) known ??= await systemIdentifierIn(directory);
  if (wal.kind === 'segment') {
    const { systemIdentifier, segmentBytes } = await readHead(file);
    if (known === undefined || known === systemIdentifier) return { systemIdentifier, segmentBytes };
    throw new PgarkError(
      'corrupt',
      `${file} is WAL of the server ${systemIdentifier}, and lies in the directory of ${known}`,
    );
  }
  if (known !== undefined) return { systemIdentifier: known, segmentBytes: undefined };
  throw new PgarkError(
    'usage',
    `whose file ${path.basename(file)} is cannot be told: there is no pg_control beside it`,
    {
      hint: 'run it in the data directory, as archive_command does',
    },
  );
}

async function readHead(file: string): Promise<{ readonly systemIdentifier: string; readonly segmentBytes: number }> {
  const head = Buffer.alloc(LONG_HEADER_BYTES);
  await reading(file, async () => {
    const handle = await open(file, 'r');
    try {
      await handle.read(head, 0, LONG_HEADER_BYTES, 0);
    } finally {
      await handle.close();
    }
  });
  const header = readLongPageHeader(new DataView(head.buffer, head.byteOffset, head.byteLength), 0);
  if (header.isLong && isSegmentBytes(header.segmentBytes)) return header;
  throw new PgarkError('corrupt', `${file} does not begin as a segment of WAL does`);
}

/** A segment's file, and how much of it is the segment's. */
interface ReadSegment {
  readonly received: ReceivedWal;
  readonly identity: WalIdentity;
}

async function readSegment(
  file: string,
  wal: WalName,
  { systemIdentifier, segmentBytes }: Omit<WalIdentity, 'magic'>,
): Promise<ReadSegment> {
  const segment = parseSegmentName(wal.name, segmentBytes);
  if (segment === undefined)
    throw new PgarkError('corrupt', `${wal.name} is no name of a segment of ${segmentBytes} bytes`);
  const identity = { systemIdentifier, segmentBytes, magic: undefined };
  const content = new SegmentContent(segment, identity, { mayBeRecycled: true });
  let bytes = 0;
  await reading(file, async () => {
    for await (const chunk of createReadStream(file, { highWaterMark: BLOCK_BYTES })) {
      const block = chunk as Buffer;
      bytes += block.length;
      content.append(block);
    }
  });
  if (bytes !== segmentBytes) {
    throw new PgarkError('corrupt', `${file} has ${bytes} bytes, and a segment of this server has ${segmentBytes}`);
  }
  const to = unfinishedBytes(content) ?? segmentBytes;
  if (to === 0) {
    throw new PgarkError('corrupt', `${file} is not finished, and no record in it is whole`, {
      hint: 'archive_mode = always hands over segments that a standby has not finished, and is not supported',
    });
  }
  const written = await writtenAt(file);
  return { received: { content, from: 0, to, since: written, until: written, serverEnd: undefined }, identity };
}

/** Archivers hand over none, but with a setting that is not supported; whoever salvages one by hand wants to know how far it goes. */
function tellUnfinished({ received: { content, to }, identity }: ReadSegment, { logger }: OperationContext): void {
  if (to === identity.segmentBytes) return;
  const end = formatLsn(content.end - BigInt(identity.segmentBytes - to));
  logger.warning(
    'wal.unfinished',
    `${content.name} is not finished, its records end at ${end}: it is archived up to there; archive_mode = always is not supported`,
    { segment: content.name, lsn: end },
  );
}

/**
 * Archives what the file of an unfinished segment has and the archive has not, behind what is there: nothing is replaced, and
 * whoever has the whole segment archives that. Error: `wal-conflict` where the archive has something else of it.
 */
async function putBeginning(
  place: WalPlace,
  { received, identity }: ReadSegment,
  { logger, signal }: OperationContext,
): Promise<PutOutcome> {
  const { name } = received.content;
  const objects = await findSegmentObjects(place.store, place.folder, name, { signal });
  await isAsArchived(received, { place, name, objects }, logger, signal);
  const reached = objects.whole === undefined ? (chainOfDeltas(objects.deltas).at(-1)?.to ?? 0) : identity.segmentBytes;
  if (reached >= received.to) return 'present';
  for (const part of deltasOf({ ...received, from: reached })) {
    await putWalDelta(place, receivedPiece(part, identity), { signal });
  }
  return 'stored';
}

/** The last, partial segment of a timeline, which holds anything behind its end; and the label of a backup. */
async function filePiece({ folder }: WalPlace, wal: WalName, file: string): Promise<WalPiece> {
  const content = await reading(file, () => readFile(file));
  const written = await writtenAt(file);
  return {
    wal,
    facts: {
      systemIdentifier: folder.systemIdentifier,
      segmentBytes: undefined,
      timeline: Number.parseInt(wal.name.slice(0, 8), 16),
      from: 0n,
      to: 0n,
      since: written,
      until: written,
      serverEnd: undefined,
      bytes: content.length,
      sha256: createHash('sha256').update(content).digest('hex'),
    },
    content: async function* () {
      for (let at = 0; at < content.length; at += BLOCK_BYTES) yield content.subarray(at, at + BLOCK_BYTES);
    },
  };
}

async function writtenAt(file: string): Promise<ServerTime> {
  return serverTimeOfDate(await reading(file, async () => (await stat(file)).mtime));
}

async function reading<T>(file: string, read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (error) {
    if (isPgarkError(error) || systemCodeOf(error) === undefined) throw error;
    throw new PgarkError('postgres-failed', `${file} cannot be read: ${messageOf(error)}`, {
      cause: error,
      hint: 'archive_command gives the file as %p, and runs in the data directory as the server’s own user',
    });
  }
}
