import { createHash, type Hash } from 'node:crypto';
import { MIB } from '../common/bytes.ts';
import { assert, PgarkError } from '../common/errors.ts';
import { DigestStream } from './digest-thread.ts';
import type { Transform } from './transform.ts';

/** A stream that begins with a shorter block is too short to gain anything from another thread. */
const THREAD_BYTES_MIN = MIB;
/** Blocks of a stream that the thread has, so that it has always something to do. */
const LENT_MAX = 2;

/** What a stream of bytes is recognised by. */
interface ContentDigest {
  readonly bytes: number;
  /** 64 lower-case hexadecimal digits. */
  readonly sha256: string;
}

/** Measures the one stream that is piped through its `tap`. */
export class Digest implements ContentDigest {
  readonly #inThread: boolean | 'always' | Digest;
  #usesThread = false;
  #bytes = 0;
  #tapped = false;
  #sha256: string | undefined;

  /**
   * `inThread`: beside the main thread, which takes some blocks more of memory, if the first block shows that it is worth it;
   * always; or as another digest does it, which has had its first block by then. Not for streams side by side.
   */
  constructor({ inThread = false }: { readonly inThread?: boolean | 'always' | Digest } = {}) {
    this.#inThread = inThread;
  }

  /** Passes every block unchanged. For one stream, once. */
  readonly tap: Transform = (source) => {
    assert(!this.#tapped, 'a Digest measures one stream');
    this.#tapped = true;
    return this.#measured(source);
  };

  async *#measured(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    let hash: Hash | undefined;
    const lent: Promise<Uint8Array>[] = [];
    let thread: DigestStream | undefined;
    let isFirst = true;
    try {
      for await (const block of source) {
        if (isFirst && this.#wantsThread(block)) {
          thread = new DigestStream();
          this.#usesThread = true;
        }
        isFirst = false;
        if (thread === undefined) {
          hash ??= createHash('sha256');
          hash.update(block);
          yield this.#counted(block);
          continue;
        }
        lent.push(thread.digest(block));
        if (lent.length > LENT_MAX) yield this.#counted(await first(lent));
      }
      while (lent.length > 0) yield this.#counted(await first(lent));
      this.#sha256 = thread === undefined ? (hash ?? createHash('sha256')).digest('hex') : await thread.end();
    } finally {
      thread?.[Symbol.dispose]();
    }
  }

  #wantsThread({ length }: Uint8Array): boolean {
    if (this.#inThread instanceof Digest) return this.#inThread.#usesThread;
    return this.#inThread === 'always' || (this.#inThread && length >= THREAD_BYTES_MIN);
  }

  #counted(block: Uint8Array): Uint8Array {
    this.#bytes += block.length;
    return block;
  }

  /** Bytes that have passed so far. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Of the whole stream: asking for it before the stream has come to its end is a defect. */
  get sha256(): string {
    assert(this.#sha256 !== undefined, 'the digest is known only when the stream has ended');
    return this.#sha256;
  }
}

/** What a stream is expected to be. Without a digest its length alone is compared. */
export type ExpectedContent = Pick<ContentDigest, 'bytes'> & { readonly sha256?: string | undefined };

/**
 * Lets a stream pass only if it is the expected one, and throws `corrupt` otherwise: as soon as it is longer, and before
 * its end if it is shorter or differs. The block that completes the expected length is held back until the source has
 * ended and the digest is right, so a consumer never has all bytes of a stream that is not proven.
 *
 * `what` names the data in the error's sentence: `the object appdb.sql.gz`.
 */
export function verifyDigest(expected: ExpectedContent, what: string): Transform {
  return async function* verified(source) {
    const hash = createHash('sha256');
    const { sha256: sha256Expected } = expected;
    let bytes = 0;
    let heldBack: Uint8Array | undefined;
    for await (const block of source) {
      if (block.length === 0) continue;
      if (sha256Expected !== undefined) hash.update(block);
      bytes += block.length;
      if (bytes > expected.bytes) {
        throw new PgarkError('corrupt', `${what} is longer than the ${expected.bytes} bytes that were recorded for it`);
      }
      if (bytes < expected.bytes) yield block;
      else heldBack = block;
    }
    if (bytes < expected.bytes) {
      throw new PgarkError('corrupt', `${what} is truncated: ${bytes} bytes of the ${expected.bytes} recorded for it`);
    }
    const sha256 = hash.digest('hex');
    if (sha256Expected !== undefined && sha256 !== sha256Expected) {
      throw new PgarkError('corrupt', `${what} is damaged: its content has not the SHA-256 that was recorded for it`, {
        details: { sha256, sha256Expected },
      });
    }
    if (heldBack !== undefined) yield heldBack;
  };
}

async function first(blocks: Promise<Uint8Array>[]): Promise<Uint8Array> {
  const block = blocks.shift();
  assert(block !== undefined, 'a block is lent');
  return block;
}
