import { Secret } from '../../common/secret.ts';
import { ROLE_FLAGS, type RoleFlag } from '../../postgres/client/server-globals.ts';
import { sqlStatements, type SqlToken } from './sql-statements.ts';
import { readSetting, readStoredDatabase, type StoredDatabase, type StoredSetting } from './stored-database.ts';
import { Words } from './words.ts';

interface SecurityLabel {
  readonly provider: string;
  readonly label: string;
}

export interface StoredRole {
  readonly name: string;
  readonly flags: ReadonlySet<RoleFlag>;
  /** -1 is none. */
  readonly connectionLimit: number;
  /** The digest that the server keeps. */
  readonly password?: Secret | undefined;
  /** As the old server wrote it. */
  readonly validUntil?: string | undefined;
  readonly comment?: string | undefined;
  readonly labels: readonly SecurityLabel[];
  readonly settings: readonly StoredSetting[];
}

export interface StoredMembership {
  readonly role: string;
  readonly member: string;
  readonly grantor?: string | undefined;
  readonly admin: boolean;
  /** Undefined for servers before PostgreSQL 16, which go by the member's own INHERIT. */
  readonly inherit?: boolean | undefined;
  readonly set: boolean;
}

/** A right on a tablespace, or on a configuration parameter. */
export interface StoredGrant {
  /** `ALL`, or one of those that there are. */
  readonly privilege: string;
  /** Undefined is PUBLIC. */
  readonly grantee?: string | undefined;
  readonly grantable: boolean;
}

export interface StoredParameterGrant extends StoredGrant {
  readonly parameter: string;
}

export interface StoredTablespace {
  readonly name: string;
  readonly owner: string;
  readonly location: string;
  /** As they stand, with their parentheses. */
  readonly options?: string | undefined;
  /** Who has lost the rights that PostgreSQL gives at first. */
  readonly revokedFrom: readonly string[];
  readonly grants: readonly StoredGrant[];
  readonly comment?: string | undefined;
  readonly labels: readonly SecurityLabel[];
}

/** What the SQL text of globals makes, in its order. */
export interface StoredGlobals {
  readonly roles: readonly StoredRole[];
  readonly memberships: readonly StoredMembership[];
  readonly parameterGrants: readonly StoredParameterGrant[];
  readonly tablespaces: readonly StoredTablespace[];
  readonly databases: readonly StoredDatabase[];
  /** First words of statements that are none of these. */
  readonly unread: readonly string[];
}

type Changing<T> = { -readonly [K in keyof T]: T[K] extends readonly (infer E)[] ? E[] : T[K] };

interface Collected {
  readonly text: string;
  readonly roles: Map<string, Changing<StoredRole>>;
  readonly tablespaces: Map<string, Changing<StoredTablespace>>;
  readonly memberships: StoredMembership[];
  readonly parameterGrants: StoredParameterGrant[];
}

/** Reads what pg_dumpall (https://www.postgresql.org/docs/current/app-pg-dumpall.html) of PostgreSQL 13 and newer has written. */
export function readStoredGlobals(text: string): StoredGlobals {
  const collected: Collected = {
    text,
    roles: new Map(),
    tablespaces: new Map(),
    memberships: [],
    parameterGrants: [],
  };
  const databases: StoredDatabase[] = [];
  const unread: string[] = [];
  for (const tokens of sqlStatements(text)) {
    const words = new Words(tokens);
    // The settings of the session, and its role around grants of others.
    if (words.take('SET') || words.take('RESET')) continue;
    if (words.take('DO')) {
      const database = readStoredDatabase(words.string() ?? '');
      if (database === undefined) unread.push('DO');
      else databases.push(database);
      continue;
    }
    if (!readStatement(words, collected)) unread.push(firstWords(tokens));
  }
  return {
    roles: [...collected.roles.values()],
    memberships: collected.memberships,
    parameterGrants: collected.parameterGrants,
    tablespaces: [...collected.tablespaces.values()],
    databases,
    unread,
  };
}

/** Never more of a statement: a password may stand behind it. */
function firstWords(tokens: readonly SqlToken[]): string {
  const words = tokens
    .slice(0, 2)
    .flatMap(({ kind, value }) => (kind === 'word' && /^[A-Z]+$/.test(value) ? [value] : []));
  return words.join(' ') || 'a statement';
}

/** Whether it was understood to its end. */
function readStatement(words: Words, collected: Collected): boolean {
  if (words.take('CREATE', 'ROLE')) return createRole(words, collected);
  if (words.take('ALTER', 'ROLE')) return alterRole(words, collected);
  if (words.take('COMMENT', 'ON')) return comment(words, collected);
  if (words.take('SECURITY', 'LABEL', 'FOR')) return securityLabel(words, collected);
  if (words.take('CREATE', 'TABLESPACE')) return createTablespace(words, collected);
  if (words.take('ALTER', 'TABLESPACE')) return alterTablespace(words, collected);
  if (words.take('REVOKE', 'ALL', 'ON', 'TABLESPACE')) return revoke(words, collected);
  if (words.take('GRANT')) return grant(words, collected);
  return false;
}

function createRole(words: Words, { roles }: Collected): boolean {
  const name = words.name();
  if (name === undefined || !words.atEnd) return false;
  roles.set(name, { name, flags: new Set(), connectionLimit: -1, labels: [], settings: [] });
  return true;
}

