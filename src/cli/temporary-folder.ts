/** Where what is needed for a while may lie. A TMPDIR that is empty names no folder. */
export function temporaryFolder({ TMPDIR }: Readonly<Record<string, string | undefined>>): string {
  return TMPDIR === undefined || TMPDIR === '' ? '/tmp' : TMPDIR;
}
