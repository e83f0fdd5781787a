import { Secret } from '../common/secret.ts';
import type { Config } from './model.ts';
import { type Path, pathText } from './origins.ts';

/** Paths of what two configurations say otherwise, whether it is secret or not; empty where they mean the same. */
export function differingSettings(one: Config, other: Config): readonly string[] {
  const [first, second] = [flatten(one), flatten(other)];
  const paths = new Set([...first.keys(), ...second.keys()]);
  return [...paths].filter((path) => first.get(path) !== second.get(path));
}

function flatten(config: Config): ReadonlyMap<string, string> {
  const { source: _source, warnings: _warnings, origins: _origins, leftOut: _leftOut, ...settings } = config;
  const flat = new Map<string, string>();
  const visit = (path: Path, value: unknown): void => {
    if (value === undefined) return;
    if (value instanceof Secret) {
      flat.set(pathText(path), value.reveal());
    } else if (typeof value !== 'object' || value === null) {
      flat.set(pathText(path), JSON.stringify(value));
    } else {
      // That it is there may mean something, although nothing is in it.
      flat.set(pathText(path), Array.isArray(value) ? 'list' : 'map');
      const entries = value instanceof Map ? [...value] : Object.entries(value);
      for (const [key, inner] of entries) visit([...path, String(key)], inner);
    }
  };
  visit([], settings);
  return flat;
}
