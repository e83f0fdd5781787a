import type { StoredDatabase } from '../../formats/globals/stored-database.ts';
import type {
  StoredGlobals,
  StoredGrant,
  StoredParameterGrant,
  StoredTablespace,
} from '../../formats/globals/stored-globals.ts';
import { quoteIdentifier as q, quoteLiteral } from '../../postgres/client/quote.ts';
import type { ServerGlobals, ServerGrant } from '../../postgres/client/server-globals.ts';
import { type Gains, LEFT_MISSING, planGains } from './plan-gains.ts';
import { planMemberships } from './plan-memberships.ts';
import { planRole } from './plan-role.ts';
import {
  type GlobalsChoice,
  type PlannedObject,
  refused,
  sayings,
  type ServerLooks,
  statement,
} from './planned-object.ts';

/** In the order in which they are to be made. Pure. */
export function planGlobals(
  stored: StoredGlobals,
  looks: ServerLooks,
  choice: GlobalsChoice,
): readonly PlannedObject[] {
  const { databases } = choice;
  const ofDatabases = stored.databases.filter(
    ({ name }) =>
      looks.server.databases.has(name) && (databases === 'existing' || (databases !== 'none' && databases.has(name))),
  );
  const ofServer = typeof databases === 'string' ? planServer(stored, looks, choice) : [];
  return [...ofServer, ...ofDatabases.map(planDatabase)].map(refusedIfUnreadable);
}

function planServer(stored: StoredGlobals, looks: ServerLooks, choice: GlobalsChoice): readonly PlannedObject[] {
  const gains = planGains(stored, looks.server, choice);
  return [
    ...stored.roles.map((role) => planRole(role, looks, choice)),
    ...planMemberships(stored, looks.server, { gains, overwrites: choice.overwrites }),
    ...stored.parameterGrants.map((grant) => planParameter(grant, looks.server, gains)),
    ...stored.tablespaces.map((tablespace) => planTablespace(tablespace, looks, { ...choice, gains })),
    ...stored.unread.map((words) => refused('statement', words, 'not known to this version of pgark')),
  ];
}

function planDatabase({ name, statements }: StoredDatabase): PlannedObject {
  return {
    kind: 'database',
    name,
    action: 'overwrite',
    notes: statements.map(({ what }) => what),
    statements: statements.map(({ what, sql }) => statement(what, sql)),
  };
}

/** Stands for bytes that were none of the encoding. */
const UNREADABLE = '\ufffd';

function refusedIfUnreadable(planned: PlannedObject): PlannedObject {
  if (planned.action === 'leave-out' || planned.action === 'refuse' || !planned.name.includes(UNREADABLE))
    return planned;
  return refused(planned.kind, planned.name, 'its name is in an encoding that is not known');
}

const PARAMETER_PRIVILEGES = ['SET', 'ALTER SYSTEM'] as const;
const FIRST_WITH_PARAMETER_GRANTS = 15;

function planParameter(grant: StoredParameterGrant, server: ServerGlobals, { mayGain }: Gains): PlannedObject {
  const { parameter, privilege, grantee } = grant;
  const kind = 'parameter';
  const name = `${privilege} on ${parameter} to ${grantee ?? 'PUBLIC'}`;
  if (server.major < FIRST_WITH_PARAMETER_GRANTS) {
    return refused(kind, name, `PostgreSQL ${server.major} has no rights on parameters`);
  }
  const all = privilege === 'ALL' ? PARAMETER_PRIVILEGES : [privilege];
  const isThere = (each: string): boolean =>
    has(server.parameterGrants, { ...grant, privilege: each }, parameter.toLowerCase());
  if (all.every(isThere)) return { kind, name, action: 'leave', notes: [], statements: [] };
  if (!mayGain(grantee)) return { kind, name, action: 'leave', notes: [LEFT_MISSING], statements: [] };
  const on = parameter.split('.').map(q).join('.');
  return {
    kind,
    name,
    action: 'create',
    notes: [],
    statements: [statement('the right', grantSql(grant, `PARAMETER ${on}`))],
  };
}

function has(grants: readonly ServerGrant[], wanted: StoredGrant, on: string): boolean {
  return grants.some(
    (grant) =>
      grant.on === on &&
      grant.privilege === wanted.privilege &&
      grant.grantee === wanted.grantee &&
      (grant.grantable || !wanted.grantable),
  );
}

function grantSql({ privilege, grantee, grantable }: StoredGrant, on: string): string {
  const to = grantee === undefined ? 'PUBLIC' : q(grantee);
  return `GRANT ${privilege} ON ${on} TO ${to}${grantable ? ' WITH GRANT OPTION' : ''}`;
}

function planTablespace(
  stored: StoredTablespace,
  { server, missingDirectories }: ServerLooks,
  { withTablespaces, gains }: Pick<GlobalsChoice, 'withTablespaces'> & { readonly gains: Gains },
): PlannedObject {
  const { name, location, owner } = stored;
  const base = { kind: 'tablespace', name } as const;
  if (!withTablespaces) return { ...base, action: 'leave-out', notes: ['as was asked for'], statements: [] };
  const on = `TABLESPACE ${q(name)}`;
  const grants = stored.grants.map((grant) => ({
    // All that there is on tablespaces.
    grant: { ...grant, privilege: 'CREATE' },
    made: statement(`the right of ${grant.grantee ?? 'PUBLIC'}`, grantSql({ ...grant, privilege: 'CREATE' }, on)),
  }));
  const there = server.tablespaces.get(name);
  if (there !== undefined) {
    const missing = grants.filter(({ grant }) => !has(server.tablespaceGrants, grant, name));
    const added = missing.filter(({ grant }) => gains.mayGain(grant.grantee)).map(({ made }) => made);
    const withheld = missing.filter(({ grant }) => !gains.mayGain(grant.grantee));
    const notes = [
      ...(there.location === location ? [] : [`lies in ${there.location}`]),
      ...(there.owner === owner ? [] : ['owner']),
      ...withheld.map(({ made }) => `${made.what} ${LEFT_MISSING}`),
    ];
    return { ...base, action: added.length === 0 ? 'leave' : 'extend', notes, statements: added };
  }
  if (missingDirectories.has(location)) return refused('tablespace', name, `the server has no directory ${location}`);
  return {
    ...base,
    action: 'create',
    notes: [],
    statements: [
      statement('', `CREATE ${on} OWNER ${q(owner)} LOCATION ${quoteLiteral(location)}`),
      ...(stored.options === undefined ? [] : [statement('the options', `ALTER ${on} SET ${stored.options}`)]),
      ...stored.revokedFrom.map((from) =>
        statement('the revoked rights', `REVOKE ALL ON ${on} FROM ${from === 'PUBLIC' ? 'PUBLIC' : q(from)}`),
      ),
      ...grants.map(({ made }) => made),
      ...sayings(on, stored),
    ],
  };
}
