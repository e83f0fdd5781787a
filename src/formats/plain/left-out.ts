import { emptied } from './server-fit.ts';
import type { StatementEdit } from './sql-scanner.ts';

/** What a restore leaves out of a dump, for servers that lack the roles or tablespaces of the old one. */
export interface LeftOut {
  /** Everything belongs to the role that restores. */
  readonly owners: boolean;
  /** Nothing is granted or revoked, and default privileges stay as they are. */
  readonly privileges: boolean;
  /** Everything lies in the tablespace of the database, and that where databases are made anyhow. Default: where it lay. */
  readonly tablespaces?: boolean;
}

/** The last words of a statement by which pg_dump gives an object its owner; nothing else ends so outside of quotes. */
const OWNER: StatementEdit = {
  begins: /^ALTER [A-Z]/,
  edit: (statement) => (/ OWNER TO (?:\w+|(?:"[^"]*")+);$/.test(statement) ? emptied(statement) : statement),
};
/** pg_dump changes the session's role for grants by others than the owner, and on request for owners. */
const SESSION_ROLE: StatementEdit = { begins: /^(?:RE)?SET SESSION AUTHORIZATION\b/, edit: emptied };
const PRIVILEGES: StatementEdit = { begins: /^(?:GRANT|REVOKE|ALTER DEFAULT PRIVILEGES) /, edit: emptied };

/** All that pg_dump says of where tables and indexes lie. */
const TABLESPACE: StatementEdit = { begins: /^SET default_tablespace = /, edit: emptied };

export function editsLeavingOut(leftOut: LeftOut | undefined): readonly StatementEdit[] {
  if (leftOut === undefined) return [];
  const { owners, privileges, tablespaces = false } = leftOut;
  return [
    ...(owners ? [OWNER] : []),
    ...(privileges ? [PRIVILEGES] : []),
    ...(owners || privileges ? [SESSION_ROLE] : []),
    ...(tablespaces ? [TABLESPACE] : []),
  ];
}

/** The same for pg_restore. */
export function optionsLeavingOut(leftOut: LeftOut | undefined): readonly string[] {
  return [
    ...(leftOut?.owners ? ['--no-owner'] : []),
    ...(leftOut?.privileges ? ['--no-privileges'] : []),
    ...(leftOut?.tablespaces ? ['--no-tablespaces'] : []),
  ];
}
