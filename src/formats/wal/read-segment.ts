import type { ByteStream } from '../../common/bytes.ts';
import { PgarkError } from '../../common/errors.ts';
import type { DecryptionKeys } from '../../pipeline/encryption/sealer.ts';
import type { Lsn } from '../../postgres/wal/lsn.ts';
import { parseSegmentName, segmentStart } from '../../postgres/wal/segment.ts';
import { parseWalFileName, parseWalKey, type WalFolder, walSegmentPrefix } from '../../repository/wal-keys.ts';
import type { CallOptions, ObjectStore } from '../../storage/object-store.ts';
import type { Delta } from './archive-index.ts';
import { readPiece, type StoredPiece } from './read-piece.ts';

export type SegmentPart = Delta & StoredPiece;

/** What is archived of one segment, or of another file of its kind of name. */
export interface SegmentObjects {
  readonly whole: StoredPiece | undefined;
  readonly deltas: readonly SegmentPart[];
}

type ReadOptions = CallOptions & { readonly keys: DecryptionKeys };

/** One listing. */
export async function findSegmentObjects(
  store: ObjectStore,
  folder: WalFolder,
  name: string,
  { signal }: CallOptions,
): Promise<SegmentObjects> {
  let whole: StoredPiece | undefined;
  const deltas: SegmentPart[] = [];
  const prefix = walSegmentPrefix(folder, name);
  for await (const { key } of store.list(prefix, signal === undefined ? {} : { signal })) {
    const wal = parseWalKey(key);
    if (wal === undefined || wal.name !== name) continue;
    const { encryption } = wal;
    if (wal.kind === 'delta') deltas.push({ key, encryption, from: wal.from, to: wal.to });
    else whole = { key, encryption };
  }
  return { whole, deltas };
}

/** The content of a whole file. Errors: those of `readPiece`, and `corrupt` for one that holds what is another's. */
export async function* readWhole(
  store: ObjectStore,
  piece: StoredPiece,
  { name, systemIdentifier }: { readonly name: string; readonly systemIdentifier: string },
  options: ReadOptions,
): ByteStream {
  const { facts, content } = await readPiece(store, piece, options);
  const isSegment = parseWalFileName(name)?.kind === 'segment';
  const segment = facts.segmentBytes === undefined ? undefined : parseSegmentName(name, facts.segmentBytes);
  const start = segment && facts.segmentBytes && segmentStart(segment, facts.segmentBytes);
  if (
    facts.systemIdentifier !== systemIdentifier ||
    (isSegment && (start !== facts.from || facts.bytes !== facts.segmentBytes))
  ) {
    throw new PgarkError('corrupt', `${piece.key} holds other WAL than its name says`);
  }
  yield* content;
}

/** The beginning of a segment that starts at the position, by a chain of deltas. Errors: as those of `readWhole`. */
export async function* readParts(
  store: ObjectStore,
  chain: readonly SegmentPart[],
  start: Lsn,
  options: ReadOptions,
): ByteStream {
  let reached = 0;
  for (const delta of chain) {
    const { facts, content } = await readPiece(store, delta, options);
    if (facts.from !== start + BigInt(delta.from) || facts.bytes !== delta.to - delta.from) {
      throw new PgarkError('corrupt', `${delta.key} holds other WAL than its name says`);
    }
    let at = delta.from;
    for await (const block of content) {
      const fresh = block.subarray(Math.min(block.length, Math.max(0, reached - at)));
      at += block.length;
      if (fresh.length > 0) yield fresh;
    }
    reached = delta.to;
  }
}
