/**
 * Data in motion: blocks of about 1 MiB at the most (`BLOCK_BYTES`), in order. A yielded block belongs to the consumer, the
 * producer never touches it again, and its last consumer may give its memory back (`releaseBlock`). A stream that ends
 * without throwing is complete: a source checks its own end (exit status, length, digest) *before* it lets the iteration
 * finish.
 */
export type ByteStream = AsyncIterable<Uint8Array>;

/** A stream of these bytes alone, in one block. */
export async function* once(bytes: Uint8Array): ByteStream {
  yield bytes;
}

export const KIB = 1024;
export const MIB = 1024 * KIB;
export const GIB = 1024 * MIB;

/** Size of the blocks that pipelines pass on and compress one by one. */
export const BLOCK_BYTES = 1024 * KIB;

/** A length of bytes for people: `0 B`, `12.3 KiB`, `4.0 GiB`. */
export function formatBytes(bytes: number): string {
  if (bytes < KIB) return `${bytes} B`;
  const units = ['KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
  let value = bytes;
  let unit = 'B';
  for (const next of units) {
    if (value < KIB) break;
    value /= KIB;
    unit = next;
  }
  return `${value.toFixed(1)} ${unit}`;
}

/** A length of time for people: `840 ms`, `12.4 s`, `3 min 05 s`, `2 h 10 min`. */
export function formatDuration(ms: number): string {
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1_000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1_000);
  if (seconds < 3_600) return `${Math.floor(seconds / 60)} min ${String(seconds % 60).padStart(2, '0')} s`;
  return `${Math.floor(seconds / 3_600)} h ${String(Math.floor((seconds % 3_600) / 60)).padStart(2, '0')} min`;
}
