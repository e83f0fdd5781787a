import type { ByteStream } from '../../common/bytes.ts';
import { compress } from '../../pipeline/compress.ts';
import { type CompressionAlgorithm, compressionOf, compressionSuffix } from '../../pipeline/compression.ts';
import { tallyOf } from '../../pipeline/meter.ts';
import { pipe } from '../../pipeline/transform.ts';
import { paddingAfter, tarEnd, writeTarHeader } from '../../postgres/base/write-tar-header.ts';
import { historyFileName } from '../../postgres/wal/timeline-history.ts';
import type { Manifest } from '../../repository/manifest.ts';
import type { DownloadFile, DownloadHow, DownloadSource } from '../download-source.ts';
import { shellWord } from '../../common/shell-word.ts';
import type { SourceAccess } from '../load-source.ts';
import { archiveName } from './archive-files.ts';
import { readHistory, segmentContent } from './fetch-wal.ts';
import { findSpan, spanOf, type ArchivedSegment, type WalSpan } from './needed-wal.ts';
import { FILES, PhysicalObjects, type StoredArchive } from './physical-objects.ts';
import { commandsBeforeStart } from './start-by-hand.ts';
import { type FileCheck, fileCheck } from './stored-base.ts';

const BLOCKS_IN_FLIGHT = 2;
const MODE = 0o600;
const WAL_ARCHIVE = 'pg_wal.tar';

/**
 * What `pg_basebackup --format=tar` writes: the archives, the backup_manifest, and the WAL that they need as one archive
 * more. An incremental backup is as it is: pg_combinebackup wants all of its chain. Archives are compressed as is wanted,
 * and their files compared with the backup_manifest then, or stay as they are. Errors: `corrupt` where something is missing or
 * changed, `store-…`.
 */
export async function baseDownload(
  manifest: Manifest,
  access: SourceAccess,
  { compression }: DownloadHow,
): Promise<DownloadSource> {
  const objects = new PhysicalObjects(manifest, access);
  await objects.checkPresence();
  const span = spanOf(manifest);
  const segments = await findSpan(access.store, span, { signal: access.signal });
  const stored = manifest.compression.algorithm;
  const wanted = compression ?? (stored === 'lz4' ? 'none' : stored);
  const isKept = wanted === stored;
  const archives = objects.archives();
  const listed = objects.named('backup_manifest');
  const suffix = compressionSuffix(wanted);
  const check = isKept ? undefined : await fileCheck(objects, access);
  return {
    files: [
      ...archives.map((archive) => archiveFile(objects, archive, check && { wanted, check }, access.signal)),
      walFile(segments, span, access, wanted),
      {
        name: FILES.manifest,
        open: (onStoredBytes) => objects.read(listed, { onStoredBytes, signal: access.signal }),
      },
    ],
    storedBytes: archives.reduce((sum, { object }) => sum + object.storedBytes, listed.storedBytes),
    command: (folder) => commandFor(manifest, shellWord(folder), suffix),
  };
}

function archiveFile(
  objects: PhysicalObjects,
  { object, oid }: StoredArchive,
  changed: { readonly wanted: CompressionAlgorithm; readonly check: FileCheck } | undefined,
  signal: AbortSignal,
): DownloadFile {
  if (changed === undefined) {
    return {
      name: objects.decryptedName(object),
      open: (onStoredBytes) => objects.readDecrypted(object, { onStoredBytes, signal }),
    };
  }
  const limit = { blocksInFlightMax: BLOCKS_IN_FLIGHT };
  const { wanted, check } = changed;
  return {
    name: `${archiveName({ oid })}${compressionSuffix(wanted)}`,
    open: (onStoredBytes) =>
      pipe(
        objects.read(object, { onStoredBytes, signal, ...limit }),
        check({ oid }),
        compress(compressionOf(wanted), limit),
      ),
  };
}

/** WAL is compressed otherwise than as files of stock tools. */
function walFile(
  segments: readonly ArchivedSegment[],
  span: WalSpan,
  access: SourceAccess,
  compression: CompressionAlgorithm,
): DownloadFile {
  return {
    name: `${WAL_ARCHIVE}${compressionSuffix(compression)}`,
    open: (onStoredBytes) => {
      const plain = walArchive(segments, span, access, tallyOf(onStoredBytes)());
      return compress(compressionOf(compression), { blocksInFlightMax: BLOCKS_IN_FLIGHT })(plain);
    },
  };
}

async function* walArchive(
  segments: readonly ArchivedSegment[],
  span: WalSpan,
  access: SourceAccess,
  onBytes: (bytes: number) => void,
): ByteStream {
  const facts = { mode: MODE, modifiedSeconds: 0 };
  onBytes(0);
  if (span.timeline > 1) {
    const history = await readHistory(span, access);
    yield writeTarHeader({ name: historyFileName(span.timeline), bytes: history.length, ...facts });
    yield history;
    yield paddingAfter(history.length);
  }
  for (const segment of segments) {
    yield writeTarHeader({ name: segment.name, bytes: span.segmentBytes, ...facts });
    yield* segmentContent(segment, span, access);
    yield paddingAfter(span.segmentBytes);
  }
  yield tarEnd();
}

/** The server is started on what it makes, after whatever of the configuration lies elsewhere was seen to. */
function commandFor({ tablespaces = [], parents, id, timeline = 1 }: Manifest, folder: string, suffix: string): string {
  const data = parents.length === 0 ? 'DATA' : `DATA_${id}`;
  const steps = [
    `mkdir -m 700 ${data}`,
    `tar -xf ${folder}/base.tar${suffix} -C ${data}`,
    `tar -xf ${folder}/${WAL_ARCHIVE}${suffix} -C ${data}/pg_wal`,
    `cp ${folder}/${FILES.manifest} ${data}`,
    ...tablespaces.flatMap(({ oid }) => [
      `mkdir -m 700 DIR_${oid}`,
      `tar -xf ${folder}/${oid}.tar${suffix} -C DIR_${oid}`,
    ]),
  ];
  const map = tablespaces.length === 0 ? '' : `; put the paths of DIR_OID into ${data}/tablespace_map`;
  const chain = [...parents].reverse().map((each) => `DATA_${each}`);
  const merge =
    chain.length === 0 ? '' : `; the same with its parents; pg_combinebackup ${chain.join(' ')} ${data} -o DATA`;
  return `${steps.join(' && ')}${map}${merge}; ${commandsBeforeStart('DATA', timeline).join(' && ')}`;
}
