import { PgarkError } from '../common/errors.ts';
import type { Manifest } from '../repository/manifest.ts';

/** The refusal of a backup whose format the manifest may have and this version does nothing with. */
export function unknownFormat({ id, format, pgarkVersion }: Manifest, verb: 'read' | 'restore'): PgarkError {
  return new PgarkError('restore-failed', `${id} is a backup of format ${format}, which this version cannot ${verb}`, {
    hint: `use pgark ${pgarkVersion} or newer`,
  });
}
