export const DOLLAR = 0x24;

/** Letters, underscore and whatever is not ASCII begin a name; digits and dollar signs go on with it. */
export function isWordStart(byte: number): boolean {
  return (byte >= 0x61 && byte <= 0x7a) || (byte >= 0x41 && byte <= 0x5a) || byte === 0x5f || byte >= 0x80;
}

export function isWordByte(byte: number | undefined): boolean {
  return byte !== undefined && byte >= 0 && (isWordStart(byte) || (byte >= 0x30 && byte <= 0x39) || byte === DOLLAR);
}

export function isSpace(byte: number | undefined): boolean {
  return byte === 0x20 || (byte !== undefined && byte >= 0x09 && byte <= 0x0d);
}
