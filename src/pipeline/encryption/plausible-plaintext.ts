/** Enough to reach the mark of a tar header, in whole AES blocks. */
export const PLAUSIBILITY_BYTES = 272;

/** How files begin that hold backups: gzip, zstd (and its skippable frames), lz4, xz, bzip2, pg_dump -Fc, zip. */
const MAGICS: readonly (readonly number[])[] = [
  [0x1f, 0x8b, 0x08],
  [0x28, 0xb5, 0x2f, 0xfd],
  [0x50, 0x2a, 0x4d, 0x18],
  [0x04, 0x22, 0x4d, 0x18],
  [0xfd, 0x37, 0x7a, 0x58, 0x5a],
  [0x42, 0x5a, 0x68],
  [0x50, 0x47, 0x44, 0x4d, 0x50],
  [0x50, 0x4b, 0x03, 0x04],
];
const TAR_MARK_OFFSET = 257;
const TAR_MARK = [0x75, 0x73, 0x74, 0x61, 0x72];

/**
 * Whether a file that begins so may be a backup: a known container, or text in any encoding that has ASCII within. It
 * tells a wrong key where the format cannot: 272 random bytes pass as text once in 10^14 times.
 */
export function looksLikeBackup(first: Uint8Array): boolean {
  const has = (mark: readonly number[], offset: number): boolean =>
    mark.every((byte, index) => first[offset + index] === byte);
  return MAGICS.some((magic) => has(magic, 0)) || has(TAR_MARK, TAR_MARK_OFFSET) || first.every(isTextByte);
}

function isTextByte(byte: number): boolean {
  return (byte >= 0x20 && byte !== 0x7f) || byte === 0x09 || byte === 0x0a || byte === 0x0c || byte === 0x0d;
}
