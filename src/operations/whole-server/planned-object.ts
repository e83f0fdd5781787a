import { Secret } from '../../common/secret.ts';
import type { StoredTablespace } from '../../formats/globals/stored-globals.ts';
import { quoteIdentifier as q, quoteLiteral } from '../../postgres/client/quote.ts';
import type { ServerGlobals } from '../../postgres/client/server-globals.ts';

export interface GlobalsChoice {
  /** Roles are made with their passwords, as far as they were stored. */
  readonly withPasswords: boolean;
  readonly withTablespaces: boolean;
  /**
   * Roles and memberships that are there and differ become as they were stored, and roles that are there are given the memberships
   * and rights that they lack; nothing is taken from them besides.
   */
  readonly overwrites: boolean;
  /**
   * Of which databases that are there the owners, settings and rights become as they were stored. A restored database has its own,
   * if they were written down beside its backup. Some: these, and nothing else of the server.
   */
  readonly databases: 'none' | 'existing' | ReadonlySet<string>;
}

/** What is known of the server beyond its catalogues. */
export interface ServerLooks {
  readonly server: ServerGlobals;
  /** Roles whose time of validity differs. */
  readonly otherValidity: ReadonlySet<string>;
  /** Paths of tablespaces that are no directories there. */
  readonly missingDirectories: ReadonlySet<string>;
}

/** One of several that make an object; the text may hold a password. */
export interface GlobalsStatement {
  /** What it is about, without any value. */
  readonly what: string;
  readonly sql: Secret;
}

/**
 * What becomes of one role, membership, right or tablespace:
 * `create`: it is not there; `extend`: what it lacks is added; `overwrite`: it is changed to what was stored; `leave`: it is
 * there, or would make more of a role that is, and nothing is changed; `leave-out`: it is not wanted; `refuse`: the server cannot have it.
 */
export interface PlannedObject {
  readonly kind: 'role' | 'membership' | 'parameter' | 'tablespace' | 'database' | 'statement';
  readonly name: string;
  readonly action: 'create' | 'extend' | 'overwrite' | 'leave' | 'leave-out' | 'refuse';
  /** In what an object that is left differs, or what is added. */
  readonly notes: readonly string[];
  /** In this order; none after the first of a `create` that fails. */
  readonly statements: readonly GlobalsStatement[];
}

export function refused(kind: PlannedObject['kind'], name: string, why: string): PlannedObject {
  return { kind, name, action: 'refuse', notes: [why], statements: [] };
}

export function statement(what: string, sql: string): GlobalsStatement {
  return { what, sql: new Secret(sql) };
}

/** `COMMENT ON ROLE "x" IS '…'` and the security labels; `on`: `ROLE "x"`. */
export function sayings(
  on: string,
  { comment, labels }: Pick<StoredTablespace, 'comment' | 'labels'>,
): readonly GlobalsStatement[] {
  return [
    ...(comment === undefined ? [] : [statement('the comment', `COMMENT ON ${on} IS ${quoteLiteral(comment)}`)]),
    ...labels.map(({ provider, label }) =>
      statement('the security label', `SECURITY LABEL FOR ${q(provider)} ON ${on} IS ${quoteLiteral(label)}`),
    ),
  ];
}
