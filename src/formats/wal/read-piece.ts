import type { ByteStream } from '../../common/bytes.ts';
import { namingObject } from '../../pipeline/corrupt.ts';
import { decompress } from '../../pipeline/decompress.ts';
import { verifyDigest } from '../../pipeline/digest.ts';
import type { DecryptionKeys } from '../../pipeline/encryption/sealer.ts';
import { peek } from '../../pipeline/peek.ts';
import type { WalObject } from '../../repository/wal-keys.ts';
import type { CallOptions, ObjectKey, ObjectStore } from '../../storage/object-store.ts';
import { FACTS_BYTES_MAX, parseFactsFrame, type PieceFacts } from './piece-facts.ts';

/** An object of WAL to read. */
export interface StoredPiece extends Pick<WalObject, 'encryption'> {
  readonly key: ObjectKey;
}

/**
 * Opens a stored piece: what it says of itself, and its content, which ends normally only if it has the length and digest
 * that it says. Leave the content's iteration or read it to its end. Errors: `object-not-found`, `corrupt`, `wrong-key`,
 * `key-missing`, `store-…`.
 */
export async function readPiece(
  store: ObjectStore,
  piece: StoredPiece,
  options: CallOptions & { readonly keys: DecryptionKeys },
): Promise<{ readonly facts: PieceFacts; readonly content: ByteStream }> {
  const { facts, stream } = await open(store, piece, options);
  const { key } = piece;
  const { bytes, sha256 } = facts;
  const content = verifyDigest({ bytes, sha256 }, key)(namingObject(key, () => decompress('zstd'))(stream));
  return { facts, content };
}

/** Only what a stored piece says of itself; its beginning is read for that. */
export async function readFacts(
  store: ObjectStore,
  piece: StoredPiece,
  options: CallOptions & { readonly keys: DecryptionKeys },
): Promise<PieceFacts> {
  const { facts, stream } = await open(store, piece, options);
  await leave(stream);
  return facts;
}

async function open(
  store: ObjectStore,
  { key, encryption }: StoredPiece,
  { keys, ...options }: CallOptions & { readonly keys: DecryptionKeys },
): Promise<{ readonly facts: PieceFacts; readonly stream: ByteStream }> {
  const { body } = await store.get(key, options);
  const { first, stream } = await peek(await decrypted(body, key, encryption, keys), FACTS_BYTES_MAX);
  try {
    return { facts: parseFactsFrame(first, key), stream };
  } catch (error) {
    await leave(stream);
    throw error;
  }
}

/** Ends the connection that a stream comes by; one that was never begun would not. */
async function leave(stream: ByteStream): Promise<void> {
  for await (const _ of stream) return;
}

async function decrypted(
  body: ByteStream,
  key: ObjectKey,
  encryption: StoredPiece['encryption'],
  keys: DecryptionKeys,
): Promise<ByteStream> {
  if (encryption === undefined) return body;
  // Loaded where it is needed: who encrypts nothing starts without its library.
  const { openSealed } = await import('../../pipeline/encryption/open-sealed.ts');
  const scheme = encryption === '.age' ? 'age' : 'openssl';
  return namingObject(key, () => openSealed({ scheme }, keys))(body);
}
