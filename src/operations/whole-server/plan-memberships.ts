import type { StoredGlobals, StoredMembership } from '../../formats/globals/stored-globals.ts';
import { quoteIdentifier as q } from '../../postgres/client/quote.ts';
import type { ServerGlobals } from '../../postgres/client/server-globals.ts';
import { type GlobalsChoice, type PlannedObject, refused, statement } from './planned-object.ts';

/** From here on a membership has options of its own, and only who may give it on is named as who gave it. */
const FIRST_WITH_OPTIONS = 16;

/**
 * Memberships that are missing, in an order in which each that gave one has got it before. Where that cannot be, since older
 * servers ask less of who gave it, the role that works here gives it.
 */
export function planMemberships(
  stored: Pick<StoredGlobals, 'roles' | 'memberships'>,
  server: ServerGlobals,
  choice: GlobalsChoice,
): readonly PlannedObject[] {
  const inherits = new Map(stored.roles.map(({ name, flags }) => [name, flags.has('INHERIT')]));
  for (const { name, flags } of server.roles.values()) inherits.set(name, flags.has('INHERIT'));
  return inOrder(withKnownGrantors(stored, server), server).map((membership) => {
    const { role, member, admin } = membership;
    const kind = 'membership';
    const name = `${member} in ${role}`;
    const beyond = server.major < FIRST_WITH_OPTIONS ? beyondOlder(membership, inherits.get(member)) : undefined;
    if (beyond !== undefined) {
      return refused(kind, name, `PostgreSQL ${server.major} cannot have it ${beyond}, and would give more than that`);
    }
    const there = server.memberships.filter((each) => each.role === role && each.member === member);
    const differences = [
      ...(admin && !there.some((each) => each.admin) ? ['ADMIN'] : []),
      ...(membership.inherit === true && !there.some((each) => each.inherit) ? ['INHERIT'] : []),
      ...(membership.set && !there.some((each) => each.set) ? ['SET'] : []),
    ];
    const statements = [statement('', grantSql(membership, server))];
    if (there.length === 0) return { kind, name, action: 'create', notes: [], statements };
    if (differences.length === 0 || !choice.overwrites) {
      return { kind, name, action: 'leave', notes: differences, statements: [] };
    }
    return { kind, name, action: 'overwrite', notes: differences, statements };
  });
}

/** What an older server has no word for, where it would give more without. */
function beyondOlder({ inherit, set }: StoredMembership, inheritsOfMember: boolean | undefined): string | undefined {
  if (!set) return 'without SET';
  return inherit === false && inheritsOfMember !== false ? 'without INHERIT' : undefined;
}

function withKnownGrantors(
  { roles, memberships }: Pick<StoredGlobals, 'roles' | 'memberships'>,
  server: ServerGlobals,
) {
  const known = new Set([...roles.map(({ name }) => name), ...server.roles.keys()]);
  return memberships.map((membership) => {
    const { grantor } = membership;
    return grantor === undefined || known.has(grantor) ? membership : withoutGrantor(membership);
  });
}

/** `grantor` of what comes out is one that the server takes, or undefined. */
function inOrder(memberships: readonly StoredMembership[], server: ServerGlobals): readonly StoredMembership[] {
  // Only a superuser speaks for others.
  if (!server.isSuperuser) return memberships.map(withoutGrantor);
  if (server.major < FIRST_WITH_OPTIONS) return memberships;
  const admins = new Set(
    server.memberships.filter(({ admin }) => admin).map(({ role, member }) => keyOf(role, member)),
  );
  const ordered: StoredMembership[] = [];
  let waiting = memberships;
  for (let before = -1; before !== ordered.length; ) {
    before = ordered.length;
    const still: StoredMembership[] = [];
    for (const membership of waiting) {
      const { role, member, grantor, admin } = membership;
      const isGiven = grantor === undefined || grantor === server.bootstrap || admins.has(keyOf(role, grantor));
      if (!isGiven) {
        still.push(membership);
        continue;
      }
      ordered.push(membership);
      if (admin) admins.add(keyOf(role, member));
    }
    waiting = still;
    const [first, ...rest] = waiting;
    // Whoever gave it has no right to any more, or is not known here: others may have got theirs by this one.
    if (before === ordered.length && first !== undefined) {
      ordered.push(withoutGrantor(first));
      if (first.admin) admins.add(keyOf(first.role, first.member));
      waiting = rest;
    }
  }
  return ordered;
}

function keyOf(role: string, member: string): string {
  return JSON.stringify([role, member]);
}

function withoutGrantor(membership: StoredMembership): StoredMembership {
  return { ...membership, grantor: undefined };
}

function grantSql({ role, member, grantor, admin, inherit, set }: StoredMembership, { major }: ServerGlobals): string {
  const hasOptions = major >= FIRST_WITH_OPTIONS;
  const options = [
    ...(admin ? ['ADMIN OPTION'] : []),
    ...(hasOptions && inherit !== undefined ? [`INHERIT ${inherit ? 'TRUE' : 'FALSE'}`] : []),
    ...(hasOptions && !set ? ['SET FALSE'] : []),
  ];
  const by = grantor === undefined ? '' : ` GRANTED BY ${q(grantor)}`;
  return `GRANT ${q(role)} TO ${q(member)}${options.length === 0 ? '' : ` WITH ${options.join(', ')}`}${by}`;
}
