import type { Origins, Path } from './origins.ts';

/** Plain values as a configuration file holds them, before the schema has looked at them. */
export interface Tree {
  [key: string]: TreeValue;
}
export type TreeValue = string | number | boolean | readonly string[] | Tree;

/** One value for one path, and who says it. */
export interface Setting {
  readonly path: readonly string[];
  readonly value: string;
  readonly origin: string;
  readonly where: string;
}

export function isMapping(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

export function valueAt(tree: unknown, path: Path): unknown {
  return path.reduce<unknown>((value, segment) => {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, segment)) return undefined;
    return (value as Record<string | number, unknown>)[segment];
  }, tree);
}

/** Writes a value, making the maps on the way. Where something else than a map is in the way, it stays. */
export function putAt(tree: unknown, path: readonly string[], value: TreeValue): void {
  const [segment, ...rest] = path;
  if (segment === undefined || !isMapping(tree)) return;
  if (rest.length === 0) {
    define(tree, segment, value);
    return;
  }
  if (!Object.hasOwn(tree, segment)) define(tree, segment, {});
  putAt(tree[segment], rest, value);
}

/** Sets an own property whatever its name: a database may be called `__proto__`. */
function define(tree: Record<string, unknown>, key: string, value: TreeValue): void {
  Object.defineProperty(tree, key, { value, enumerable: true, configurable: true, writable: true });
}

export function applySetting(tree: unknown, origins: Origins, { path, value, origin, where }: Setting): void {
  putAt(tree, path, value);
  origins.set(path, { origin, where, isWhole: true });
}
