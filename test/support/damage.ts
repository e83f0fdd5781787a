import fc from 'fast-check';
import { expect } from 'vitest';
import { isPgarkError } from '../../src/common/errors.ts';

/** Values that nobody expects where something else was. */
const ODD_VALUES: readonly unknown[] = [
  null,
  true,
  -1,
  0.5,
  2 ** 53,
  1e308,
  '',
  '../../etc/passwd',
  '/etc/passwd',
  '..',
  '.pgark/repository.json',
  "'; DROP TABLE t; --",
  '\\! true',
  '\u0000',
  '9'.repeat(10_000),
  'é'.repeat(600),
  [],
  {},
  [[[[]]]],
  { __proto__: null, toString: 1 },
];

/** The same value with one thing in it, wherever, replaced, removed or repeated; as JSON. */
export function damagedJson(value: unknown): fc.Arbitrary<string> {
  const paths = pathsOf(value);
  const change = fc.oneof(
    fc.constantFrom(...ODD_VALUES).map((odd) => () => odd),
    fc.constant(() => undefined),
    fc.constant((old: unknown) => [old, old]),
    fc.jsonValue().map((json) => () => json),
  );
  const changed = fc
    .tuple(fc.constantFrom(...paths), change)
    .map(([path, how]) => JSON.stringify(replaceAt(value, path, how)) ?? '');
  const cut = fc.nat(JSON.stringify(value).length).map((length) => JSON.stringify(value).slice(0, length));
  const deep = fc.constantFrom('['.repeat(200_000), `${'{"a":'.repeat(100_000)}1${'}'.repeat(100_000)}`);
  return fc.oneof(
    { weight: 20, arbitrary: changed },
    { weight: 4, arbitrary: cut },
    { weight: 1, arbitrary: deep },
    { weight: 2, arbitrary: fc.json() },
  );
}

/** The same bytes with some changed, cut off, put in, or repeated. */
export function damagedBytes(whole: Uint8Array): fc.Arbitrary<Buffer> {
  const at = fc.nat(Math.max(0, whole.length - 1));
  const flips = fc
    .array(fc.tuple(at, fc.integer({ min: 1, max: 255 })), { minLength: 1, maxLength: 6 })
    .map((changes) => {
      const copy = Buffer.from(whole);
      for (const [offset, bits] of changes) copy[offset] = (copy[offset] ?? 0) ^ bits;
      return copy;
    });
  const cut = at.map((length) => Buffer.from(whole.subarray(0, length)));
  const spliced = fc
    .tuple(at, fc.nat(64), fc.uint8Array({ maxLength: 64 }))
    .map(([offset, taken, put]) => Buffer.concat([whole.subarray(0, offset), put, whole.subarray(offset + taken)]));
  return fc.oneof(
    flips,
    cut,
    spliced,
    fc.uint8Array({ maxLength: 4_096 }).map((bytes) => Buffer.from(bytes)),
  );
}

/** It gives something, or an error that says what is wrong and is no defect of pgark's; returns what it gives. */
export async function refusedOr<T>(read: () => T | Promise<T>): Promise<T | undefined> {
  try {
    return await read();
  } catch (error) {
    if (!isPgarkError(error)) throw new Error('it was not refused with a sentence', { cause: error });
    expect(error.code).not.toBe('internal');
    return undefined;
  }
}

type Path = readonly (string | number)[];

function pathsOf(value: unknown, path: Path = []): readonly Path[] {
  if (typeof value !== 'object' || value === null) return [path];
  const inner = Object.entries(value).flatMap(([key, each]) =>
    pathsOf(each, [...path, Array.isArray(value) ? Number(key) : key]),
  );
  return [path, ...inner];
}

function replaceAt(value: unknown, path: Path, how: (old: unknown) => unknown): unknown {
  const [key, ...rest] = path;
  if (key === undefined) return how(value);
  if (Array.isArray(value)) return value.map((each, index) => (index === key ? replaceAt(each, rest, how) : each));
  return Object.fromEntries(
    Object.entries(value as object).map(([name, each]) => [name, name === key ? replaceAt(each, rest, how) : each]),
  );
}

/** In place. */
export function flipBit(bytes: Uint8Array, offset: number): void {
  bytes[offset] = (bytes[offset] ?? 0) ^ 0x10;
}
