import { PgarkError } from '../common/errors.ts';

/** What a name must not hold as it stands in a key: separators, the escape itself, control characters, a leading dot. */
const NEEDS_ENCODING = /[/%\u0000-\u001f\u007f-\u009f]|^\./gu;

/**
 * A source's or database's name as one segment of a key: `/`, `%`, control characters and a leading dot are
 * percent-encoded (UTF-8 bytes, upper-case hexadecimal), and nothing else is, so that people recognise their names.
 */
export function encodeName(name: string): string {
  if (name === '') throw new PgarkError('internal', 'an empty name cannot be part of a key');
  return name.replace(NEEDS_ENCODING, (character) =>
    [...new TextEncoder().encode(character)]
      .map((byte) => `%${byte.toString(16).toUpperCase().padStart(2, '0')}`)
      .join(''),
  );
}

/** The inverse of `encodeName`; undefined for what it could not have written. */
export function decodeName(segment: string): string | undefined {
  try {
    const name = decodeURIComponent(segment);
    return name !== '' && encodeName(name) === segment ? name : undefined;
  } catch {
    return undefined;
  }
}
