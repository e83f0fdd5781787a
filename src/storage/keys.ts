import { PgarkError } from '../common/errors.ts';
import { KEY_BYTES_MAX, type ObjectKey } from './object-store.ts';

const CONTROL_CHARACTER = /\p{Cc}/u;

/** Why the text cannot be an object's key on any store; undefined if it can. */
function faultOfKey(key: string): string | undefined {
  if (key === '') return 'it is empty';
  if (!key.isWellFormed()) return 'it is not valid Unicode';
  if (CONTROL_CHARACTER.test(key)) return 'it holds a control character';
  if (Buffer.byteLength(key) > KEY_BYTES_MAX) return `it is longer than ${KEY_BYTES_MAX} bytes`;
  if (key.startsWith('/')) return 'it begins with a slash';
  for (const segment of key.split('/')) {
    if (segment === '') return 'it has an empty part between slashes, or ends with a slash';
    if (segment === '.' || segment === '..') return `it has the part "${segment}"`;
  }
  return undefined;
}

export function isKey(text: string): boolean {
  return faultOfKey(text) === undefined;
}

function invalid(what: string, text: string, fault: string): PgarkError {
  return new PgarkError('object-key-invalid', `${JSON.stringify(text)} cannot be ${what} in the store: ${fault}`);
}

/** Rejects with `object-key-invalid`. Every adapter's call begins with it, before anything is touched. */
export function assertKey(key: ObjectKey): void {
  const fault = faultOfKey(key);
  if (fault !== undefined) throw invalid('the name of an object', key, fault);
}

/** The same for what a key may begin with: nothing at all, whole parts with a slash at the end, or the start of a part. */
export function assertKeyPrefix(prefix: string): void {
  const fault = faultOfKey(`${prefix}x`);
  // One byte is lent to the probe above, and a prefix as long as the longest key is fine.
  if (fault !== undefined && !isKey(prefix)) throw invalid('the beginning of a name', prefix, fault);
}

/**
 * Orders as the bytes of the UTF-8 do, which JavaScript's `<` does not: it compares UTF-16 units, where characters beyond
 * U+FFFF (surrogate pairs) come before U+E000 to U+FFFF.
 */
export function compareKeys(a: string, b: string): number {
  const shared = Math.min(a.length, b.length);
  for (let index = 0; index < shared; index += 1) {
    const unitA = a.charCodeAt(index);
    const unitB = b.charCodeAt(index);
    if (unitA !== unitB) return rank(unitA) - rank(unitB);
  }
  return a.length - b.length;
}

/** A UTF-16 unit's place in the order of code points: surrogates last. */
function rank(unit: number): number {
  if (unit < 0xd800) return unit;
  return unit < 0xe000 ? unit + 0x2000 : unit - 0x800;
}
