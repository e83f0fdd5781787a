import { MIB } from '../common/bytes.ts';
import { readSealed } from '../formats/sealed-object.ts';
import type { SourceAccess } from '../formats/load-source.ts';
import { CLIENT_ENCODING, decodeText } from '../postgres/client/text-encodings.ts';
import type { GlobalsRecord } from '../repository/globals.ts';

/** A role of the server that globals were taken from. */
export interface GlobalRole {
  readonly name: string;
  readonly isSuperuser: boolean;
}

/** More text than a million roles have; whoever has more reads it by hand. */
const GLOBALS_BYTES_MAX = 256 * MIB;
/** In which pg_dumpall has said the encoding of the rest. */
const HEAD_BYTES = 4096;
const BEYOND_ASCII_LINE = /^.*[\x80-\xff].*$/gm;
/** As pg_dumpall writes it, a line for each role (https://www.postgresql.org/docs/current/app-pg-dumpall.html). */
const CREATE_ROLE = /^CREATE ROLE (?:"((?:[^"]|"")+)"|([^\s;]+));$/gm;
const SUPERUSER = /^ALTER ROLE (?:"((?:[^"]|"")+)"|([^\s;]+)) WITH SUPERUSER /gm;

/** The roles that the SQL text of globals makes. Errors: those of reading it. */
export async function rolesIn(
  globals: GlobalsRecord,
  { store, keys, signal }: SourceAccess,
): Promise<readonly GlobalRole[]> {
  if (globals.object.plainBytes > GLOBALS_BYTES_MAX) return [];
  const chunks: Uint8Array[] = [];
  for await (const chunk of readSealed(store, globals, globals.object, { keys, signal })) chunks.push(chunk);
  return rolesInSql(Buffer.concat(chunks));
}

export function rolesInSql(bytes: Uint8Array): readonly GlobalRole[] {
  const text = textOf(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1'));
  const superusers = new Set(namesBy(SUPERUSER, text));
  return namesBy(CREATE_ROLE, text).map((name) => ({ name, isSuperuser: superusers.has(name) }));
}

/**
 * A line may be in another encoding than the one that pg_dumpall has said: those behind its own are in UTF-8, and the names of
 * roles and what is said of them may come from databases of others.
 */
function textOf(bytes: string): string {
  const encoding = CLIENT_ENCODING.exec(bytes.slice(0, HEAD_BYTES))?.[1] ?? 'UTF8';
  return bytes.replaceAll(BEYOND_ASCII_LINE, (line) => decodeText(Buffer.from(line, 'latin1'), encoding));
}

function namesBy(pattern: RegExp, text: string): readonly string[] {
  return [...text.matchAll(pattern)].map(([, quoted, plain]) => quoted?.replaceAll('""', '"') ?? plain ?? '');
}
