import type { Transform } from './transform.ts';

/** Passes every block unchanged and tells, before each is handed on, how many bytes have come so far. For progress and watchdogs. */
export function meter(onBytes: (bytesTotal: number) => void): Transform {
  return async function* metered(source) {
    let bytesTotal = 0;
    for await (const block of source) {
      bytesTotal += block.length;
      onBytes(bytesTotal);
      yield block;
    }
  };
}

/** Adds up what several meters tell: each call makes a listener for one of them. */
export function tallyOf(onBytes: (bytesTotal: number) => void): () => (bytesTotal: number) => void {
  let sum = 0;
  return () => {
    let own = 0;
    return (bytesTotal) => {
      sum += bytesTotal - own;
      own = bytesTotal;
      onBytes(sum);
    };
  };
}
