import type { ByteStream } from '../../common/bytes.ts';
import { assert, isPgarkError, PgarkError } from '../../common/errors.ts';
import type { Logger } from '../../common/log.ts';
import { compressionSuffix } from '../../pipeline/compression.ts';
import { Digest } from '../../pipeline/digest.ts';
import type { DecryptionKeys, Sealer } from '../../pipeline/encryption/sealer.ts';
import { formatLsn } from '../../postgres/wal/lsn.ts';
import { formatServerTime } from '../../postgres/wal/server-time.ts';
import { parseHistoryFileName } from '../../postgres/wal/timeline-history.ts';
import { readStateBytes } from '../../repository/state-object.ts';
import { parseWalKey, type WalFolder, walKey, type WalName, walSegmentPrefix } from '../../repository/wal-keys.ts';
import type {
  CallOptions,
  ObjectKey,
  ObjectStore,
  PutStreamOptions,
  StoredObject,
} from '../../storage/object-store.ts';
import { noteHistoryDigest, readHistoryBytes } from './history-object.ts';
import { readFacts, readPiece } from './read-piece.ts';
import { SealedPiece, sealedContent, WAL_COMPRESSION, type WalPiece } from './wal-piece.ts';

/** Metadata by which an object can be compared without being read. */
const SHA256_METADATA = 'pgark-sha256';

/** Where pieces of one server's WAL go, and how. */
export interface WalPlace {
  readonly store: ObjectStore;
  readonly folder: WalFolder;
  readonly sealer: Sealer | undefined;
  /** To compare what is there already; without a fitting one its metadata or its length have to do. */
  readonly keys: DecryptionKeys;
}

/** `present`: the very same content was there already. */
export type PutOutcome = 'stored' | 'present';

/**
 * Archives a whole file of WAL under its own name. One that is not sealed yet is compressed and encrypted on its way. Errors:
 * `wal-conflict` if another content has that name, which is never replaced; `store-…`.
 */
export async function putWalFile(
  place: WalPlace,
  piece: WalPiece | SealedPiece,
  options: CallOptions & Pick<PutStreamOptions, 'onBytesStored' | 'onHeldBack'> = {},
): Promise<PutOutcome> {
  const { store, folder, sealer } = place;
  const { facts, wal } = piece;
  const key = pieceKey(place, wal);
  const put = (body: ByteStream): Promise<StoredObject> =>
    store.putStream(key, body, {
      ...options,
      bytesEstimateMax: facts.bytes + facts.bytes / 64 + 4096,
      // The next one comes soon.
      putsAtOnce: 2,
      metadata: {
        'pgark-wal': `${folder.systemIdentifier} ${facts.timeline} ${formatLsn(facts.from)} ${formatLsn(facts.to)}`,
        'pgark-time': formatServerTime(facts.until),
        [SHA256_METADATA]: facts.sha256,
      },
    });
  try {
    await (piece instanceof SealedPiece ? piece.storeBy(put) : put(sealedContent(piece, sealer)));
    return 'stored';
  } catch (error) {
    if (!isPgarkError(error, 'object-exists')) throw error;
    if (await holdsSame(place, key, piece, options)) return 'present';
    throw conflict(store, key);
  }
}

/**
 * Stores some bytes of a segment in one request; an object of the very same range is replaced. They are few: what is
 * compressed and encrypted has to fit a small object.
 */
export async function putWalDelta(place: WalPlace, piece: WalPiece, options: CallOptions = {}): Promise<ObjectKey> {
  assert(piece.wal.kind === 'delta', 'a delta is stored');
  const key = pieceKey(place, piece.wal);
  const blocks: Uint8Array[] = [];
  for await (const block of sealedContent(piece, place.sealer)) blocks.push(block);
  await place.store.putSmall(key, Buffer.concat(blocks), options);
  return key;
}

/**
 * Archives the history of a timeline as it is, neither compressed nor encrypted: it says nothing but where timelines end, and
 * whoever watches over the archive without its key has to read it. Its digest is noted beside it. Errors: `wal-conflict`;
 * `corrupt` where what is archived is damaged.
 */
export async function putTimelineHistory(
  place: Pick<WalPlace, 'store' | 'folder'>,
  name: string,
  content: Uint8Array,
  options: CallOptions = {},
): Promise<PutOutcome> {
  const outcome = await putHistory(place, name, content, options);
  await noteHistoryDigest(place.store, place.folder, name, content, options);
  return outcome;
}

