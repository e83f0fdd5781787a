import { randomBytes } from 'node:crypto';

/** Randomness as it is injected: identifiers, tokens, jitter. Keys and nonces of ciphers always come from node:crypto. */
export interface Random {
  bytes(count: number): Uint8Array;
  /** Uniform in [0, 1). */
  fraction(): number;
}

export const systemRandom: Random = {
  bytes: (count) => randomBytes(count),
  fraction: () => Math.random(),
};
