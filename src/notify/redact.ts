import { oneLine } from './words.ts';

const SECRET_LENGTH_MIN = 5;
const WORDS_LENGTH_MAX = 200;

/** Every text by which an address could be told: as it is written, its path, query and credentials, and their parts. */
export function secretPartsOf(address: string): readonly string[] {
  if (!URL.canParse(address)) return [address];
  const url = new URL(address);
  const { username, password, pathname, search } = url;
  const parts = [...pathname.split('/'), ...url.searchParams.values(), username, password];
  return [address, url.href, `${pathname}${search}`, ...parts, ...parts.map(decoded)];
}

/**
 * A receiver's own words for an error message: one short line, in which whatever may be a secret of ours is struck out.
 * Receivers and proxies before them like to repeat what they were asked for.
 */
export function wordsOfReceiver(text: string, secrets: readonly string[]): string {
  const struck = secrets
    .filter((secret) => secret.length >= SECRET_LENGTH_MIN)
    .sort((a, b) => b.length - a.length)
    .reduce((rest, secret) => rest.replaceAll(secret, '[redacted]'), text);
  return oneLine(struck, WORDS_LENGTH_MAX);
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
