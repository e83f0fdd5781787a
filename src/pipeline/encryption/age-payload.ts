import { createCipheriv, createDecipheriv, createSecretKey, hkdfSync, type KeyObject } from 'node:crypto';
import { allocateBlock, freeChunk } from '../../common/block-memory.ts';
import { KIB } from '../../common/bytes.ts';
import { assert, PgarkError } from '../../common/errors.ts';
import { Chunker } from './chunker.ts';

/**
 * The payload of an age file, https://c2sp.org/age, section "Payload": a 16-byte nonce, then chunks of 64 KiB by
 * ChaCha20-Poly1305 in the STREAM construction: the nonce of a chunk is its number in 11 bytes and a byte that is 1 for
 * the last chunk. So a chunk that is moved, repeated, left out or appended does not open.
 */
export const PAYLOAD_NONCE_BYTES = 16;
const CHUNK_BYTES = 64 * KIB;
const TAG_BYTES = 16;
const SEALED_CHUNK_BYTES = CHUNK_BYTES + TAG_BYTES;
const CIPHER = 'chacha20-poly1305';

function payloadKey(fileKey: Uint8Array, nonce: Uint8Array): KeyObject {
  return createSecretKey(Buffer.from(hkdfSync('sha256', fileKey, nonce, 'payload', 32)));
}

function chunkNonce(index: number, last: boolean): Buffer {
  assert(Number.isSafeInteger(index) && index < 2 ** 48, 'an age payload has fewer than 2^48 chunks');
  const nonce = Buffer.alloc(12);
  nonce.writeUIntBE(index, 5, 6);
  nonce[11] = last ? 1 : 0;
  return nonce;
}

/** Seals one payload; the nonce itself is not part of what it returns. */
export class PayloadSealer {
  readonly #key: KeyObject;
  readonly #chunker = new Chunker(CHUNK_BYTES);
  #index = 0;

  constructor(fileKey: Uint8Array, nonce: Uint8Array) {
    this.#key = payloadKey(fileKey, nonce);
  }

  push(block: Uint8Array): Uint8Array {
    const chunks = this.#chunker.push(block);
    const sealed = allocateBlock(chunks.length * SEALED_CHUNK_BYTES);
    chunks.forEach((chunk, position) => this.#seal(chunk, false, sealed, position * SEALED_CHUNK_BYTES));
    return sealed;
  }

  end(): Uint8Array {
    const chunk = this.#chunker.end();
    const sealed = Buffer.allocUnsafe(chunk.length + TAG_BYTES);
    this.#seal(chunk, true, sealed, 0);
    return sealed;
  }

  #seal(chunk: Uint8Array, last: boolean, target: Uint8Array, offset: number): void {
    const cipher = createCipheriv(CIPHER, this.#key, chunkNonce(this.#index, last), { authTagLength: TAG_BYTES });
    const bytes = cipher.update(chunk);
    target.set(bytes, offset);
    freeChunk(bytes);
    cipher.final();
    target.set(cipher.getAuthTag(), offset + chunk.length);
    this.#index += 1;
  }
}

/** Opens one payload. Every byte that it returns is authenticated. Errors: `corrupt`. */
export class PayloadOpener {
  readonly #key: KeyObject;
  readonly #chunker = new Chunker(SEALED_CHUNK_BYTES);
  #index = 0;

  constructor(fileKey: Uint8Array, nonce: Uint8Array) {
    this.#key = payloadKey(fileKey, nonce);
  }

  push(block: Uint8Array): Uint8Array {
    const chunks = this.#chunker.push(block);
    const plain = Buffer.allocUnsafe(chunks.length * CHUNK_BYTES);
    chunks.forEach((chunk, position) => {
      const opened = this.#open(chunk, false);
      if (opened === undefined) throw this.#damaged();
      plain.set(opened, position * CHUNK_BYTES);
      freeChunk(opened);
      this.#index += 1;
    });
    return plain;
  }

  end(): Uint8Array {
    const chunk = this.#chunker.end();
    const opened = this.#open(chunk, true);
    if (opened === undefined) {
      const cut = chunk.length < TAG_BYTES || this.#open(chunk, false) !== undefined;
      throw cut ? this.#truncated() : this.#damaged();
    }
    // Only an empty file ends in an empty chunk; otherwise two files would stand for the same plaintext.
    if (opened.length === 0 && this.#index > 0) throw this.#damaged();
    return opened;
  }

  /** Undefined where the tag says that these are not the bytes that were sealed here. */
  #open(chunk: Uint8Array, last: boolean): Uint8Array | undefined {
    if (chunk.length < TAG_BYTES) return undefined;
    const sealedBytes = chunk.length - TAG_BYTES;
    const nonce = chunkNonce(this.#index, last);
    const decipher = createDecipheriv(CIPHER, this.#key, nonce, { authTagLength: TAG_BYTES });
    decipher.setAuthTag(chunk.subarray(sealedBytes));
    const opened = decipher.update(chunk.subarray(0, sealedBytes));
    try {
      decipher.final();
    } catch {
      return undefined;
    }
    return opened;
  }

  #damaged(): PgarkError {
    const offset = this.#index * CHUNK_BYTES;
    return new PgarkError(
      'corrupt',
      `the encrypted data is damaged in chunk ${this.#index + 1}, behind ${offset} bytes of plain data: it is not what was encrypted`,
      { details: { chunk: this.#index + 1, plainOffset: offset } },
    );
  }

  #truncated(): PgarkError {
    const offset = this.#index * CHUNK_BYTES;
    return new PgarkError('corrupt', `the encrypted data is cut off in chunk ${this.#index + 1}: its end is missing`, {
      details: { chunk: this.#index + 1, plainOffset: offset },
    });
  }
}
