import { PgarkError } from '../../common/errors.ts';
import { keys } from '../../repository/keys.ts';
import { type Manifest, parseManifest } from '../../repository/manifest.ts';
import { readStateBytes } from '../../repository/state-object.ts';
import type { SourceAccess } from '../load-source.ts';
import { PhysicalObjects } from './physical-objects.ts';

/**
 * The backups without which a physical one is not whole, nearest first; the last one is a full backup. None for a full one.
 * Errors: `corrupt` where one is missing, or is not the one that it was; `repository-damaged`.
 */
export async function readParents(manifest: Manifest, access: SourceAccess): Promise<readonly PhysicalObjects[]> {
  const { store, signal } = access;
  const parents: PhysicalObjects[] = [];
  for (const [index, id] of manifest.parents.entries()) {
    const key = keys.manifest(manifest.source, manifest.database.name, id);
    const found = await readStateBytes(store, key, { signal });
    if (found === undefined) {
      throw broken(manifest, `${id}, which it is relative to, is not in ${store.location}`);
    }
    const parent = parseManifest(found.bytes, key);
    const rest = manifest.parents.slice(index + 1);
    const isNext =
      parent.id === id &&
      parent.format === 'physical' &&
      parent.server.systemIdentifier === manifest.server.systemIdentifier &&
      parent.parents.length === rest.length &&
      parent.parents.every((each, place) => each === rest[place]);
    if (!isNext) throw broken(manifest, `${id} is not the backup that it is relative to`);
    parents.push(new PhysicalObjects(parent, access));
  }
  return parents;
}

function broken({ id }: Manifest, why: string): PgarkError {
  return new PgarkError('corrupt', `the incremental backup ${id} is not whole: ${why}`, {
    hint: 'restore another backup, pgark list shows them; the next incremental backup begins a new chain',
  });
}
