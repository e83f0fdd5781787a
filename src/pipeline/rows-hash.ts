import type { ByteStream } from '../common/bytes.ts';
import { assert } from '../common/errors.ts';
import { rowsHashModule, SUM_AT, TEXT_AT, TEXT_BYTES_MAX } from './rows-hash-program.ts';
import type { Transform } from './transform.ts';

/** As much of the engine's own interface as is used; no library of types that is at hand has it. */
declare const WebAssembly: {
  readonly Module: new (bytes: Uint8Array<ArrayBuffer>) => object;
  readonly Instance: new (module: object) => { readonly exports: Readonly<Record<string, unknown>> };
};

interface Engine {
  readonly memory: Uint8Array;
  readonly hash: (end: number) => void;
}

let engine: Engine | undefined;

/** One for all: a call is over before the next one begins, and each hash has its state to itself. */
function sharedEngine(): Engine {
  if (engine !== undefined) return engine;
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(rowsHashModule()));
  const { buffer } = exports.memory as { readonly buffer: ArrayBuffer };
  engine = { memory: new Uint8Array(buffer), hash: exports.hash as Engine['hash'] };
  return engine;
}

/**
 * A hash of the rows of a table, in COPY text, whatever their order: the sum modulo 2^128 of MurmurHash3_x64_128 of each
 * line with its end. It tells apart what differs by accident; it is no proof against somebody who means to deceive.
 */
export class RowsHash {
  readonly #state = new Uint8Array(TEXT_AT);
  #lastByte = NEWLINE;

  /** Lines may lie across calls as they like. The bytes are not kept. */
  update(bytes: Uint8Array): void {
    const { memory, hash } = sharedEngine();
    memory.set(this.#state);
    for (let at = 0; at < bytes.length; at += TEXT_BYTES_MAX) {
      const text = bytes.subarray(at, at + TEXT_BYTES_MAX);
      memory.set(text, TEXT_AT);
      hash(TEXT_AT + text.length);
    }
    this.#state.set(memory.subarray(0, TEXT_AT));
    this.#lastByte = bytes.at(-1) ?? this.#lastByte;
  }

  /** Passes every block unchanged. */
  readonly tap: Transform = (source) => this.#hashed(source);

  async *#hashed(source: ByteStream): AsyncGenerator<Uint8Array> {
    for await (const block of source) {
      this.update(block);
      yield block;
    }
  }

  /** Whether the last line has its end. */
  get isWhole(): boolean {
    return this.#lastByte === NEWLINE;
  }

  /** 32 hexadecimal digits. All lines are ended by then. */
  digest(): string {
    assert(this.isWhole, 'the last line has its end');
    const words = new DataView(this.#state.buffer);
    return hexOf((words.getBigUint64(SUM_AT + 8, true) << 64n) | words.getBigUint64(SUM_AT, true));
  }
}

const NEWLINE = 0x0a;

/** That of all rows together. */
export function sumOfHashes(hashes: readonly string[]): string {
  return hexOf(hashes.reduce((sum, hash) => sum + BigInt(`0x${hash}`), 0n));
}

function hexOf(value: bigint): string {
  return BigInt.asUintN(128, value).toString(16).padStart(32, '0');
}