function alterRole(words: Words, { roles }: Collected): boolean {
  const role = roles.get(words.name() ?? '');
  if (role === undefined) return false;
  if (words.take('WITH')) return roleAttributes(words, role);
  const setting = readSetting(words);
  if (setting !== undefined) role.settings.push(setting);
  return setting !== undefined;
}

function roleAttributes(words: Words, role: Changing<StoredRole>): boolean {
  const flags = new Set<RoleFlag>();
  while (!words.atEnd) {
    const flag = ROLE_FLAGS.find((each) => words.take(each));
    if (flag !== undefined) flags.add(flag);
    else if (words.take('CONNECTION', 'LIMIT')) {
      const limit = words.number();
      if (limit === undefined) return false;
      role.connectionLimit = limit;
    } else if (words.take('PASSWORD')) {
      const password = words.string();
      if (password === undefined) return false;
      role.password = new Secret(password);
    } else if (words.take('VALID', 'UNTIL')) {
      const until = words.string();
      if (until === undefined) return false;
      role.validUntil = until;
    } else if (!ROLE_FLAGS.some((each) => words.take(`NO${each}`))) return false;
  }
  role.flags = flags;
  return true;
}

function comment(words: Words, collected: Collected): boolean {
  const commented = target(words, collected);
  const text = words.take('IS') ? words.string() : undefined;
  if (commented === undefined || text === undefined) return false;
  commented.comment = text;
  return words.atEnd;
}

function securityLabel(words: Words, collected: Collected): boolean {
  const provider = words.name();
  const labelled = words.take('ON') ? target(words, collected) : undefined;
  const label = words.take('IS') ? words.string() : undefined;
  if (provider === undefined || labelled === undefined || label === undefined) return false;
  labelled.labels.push({ provider, label });
  return words.atEnd;
}

/** `ROLE name` or `TABLESPACE name`. */
function target(
  words: Words,
  { roles, tablespaces }: Collected,
): Changing<StoredRole> | Changing<StoredTablespace> | undefined {
  if (words.take('ROLE')) return roles.get(words.name() ?? '');
  return words.take('TABLESPACE') ? tablespaces.get(words.name() ?? '') : undefined;
}

function createTablespace(words: Words, { tablespaces }: Collected): boolean {
  const name = words.name();
  const owner = words.take('OWNER') ? words.name() : undefined;
  const location = words.take('LOCATION') ? words.string() : undefined;
  if (name === undefined || owner === undefined || location === undefined || !words.atEnd) return false;
  tablespaces.set(name, { name, owner, location, revokedFrom: [], grants: [], labels: [] });
  return true;
}

function alterTablespace(words: Words, { text, tablespaces }: Collected): boolean {
  const tablespace = tablespaces.get(words.name() ?? '');
  if (tablespace === undefined || !words.take('SET')) return false;
  tablespace.options = words.rest(text);
  return /^\([\w\s=.,'-]*\)$/.test(tablespace.options);
}

function revoke(words: Words, { tablespaces }: Collected): boolean {
  const tablespace = tablespaces.get(words.name() ?? '');
  if (tablespace === undefined || !words.take('FROM')) return false;
  const from = words.name();
  if (from === undefined || !words.atEnd) return false;
  tablespace.revokedFrom.push(from);
  return true;
}

const PRIVILEGES = [['ALL'], ['CREATE'], ['SET'], ['ALTER', 'SYSTEM']] as const;

function grant(words: Words, collected: Collected): boolean {
  const beforePrivilege = words.at;
  const privilege = PRIVILEGES.find((each) => words.take(...each))?.join(' ');
  if (privilege !== undefined && words.take('ON')) {
    const kind = words.take('TABLESPACE') ? 'tablespace' : words.take('PARAMETER') ? 'parameter' : undefined;
    const on = words.name();
    if (kind === undefined || on === undefined || !words.take('TO')) return false;
    const grantee = words.take('PUBLIC') ? undefined : words.name();
    const grantable = words.take('WITH', 'GRANT', 'OPTION');
    if (!words.atEnd) return false;
    if (kind === 'parameter') {
      collected.parameterGrants.push({ parameter: on, privilege, grantee, grantable });
      return true;
    }
    return collected.tablespaces.get(on)?.grants.push({ privilege, grantee, grantable }) !== undefined;
  }
  // A role may be called `all`.
  words.at = beforePrivilege;
  return membership(words, collected);
}

function membership(words: Words, { memberships }: Collected): boolean {
  const role = words.name();
  const member = words.take('TO') ? words.name() : undefined;
  if (role === undefined || member === undefined) return false;
  const options: { admin: boolean; inherit?: boolean; set: boolean } = { admin: false, set: true };
  if (words.take('WITH')) {
    do {
      if (words.take('ADMIN', 'OPTION') || words.take('ADMIN', 'TRUE')) options.admin = true;
      else if (words.take('INHERIT', 'TRUE')) options.inherit = true;
      else if (words.take('INHERIT', 'FALSE')) options.inherit = false;
      else if (words.take('SET', 'FALSE')) options.set = false;
      else if (!words.take('SET', 'TRUE') && !words.take('ADMIN', 'FALSE')) return false;
    } while (words.symbol(','));
  }
  const grantor = words.take('GRANTED', 'BY') ? words.name() : undefined;
  if (!words.atEnd) return false;
  memberships.push({ role, member, grantor, ...options });
  return true;
}
