import { MIB } from '../../common/bytes.ts';
import { CLIENT_ENCODING, decodeText } from '../../postgres/client/text-encodings.ts';
import type { GlobalsRecord } from '../../repository/globals.ts';
import type { SourceAccess } from '../load-source.ts';
import { readSealed } from '../sealed-object.ts';

/** More text than a million roles have; whoever has more reads it by hand. */
export const GLOBALS_BYTES_MAX = 256 * MIB;
/** In which pg_dumpall has said the encoding of the rest. */
const HEAD_BYTES = 4096;
const BEYOND_ASCII_LINE = /^.*[\x80-\xff].*$/gm;

/** The SQL text of globals as it was dumped. Errors: `corrupt`, `wrong-key`, `key-missing`, `object-not-found`, `store-…`. */
export async function readGlobalsText(
  globals: GlobalsRecord,
  { store, keys, signal }: SourceAccess,
): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of readSealed(store, globals, globals.object, { keys, signal })) chunks.push(chunk);
  return Buffer.concat(chunks);
}

/**
 * A line may be in another encoding than the one that pg_dumpall has said: those behind its own are in UTF-8, and the names of
 * roles and what is said of them may come from databases of others.
 */
export function decodeGlobals(text: Uint8Array): string {
  const bytes = Buffer.from(text.buffer, text.byteOffset, text.byteLength).toString('latin1');
  const encoding = CLIENT_ENCODING.exec(bytes.slice(0, HEAD_BYTES))?.[1] ?? 'UTF8';
  return bytes.replaceAll(BEYOND_ASCII_LINE, (line) => decodeText(Buffer.from(line, 'latin1'), encoding));
}
