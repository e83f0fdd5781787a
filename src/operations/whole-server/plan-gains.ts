import type { StoredGlobals, StoredMembership } from '../../formats/globals/stored-globals.ts';
import type { RoleFlag, ServerGlobals } from '../../postgres/client/server-globals.ts';
import type { GlobalsChoice } from './planned-object.ts';

/** By which a role can do more than what it has been given. */
const POWERS: readonly RoleFlag[] = ['SUPERUSER', 'CREATEROLE', 'REPLICATION', 'BYPASSRLS'];

/** Why something that is missing is not given. */
export const LEFT_MISSING = 'missing, and given with --overwrite-roles only';
const NEVER_GIVEN = 'missing, and never given to the role that works or that initdb made';

/** Who may be given what was stored, since no role that was on the server before gains by a restore unasked. Pure. */
export interface Gains {
  /** Why the membership is left as it is, or undefined. */
  readonly withheld: (membership: StoredMembership) => string | undefined;
  /** Whether a right may be given to it; undefined is PUBLIC. */
  readonly mayGain: (grantee: string | undefined) => boolean;
}

export function planGains(
  { roles, memberships, parameterGrants }: Pick<StoredGlobals, 'roles' | 'memberships' | 'parameterGrants'>,
  server: ServerGlobals,
  { overwrites }: GlobalsChoice,
): Gains {
  const made = new Map(roles.filter(({ name }) => !server.roles.has(name)).map((role) => [role.name, role]));
  const holdsParameters = new Set(parameterGrants.map(({ grantee }) => grantee));
  const rolesOf = Map.groupBy(memberships, ({ member }) => member);
  /** Made by this run, without more than its own objects, and so is all that it is a member of. */
  const isHarmless = (name: string): boolean => {
    const reached = new Set([name]);
    for (const each of reached) {
      const role = made.get(each);
      if (role === undefined || holdsParameters.has(each) || POWERS.some((flag) => role.flags.has(flag))) return false;
      for (const membership of rolesOf.get(each) ?? []) reached.add(membership.role);
    }
    return true;
  };
  const isFresh = [...server.roles.values()].every(
    ({ name, flags }) => flags.has('SUPERUSER') || name.startsWith('pg_') || name === server.self,
  );
  return {
    withheld: ({ role, member }) => {
      if (member === server.self || member === server.bootstrap) return NEVER_GIVEN;
      return overwrites || made.has(member) || isHarmless(role) ? undefined : LEFT_MISSING;
    },
    mayGain: (grantee) => overwrites || (grantee === undefined ? isFresh : made.has(grantee)),
  };
}
