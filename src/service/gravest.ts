import type { PgarkError } from '../common/errors.ts';

/** Of everything that says of a backup or a storage that it is damaged. */
const DAMAGED_EXIT = 20;

/** What says that something is damaged must not be hidden by what could not be done, or looked at; else it is the first. */
export function gravest(failures: readonly PgarkError[]): PgarkError | undefined {
  return failures.find(isOfDamage) ?? failures[0];
}

export function isOfDamage({ exitCode }: PgarkError): boolean {
  return exitCode === DAMAGED_EXIT;
}
