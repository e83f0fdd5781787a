import { isPgarkError, PgarkError } from '../../common/errors.ts';
import type { DecryptionKeys } from '../../pipeline/encryption/sealer.ts';
import { isSegmentBytes, parseSegmentName, segmentStart } from '../../postgres/wal/segment.ts';
import { parseWalKey, type WalFolder, type WalObject, walPrefix, walSegmentPrefix } from '../../repository/wal-keys.ts';
import { readWalRecord } from '../../repository/wal-record.ts';
import type { CallOptions, ObjectKey, ObjectStore } from '../../storage/object-store.ts';
import type { PieceFacts } from './piece-facts.ts';
import { readFacts } from './read-piece.ts';

type ReadOptions = CallOptions & { readonly keys: DecryptionKeys };

/**
 * How large the segments of an archive are. Its record says so; base backups make none, and it may be lost: then each object
 * says it of itself, and one is read: of the segment that is asked for, of its timeline, of any. Undefined where there is neither. Errors: `corrupt` for an object that
 * is not what its name says; `key-missing`, `wrong-key`, `repository-…`, `store-…`.
 */
export async function archivedSegmentBytes(
  store: ObjectStore,
  folder: WalFolder,
  name: string,
  options: ReadOptions,
): Promise<number | undefined> {
  const { keys: _, ...call } = options;
  const record = await readWalRecord(store, folder, call);
  if (record !== undefined) return record.segmentBytes;
  const nearest = [walSegmentPrefix(folder, name), walPrefix(folder, name.slice(0, 8)), walPrefix(folder)];
  for (const prefix of nearest) {
    for await (const { key } of store.list(prefix, call)) {
      const wal = parseWalKey(key);
      const bytes = await segmentBytesOf(store, key, wal, options);
      if (bytes !== undefined) return bytes;
    }
  }
  return undefined;
}

/** Undefined for what is no segment's, or gone since it was listed. */
async function segmentBytesOf(
  store: ObjectStore,
  key: ObjectKey,
  wal: WalObject | undefined,
  options: ReadOptions,
): Promise<number | undefined> {
  if (wal?.kind !== 'segment' && wal?.kind !== 'delta') return undefined;
  try {
    const facts = await readFacts(store, { key, encryption: wal.encryption }, options);
    if (isOf(wal, facts)) return facts.segmentBytes;
  } catch (error) {
    // A receiver puts parts together meanwhile.
    if (isPgarkError(error, 'object-not-found')) return undefined;
    throw error;
  }
  throw new PgarkError('corrupt', `${key} holds other WAL than its name says`);
}

function isOf(wal: WalObject, { systemIdentifier, segmentBytes, from }: PieceFacts): boolean {
  if (systemIdentifier !== wal.systemIdentifier || segmentBytes === undefined || !isSegmentBytes(segmentBytes))
    return false;
  const segment = parseSegmentName(wal.name, segmentBytes);
  const offset = wal.kind === 'delta' ? BigInt(wal.from) : 0n;
  return segment !== undefined && segmentStart(segment, segmentBytes) + offset === from;
}