async function putHistory(
  { store, folder }: Pick<WalPlace, 'store' | 'folder'>,
  name: string,
  content: Uint8Array,
  options: CallOptions,
): Promise<PutOutcome> {
  const key = walKey(folder, { kind: 'history', name }, '');
  const same = async (): Promise<boolean | undefined> => {
    const present = await readStateBytes(store, key, options);
    return present && Buffer.compare(present.bytes, content) === 0;
  };
  const before = await same();
  if (before === undefined) {
    try {
      await store.putSmall(key, content, {
        ...options,
        contentType: 'text/plain',
        condition: { ifAbsent: true },
        isLasting: true,
      });
      return 'stored';
    } catch (error) {
      if (!isPgarkError(error, 'store-condition-failed')) throw error;
    }
  }
  if (before ?? (await same())) return 'present';
  await readHistoryBytes(store, folder, parseHistoryFileName(name) ?? 1, options);
  throw conflict(store, key);
}

/** Where a piece goes. */
export function pieceKey({ folder, sealer }: Pick<WalPlace, 'folder' | 'sealer'>, wal: WalName): ObjectKey {
  return walKey(folder, wal, compressionSuffix(WAL_COMPRESSION.algorithm) + (sealer?.suffix ?? ''));
}

/** Whether the object holds the piece's content, by the best evidence there is. */
async function holdsSame(
  place: WalPlace,
  key: ObjectKey,
  piece: WalPiece | SealedPiece,
  options: CallOptions,
): Promise<boolean> {
  const { store, sealer, keys } = place;
  const info = await store.head(key, options);
  if (info === undefined) throw new PgarkError('store-condition-failed', `${key} was there, and is gone`);
  const tag = info.metadata?.[SHA256_METADATA];
  if (tag !== undefined) return tag === piece.facts.sha256;
  try {
    const digest = new Digest();
    const { content } = await readPiece(store, { key, encryption: parseWalKey(key)?.encryption }, { ...options, keys });
    for await (const _ of digest.tap(content)) void _;
    return digest.sha256 === piece.facts.sha256;
  } catch (error) {
    // Who only encrypts has no key. Two contents hardly ever compress to the very same length.
    if (!isPgarkError(error, 'key-missing') && !isPgarkError(error, 'wrong-key')) throw error;
    return (await sealedBytes(piece, sealer)) === info.bytes;
  }
}

/**
 * The digest of what an object of the archive holds, as the object itself says, to compare it with its like in another store.
 * Undefined where nobody here can read that.
 */
export async function toldSha256(
  { store, keys }: Pick<WalPlace, 'store' | 'keys'>,
  key: ObjectKey,
  options: CallOptions = {},
): Promise<string | undefined> {
  const info = await store.head(key, options);
  const tag = info?.metadata?.[SHA256_METADATA];
  if (tag !== undefined) return tag;
  try {
    return (await readFacts(store, { key, encryption: parseWalKey(key)?.encryption }, { ...options, keys })).sha256;
  } catch (error) {
    if (isPgarkError(error, 'key-missing') || isPgarkError(error, 'wrong-key')) return undefined;
    throw error;
  }
}

async function sealedBytes(piece: WalPiece | SealedPiece, sealer: Sealer | undefined): Promise<number> {
  if (piece instanceof SealedPiece) return piece.bytes;
  let bytes = 0;
  for await (const block of sealedContent(piece, sealer)) bytes += block.length;
  return bytes;
}

/**
 * Compares a whole segment with what is archived of it under other names, encrypted otherwise; one of the very same name is
 * compared when it is put. A warning names those that nobody here can compare: they are damaged, or cannot be read without a
 * key. Error: `wal-conflict` for another content.
 */
export async function compareEncryptedOtherwise(
  place: WalPlace,
  { wal, facts }: WalPiece | SealedPiece,
  logger: Logger,
  options: CallOptions = {},
): Promise<void> {
  const { store, folder } = place;
  const own = pieceKey(place, wal);
  for await (const { key } of store.list(walSegmentPrefix(folder, wal.name), options)) {
    const found = parseWalKey(key);
    if (key === own || found?.kind !== wal.kind || found.name !== wal.name) continue;
    const isSame = await holdsSameSha256(place, key, facts.sha256, options);
    if (isSame === false) throw conflict(store, key);
    if (isSame === undefined) {
      logger.warning(
        'wal.not_compared',
        `${key} in ${store.location} is of the same segment, encrypted otherwise: that it holds the same cannot be told`,
        { key },
      );
    }
  }
}

/** Whether an object of the archive holds the content of that digest; undefined where that cannot be told. */
async function holdsSameSha256(
  place: Pick<WalPlace, 'store' | 'keys'>,
  key: ObjectKey,
  sha256: string,
  options: CallOptions = {},
): Promise<boolean | undefined> {
  try {
    const told = await toldSha256(place, key, options);
    return told === undefined ? undefined : told === sha256;
  } catch (error) {
    // What is damaged must not stop what comes from being archived.
    if (isPgarkError(error, 'corrupt') || isPgarkError(error, 'object-not-found')) return undefined;
    throw error;
  }
}

/** The error of another content under a name that is taken. */
export function conflict(store: ObjectStore, key: ObjectKey): PgarkError {
  return new PgarkError(
    'wal-conflict',
    `${key} is in ${store.location} already, with another content; what is archived is never replaced`,
  );
}
