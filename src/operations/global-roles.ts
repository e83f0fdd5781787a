import { decodeGlobals, GLOBALS_BYTES_MAX, readGlobalsText } from '../formats/globals/globals-text.ts';
import type { SourceAccess } from '../formats/load-source.ts';
import type { GlobalsRecord } from '../repository/globals.ts';

/** A role of the server that globals were taken from. */
export interface GlobalRole {
  readonly name: string;
  readonly isSuperuser: boolean;
}

/** As pg_dumpall writes it, a line for each role (https://www.postgresql.org/docs/current/app-pg-dumpall.html). */
const CREATE_ROLE = /^CREATE ROLE (?:"((?:[^"]|"")+)"|([^\s;]+));$/gm;
const SUPERUSER = /^ALTER ROLE (?:"((?:[^"]|"")+)"|([^\s;]+)) WITH SUPERUSER /gm;

/** The roles that the SQL text of globals makes. Errors: those of reading it. */
export async function rolesIn(globals: GlobalsRecord, access: SourceAccess): Promise<readonly GlobalRole[]> {
  if (globals.object.plainBytes > GLOBALS_BYTES_MAX) return [];
  return rolesInSql(await readGlobalsText(globals, access));
}

export function rolesInSql(bytes: Uint8Array): readonly GlobalRole[] {
  const text = decodeGlobals(bytes);
  const superusers = new Set(namesBy(SUPERUSER, text));
  return namesBy(CREATE_ROLE, text).map((name) => ({ name, isSuperuser: superusers.has(name) }));
}

function namesBy(pattern: RegExp, text: string): readonly string[] {
  return [...text.matchAll(pattern)].map(([, quoted, plain]) => quoted?.replaceAll('""', '"') ?? plain ?? '');
}
