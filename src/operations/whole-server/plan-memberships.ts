import type { StoredGlobals, StoredMembership } from '../../formats/globals/stored-globals.ts';
import { quoteIdentifier as q } from '../../postgres/client/quote.ts';
import type { ServerGlobals } from '../../postgres/client/server-globals.ts';
import type { Gains } from './plan-gains.ts';
import { type PlannedObject, refused, statement } from './planned-object.ts';

/** From here on a membership has options of its own, and only who may give it on is named as who gave it. */
const FIRST_WITH_OPTIONS = 16;

/**
 * What becomes of each membership; those that are made in an order in which each that gave one has got it before. Where that
 * cannot be, since older servers ask less of who gave it, the role that works here gives it.
 */
export function planMemberships(
  stored: Pick<StoredGlobals, 'roles' | 'memberships'>,
  server: ServerGlobals,
  { gains, overwrites }: { readonly gains: Gains; readonly overwrites: boolean },
): readonly PlannedObject[] {
  const inherits = new Map(stored.roles.map(({ name, flags }) => [name, flags.has('INHERIT')]));
  for (const { name, flags } of server.roles.values()) inherits.set(name, flags.has('INHERIT'));
  const fateOf = (membership: StoredMembership): PlannedObject => {
    const { role, member, admin } = membership;
    const base = { kind: 'membership', name: `${member} in ${role}`, statements: [] } as const;
    const beyond = server.major < FIRST_WITH_OPTIONS ? beyondOlder(membership, inherits.get(member)) : undefined;
    if (beyond !== undefined) {
      const why = `PostgreSQL ${server.major} cannot have it ${beyond}, and would give more than that`;
      return refused(base.kind, base.name, why);
    }
    const there = server.memberships.filter((each) => each.role === role && each.member === member);
    const differences = [
      ...(admin && !there.some((each) => each.admin) ? ['ADMIN'] : []),
      ...(membership.inherit === true && !there.some((each) => each.inherit) ? ['INHERIT'] : []),
      ...(membership.set && !there.some((each) => each.set) ? ['SET'] : []),
    ];
    const withheld = gains.withheld(membership);
    if (there.length === 0) {
      return withheld === undefined
        ? { ...base, action: 'create', notes: [] }
        : { ...base, action: 'leave', notes: [withheld] };
    }
    const isChanged = overwrites && withheld === undefined && differences.length > 0;
    return { ...base, action: isChanged ? 'overwrite' : 'leave', notes: differences };
  };
  const all = withKnownGrantors(stored, server);
  const isGiven = (membership: StoredMembership): boolean =>
    ['create', 'overwrite'].includes(fateOf(membership).action);
  return [
    ...all.filter((membership) => !isGiven(membership)).map(fateOf),
    ...inOrder(all.filter(isGiven), server).map((membership) => ({
      ...fateOf(membership),
      statements: [statement('', grantSql(membership, server))],
    })),
  ];
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
