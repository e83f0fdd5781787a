import type { StoredSetting } from '../../formats/globals/stored-database.ts';
import type { StoredRole } from '../../formats/globals/stored-globals.ts';
import { quoteIdentifier as q, quoteLiteral } from '../../postgres/client/quote.ts';
import { ROLE_FLAGS, type ServerRole } from '../../postgres/client/server-globals.ts';
import {
  type GlobalsChoice,
  type GlobalsStatement,
  type PlannedObject,
  sayings,
  type ServerLooks,
  statement,
} from './planned-object.ts';

/**
 * One that is not there is made with all that it had, in one statement: a role that has no password yet, or more rights than
 * it should, exists at no moment. The role that works here, and that which the server was made with, stay as they are whatever
 * was asked for: whoever takes a right from these may not get it back.
 */
export function planRole(
  stored: StoredRole,
  { server, otherValidity }: ServerLooks,
  choice: GlobalsChoice,
): PlannedObject {
  const { name } = stored;
  const base = { kind: 'role', name } as const;
  const there = server.roles.get(name);
  const doubts = isOfAnyServer(stored) ? [] : [`VALID UNTIL ${stored.validUntil} may be read as another day`];
  if (there === undefined) return { ...base, action: 'create', notes: doubts, statements: makeRole(stored, choice) };
  const differences = differencesOf(stored, there, otherValidity.has(name), choice);
  const labels = [...differences.map(({ what }) => what), ...unreadPassword(stored, there, choice)];
  if (name === server.self || name === server.bootstrap) {
    return { ...base, action: 'leave', notes: labels, statements: [] };
  }
  if (choice.overwrites && differences.length > 0) {
    return { ...base, action: 'overwrite', notes: [...labels, ...doubts], statements: changeRole(name, differences) };
  }
  const added = differences.filter(({ adds }) => adds);
  const notes = labels.filter((label) => added.every(({ what }) => what !== label));
  if (added.length === 0) return { ...base, action: 'leave', notes, statements: [] };
  return { ...base, action: 'extend', notes, statements: changeRole(name, added) };
}

/** Other styles of dates say neither which number is the month nor which is the day. */
function isOfAnyServer({ validUntil }: StoredRole): boolean {
  return validUntil === undefined || /^(?:-?infinity$|\d{4,}-\d\d-\d\d(?: |$))/.test(validUntil);
}

/** What is said where a password would be overwritten, and nobody knows whether it differs. */
function unreadPassword(
  { password }: StoredRole,
  there: ServerRole,
  { overwrites, withPasswords }: GlobalsChoice,
): readonly string[] {
  const isUnread = overwrites && withPasswords && password !== undefined && there.password === undefined;
  return isUnread ? ['PASSWORD stays, since the role that works may not read those of the server'] : [];
}

function makeRole(stored: StoredRole, { withPasswords }: GlobalsChoice): readonly GlobalsStatement[] {
  const { name, flags, connectionLimit, password, validUntil, settings } = stored;
  const attributes = [
    ...flags,
    ...(flags.has('INHERIT') ? [] : ['NOINHERIT']),
    ...(connectionLimit === -1 ? [] : [`CONNECTION LIMIT ${connectionLimit}`]),
    ...(password === undefined || !withPasswords ? [] : [`PASSWORD ${quoteLiteral(password.reveal())}`]),
    ...(validUntil === undefined ? [] : [`VALID UNTIL ${quoteLiteral(validUntil)}`]),
  ];
  return [
    statement('', `CREATE ROLE ${q(name)}${attributes.map((each) => ` ${each}`).join('')}`),
    ...sayings(`ROLE ${q(name)}`, stored),
    ...settings.map((setting) => statement(`the setting ${setting.name}`, settingSql(name, setting))),
  ];
}

interface Difference {
  readonly what: string;
  /** Whether the server has nothing there that would be changed, and the role acts as before. */
  readonly adds: boolean;
  /** Behind `ALTER ROLE name `, or a statement of its own. */
  readonly attribute?: string;
  readonly sql?: string;
}

function differencesOf(
  stored: StoredRole,
  there: ServerRole,
  isOtherValidity: boolean,
  { withPasswords }: GlobalsChoice,
): readonly Difference[] {
  const { name, password, validUntil = 'infinity', comment, connectionLimit } = stored;
  const changes = (what: string, attribute: string): Difference => ({ what, adds: false, attribute });
  const isOtherPassword =
    withPasswords &&
    password !== undefined &&
    there.password !== undefined &&
    there.password?.reveal() !== password.reveal();
  return [
    ...ROLE_FLAGS.filter((flag) => stored.flags.has(flag) !== there.flags.has(flag)).map((flag) =>
      changes(flag, stored.flags.has(flag) ? flag : `NO${flag}`),
    ),
    ...(connectionLimit === there.connectionLimit
      ? []
      : [changes('CONNECTION LIMIT', `CONNECTION LIMIT ${connectionLimit}`)]),
    ...(isOtherPassword ? [changes('PASSWORD', `PASSWORD ${quoteLiteral(password.reveal())}`)] : []),
    ...(isOtherValidity ? [changes('VALID UNTIL', `VALID UNTIL ${quoteLiteral(validUntil)}`)] : []),
    ...(comment === undefined || comment === there.comment
      ? []
      : [
          {
            what: 'the comment',
            adds: there.comment === undefined,
            sql: `COMMENT ON ROLE ${q(name)} IS ${quoteLiteral(comment)}`,
          },
        ]),
    ...stored.settings.flatMap((setting) => {
      const value = there.settings.get(setting.name.toLowerCase());
      if (value !== undefined && isSameValue(value, setting.values)) return [];
      // One that is missing too: it can make a role read-only, or lock it out.
      return [{ what: `the setting ${setting.name}`, adds: false, sql: settingSql(name, setting) }];
    }),
  ];
}

function changeRole(name: string, differences: readonly Difference[]): readonly GlobalsStatement[] {
  const attributes = differences.flatMap(({ attribute }) => attribute ?? []);
  return [
    ...(attributes.length === 0 ? [] : [statement('the attributes', `ALTER ROLE ${q(name)} ${attributes.join(' ')}`)]),
    ...differences.flatMap(({ what, sql }) => (sql === undefined ? [] : [statement(what, sql)])),
  ];
}

function settingSql(role: string, { name, values }: StoredSetting): string {
  return `ALTER ROLE ${q(role)} SET ${name.split('.').map(q).join('.')} TO ${values.map(quoteLiteral).join(', ')}`;
}

/** The catalogue holds a list of names as one text, each quoted where it must be. */
function isSameValue(catalogued: string, values: readonly string[]): boolean {
  if (values.length === 1 && values[0] === catalogued) return true;
  const names = [...catalogued.matchAll(/"((?:[^"]|"")*)"|[^\s,"]+/g)].map(
    ([whole, quoted]) => quoted?.replaceAll('""', '"') ?? whole,
  );
  return names.length === values.length && names.every((name, index) => name === values[index]);
}
