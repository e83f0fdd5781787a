import { releaseBlock } from '../../common/block-memory.ts';
import type { ByteStream } from '../../common/bytes.ts';
import { compress } from '../../pipeline/compress.ts';
import type { Compression } from '../../pipeline/compression.ts';
import type { Sealer } from '../../pipeline/encryption/sealer.ts';
import type { WalName } from '../../repository/wal-keys.ts';
import { factsFrame, type PieceFacts } from './piece-facts.ts';

/** Level 3 makes it no smaller. */
export const WAL_COMPRESSION: Compression = { algorithm: 'zstd', level: 1 };

/** Something to archive: what it is, and its bytes, which may be asked for several times. Its blocks stay its own. */
export interface WalPiece {
  readonly wal: WalName;
  readonly facts: PieceFacts;
  content(): ByteStream;
}

/** The bytes of a piece as they are stored: what it is → zstd 1 → encrypted. */
export function sealedContent(piece: WalPiece, sealer: Sealer | undefined): ByteStream {
  const compressed = async function* (): ByteStream {
    yield factsFrame(piece.facts);
    yield* compress(WAL_COMPRESSION)(piece.content());
  };
  return sealer === undefined ? compressed() : sealer.seal()(compressed());
}

/**
 * A piece as it is stored, in memory: compressed and encrypted once for all storages and however many attempts, so that the
 * memory in which it was received is free again.
 */
export class SealedPiece {
  readonly wal: WalName;
  readonly facts: PieceFacts;
  readonly bytes: number;
  readonly #blocks: readonly Uint8Array[];
  #mayBeRead = false;

  /** When it is settled nothing reads the piece's own bytes any more. */
  static async of(piece: WalPiece, sealer: Sealer | undefined): Promise<SealedPiece> {
    const blocks: Uint8Array[] = [];
    for await (const block of sealedContent(piece, sealer)) blocks.push(block);
    return new SealedPiece(piece, blocks);
  }

  private constructor({ wal, facts }: WalPiece, blocks: readonly Uint8Array[]) {
    this.wal = wal;
    this.facts = facts;
    this.bytes = blocks.reduce((sum, { length }) => sum + length, 0);
    this.#blocks = blocks;
  }

  /** Lets somebody store the bytes, as often as it takes. Whoever was given up may still read them for a while. */
  async storeBy<T>(store: (body: ByteStream) => Promise<T>): Promise<T> {
    try {
      return await store(this.#views());
    } catch (error) {
      this.#mayBeRead = true;
      throw error;
    }
  }

  /** Gives the memory back, when nobody stores it any more; what may still be read is left to the garbage collector. */
  release(): void {
    if (!this.#mayBeRead) for (const block of this.#blocks) releaseBlock(block);
  }

  async *#views(): ByteStream {
    for (const block of this.#blocks) yield block.subarray();
  }
}
