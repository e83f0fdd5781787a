import { type Session, sqlStateOf } from '../../postgres/client/connect.ts';
import type { Manifest } from '../../repository/manifest.ts';

export const BEYOND_ASCII = /[\u0080-\u{10ffff}]/u;

/** untranslatable_character */
export const UNTRANSLATABLE_CHARACTER = '22P05';

/** Roles are found by the bytes of their names, in the encoding of the database that names them. SQL_ASCII is any encoding. */
export function encodingOfNames({ database: { encoding } }: Pick<Manifest, 'database'>): string {
  return encoding === 'SQL_ASCII' ? 'UTF8' : encoding;
}

/** Names that only a database of the encoding can give to roles, and that no role of the server has. */
export interface ForeignNames {
  readonly serverEncoding: string;
  readonly missing: readonly string[];
}

/** Databases share names of roles, and each reads their bytes in its own encoding. */
export async function foreignNames(
  session: Session,
  roles: readonly string[],
  encoding: string,
): Promise<ForeignNames> {
  const [server] = await session.query<{ encoding: string }>(
    `select pg_catalog.current_setting('server_encoding') as encoding`,
  );
  const serverEncoding = server?.encoding ?? '';
  const names = roles.filter((name) => BEYOND_ASCII.test(name));
  const isSame = serverEncoding === encoding || (serverEncoding === 'SQL_ASCII' && encoding === 'UTF8');
  if (isSame || names.length === 0) return { serverEncoding, missing: [] };
  const there = await bytesOfRoles(session);
  const missing: string[] = [];
  for (const name of names) {
    const bytes = await bytesIn(encoding, name, session);
    if (bytes === undefined || !there.has(bytes)) missing.push(name);
  }
  return { serverEncoding, missing };
}

/** The names of all roles as the server has them, in hexadecimal digits. */
async function bytesOfRoles(session: Session): Promise<ReadonlySet<string>> {
  // Of the encodings that a session may ask for it is the only one that nothing is converted to.
  await session.query(`set client_encoding = 'SQL_ASCII'`);
  try {
    const rows = await session.query<{ bytes: string }>(
      `select pg_catalog.encode(pg_catalog.namesend(rolname), 'hex') as bytes from pg_catalog.pg_roles`,
    );
    return new Set(rows.map(({ bytes }) => bytes));
  } finally {
    if (session.alive) await session.query('reset client_encoding');
  }
}

/** Undefined where the encoding has no such characters. */
async function bytesIn(encoding: string, name: string, session: Session): Promise<string | undefined> {
  try {
    const [row] = await session.query<{ bytes: string }>(
      `select pg_catalog.encode(pg_catalog.convert(pg_catalog.decode($1, 'hex'), 'UTF8', $2), 'hex') as bytes`,
      [Buffer.from(name).toString('hex'), encoding],
    );
    return row?.bytes;
  } catch (error) {
    if (sqlStateOf(error) === UNTRANSLATABLE_CHARACTER) return undefined;
    throw error;
  }
}
