import { PgarkError } from '../../common/errors.ts';

/**
 * The lines of a `SHA256SUMS`, as `sha256sum` writes and reads them: SHA-256 by the name of the file. Error: `corrupt`.
 */
export function parseSums(bytes: Uint8Array, key: string): ReadonlyMap<string, string> {
  const text = Buffer.from(bytes).toString();
  const sums = new Map<string, string>();
  for (const line of text.split('\n').slice(0, -1)) {
    const [, sha256, name] = /^([0-9a-f]{64}) [ *]([\w.-]+)$/.exec(line) ?? [];
    if (sha256 === undefined || name === undefined || sums.has(name)) {
      throw new PgarkError('corrupt', `${key} is no list of SHA-256 sums`);
    }
    sums.set(name, sha256);
  }
  return sums;
}
