import { PgarkError } from '../../common/errors.ts';

/** A tablespace and the folder that it gets. */
export interface TablespacePlace {
  readonly oid: string;
  /** An absolute path. */
  readonly path: string;
  /** Whether that is in the data directory. */
  readonly isInside: boolean;
}

/** `OLD=NEW`: the path on the server that was backed up, and the one to use instead. */
export interface TablespaceMapping {
  readonly from: string;
  readonly to: string;
}

/** Reads `OLD=NEW` as pg_basebackup does: `\=` is an equals sign of a path. Undefined for anything else. */
export function parseTablespaceMapping(text: string): TablespaceMapping | undefined {
  const parts = text.split(/(?<!\\)=/).map((part) => part.replaceAll('\\=', '='));
  const [from, to, more] = parts;
  if (from === undefined || to === undefined || more !== undefined) return undefined;
  return from.startsWith('/') && to.startsWith('/') ? { from: canonical(from), to: canonical(to) } : undefined;
}

/** Folder of the data directory that takes the tablespaces which are mapped to no other place. */
export const TABLESPACES = 'tablespaces';

/**
 * Where each tablespace goes: as mapped, or into a folder of the data directory. Error: `usage` for a mapping of a path at
 * which no tablespace was, of two into one folder, and of one into the data directory.
 */
export function placeTablespaces(
  tablespaces: readonly { readonly oid: string; readonly location: string }[],
  mappings: readonly TablespaceMapping[],
  directory: string,
): readonly TablespacePlace[] {
  const known = new Set(tablespaces.map(({ location }) => canonical(location)));
  const stranger = mappings.find(({ from }) => !known.has(from));
  if (stranger !== undefined) {
    const there =
      known.size === 0 ? 'the backup has no tablespaces' : `its tablespaces were at ${[...known].join(', ')}`;
    throw new PgarkError('usage', `no tablespace of the backup was at ${stranger.from}`, { hint: there });
  }
  const inside = mappings.find(({ to }) => overlap(to, directory));
  if (inside !== undefined) {
    throw new PgarkError(
      'usage',
      `a tablespace cannot be mapped to ${inside.to}, which is in or above the data directory`,
      {
        hint: `leave the mapping out: tablespaces go into ${directory}/${TABLESPACES}`,
      },
    );
  }
  const places = tablespaces.map(({ oid, location }) => {
    const mapping = mappings.find(({ from }) => from === canonical(location));
    return { oid, path: mapping?.to ?? `${directory}/${TABLESPACES}/${oid}`, isInside: mapping === undefined };
  });
  for (const [index, { path }] of places.entries()) {
    if (places.slice(0, index).every((earlier) => !overlap(earlier.path, path))) continue;
    throw new PgarkError('usage', `two tablespaces would go into ${path}`, { hint: 'map each to a folder of its own' });
  }
  return places;
}

/** The file by which PostgreSQL makes the links of tablespaces when it recovers from a base backup. */
export function writeTablespaceMap(places: readonly TablespacePlace[]): string {
  return places
    .map(({ oid, path }) => `${oid} ${path.replaceAll(/[\n\r\\]/g, (character) => `\\${character}`)}\n`)
    .join('');
}

function overlap(a: string, b: string): boolean {
  const within = (inner: string, outer: string): boolean => inner.startsWith(outer === '/' ? outer : `${outer}/`);
  return a === b || within(a, b) || within(b, a);
}

function canonical(path: string): string {
  return path.length > 1 ? path.replace(/\/+$/, '') : path;
}
