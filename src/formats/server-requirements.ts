/** What a backup needs of a server beside its own content: names of roles, extensions and tablespaces. */
export interface ServerRequirements {
  readonly roles: ReadonlySet<string>;
  readonly extensions: ReadonlySet<string>;
  readonly tablespaces: ReadonlySet<string>;
}

/** Rows of a dump may look like statements: more names than this are not from definitions. */
const NAMES_MAX = 10_000;

const NAME = String.raw`("(?:[^"]|"")+"|[\p{L}_][\p{L}\p{N}_$]*)`;
/** As pg_dump writes them, whole in a line: `ALTER TABLE t OWNER TO shop;`, `GRANT SELECT ON TABLE t TO reader;`. */
const ROLE_AFTER = new RegExp(
  String.raw`\b(?:OWNER TO|FOR ROLE|AUTHORIZATION|USER MAPPING FOR|(?:GRANT|REVOKE)\b.* (?:TO|FROM)) ${NAME}`,
  'gu',
);
/** `CREATE POLICY p ON t FOR SELECT TO a, b USING …`: names may hold all of it, and so may what follows. */
const POLICY = new RegExp(
  String.raw`^CREATE POLICY (?:"(?:[^"]|"")*"|[^" ])+ ON (?:"(?:[^"]|"")*"|[^" ])+(?: [A-Z]+)*? TO (${NAME}(?:, ${NAME})*)`,
  'u',
);
const EXTENSION = new RegExp(String.raw`^CREATE EXTENSION (?:IF NOT EXISTS )?${NAME}`, 'u');
const TABLESPACE = new RegExp(String.raw`^SET default_tablespace = ${NAME}`, 'u');
const NAMES = new RegExp(NAME, 'gu');
/** What the lines of such statements begin with: most of a dump is rows. */
const CANDIDATE = /^(ALTER|GRANT|REVOKE|CREATE|SET) /;

/** Words of SQL, and names that no role may have (`check_rolespec_name` and `CreateRole` in PostgreSQL). */
const NO_ROLES: ReadonlySet<string> = new Set(['public', 'none']);

/** Whether a line, in whatever encoding, may be a statement that needs something. */
export function mayNeed(line: string): boolean {
  return CANDIDATE.test(line);
}

/** Gathers what statements of pg_dump need, line by line. */
export class RequirementsReader {
  readonly roles = new Set<string>();
  readonly extensions = new Set<string>();
  readonly tablespaces = new Set<string>();

  read(line: string): void {
    if (!mayNeed(line)) return;
    for (const [, name = ''] of line.matchAll(ROLE_AFTER)) this.#addNamed(name);
    for (const [name] of (POLICY.exec(line)?.[1] ?? '').matchAll(NAMES)) this.#addNamed(name);
    const extension = EXTENSION.exec(line)?.[1];
    if (extension !== undefined) add(this.extensions, unquoted(extension));
    const tablespace = TABLESPACE.exec(line)?.[1];
    if (tablespace !== undefined) this.addTablespace(unquoted(tablespace));
  }

  /** Those that every server has are left out. */
  addRole(name: string): void {
    if (name !== '' && !name.startsWith('pg_')) add(this.roles, name);
  }

  /** As SQL has it. */
  #addNamed(name: string): void {
    if (!NO_ROLES.has(name.toLowerCase())) this.addRole(unquoted(name));
  }

  addTablespace(name: string): void {
    if (name !== '' && !name.startsWith('pg_')) add(this.tablespaces, name);
  }
}

function add(names: Set<string>, name: string): void {
  if (names.size < NAMES_MAX) names.add(name);
}

function unquoted(name = ''): string {
  return name.startsWith('"') ? name.slice(1, -1).replaceAll('""', '"') : name;
}
