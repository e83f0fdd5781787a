import { MIB } from './bytes.ts';

/** Of garbage, after which it is collected. */
const COLLECTED_BYTES = 4 * MIB;

/**
 * Sees to memory outside of V8's heap that is garbage as soon as it was read, and that nobody has a hold of to free it, such as what
 * Node.js reads from a socket before it copies the bodies of responses out of it. V8 counts such memory as if it were old, and
 * collects its whole heap for every ten MiB of it, while a collection of what is young takes a twentieth of that work and frees the same.
 */
export class YoungGarbage {
  readonly #collect: () => void;
  #bytes = 0;

  /** `collect`: by default V8's own, if it was started with `--expose-gc`. */
  constructor(collect: () => void = collectYoung) {
    this.#collect = collect;
  }

  /** So much more was left. */
  add(bytes: number): void {
    this.#bytes += bytes;
    if (this.#bytes < COLLECTED_BYTES) return;
    this.#bytes = 0;
    this.#collect();
  }
}

function collectYoung(): void {
  globalThis.gc?.({ type: 'minor', execution: 'sync' });
}
