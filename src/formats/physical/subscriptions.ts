import { readFile, stat } from 'node:fs/promises';
import path from 'node:path';

/** Of pg_subscription, one table for all databases. */
const TABLE_OID = 6100;
/** First number of a map of tables to files (src/backend/utils/cache/relmapper.c); how many entries follow is the second. */
const MAP_MAGIC = 0x59_27_17;
const HEAD_BYTES = 8;
const ENTRY_BYTES = 8;

/**
 * Whether the server of a data directory has subscriptions, or had some: the file of its table has pages. Where that cannot be
 * told, it may have.
 */
export async function mayHaveSubscriptions(dataDirectory: string): Promise<boolean> {
  const shared = path.join(dataDirectory, 'global');
  try {
    const file = fileIn(await readFile(path.join(shared, 'pg_filenode.map')), TABLE_OID);
    if (file === undefined) return true;
    return (await stat(path.join(shared, String(file)))).size > 0;
  } catch {
    return true;
  }
}

/** The file that a map names for a table. Undefined where it names none, or is no map. */
function fileIn(map: Uint8Array, oid: number): number | undefined {
  const view = new DataView(map.buffer, map.byteOffset, map.byteLength);
  if (view.byteLength < HEAD_BYTES || view.getUint32(0, true) !== MAP_MAGIC) return undefined;
  const end = Math.min(HEAD_BYTES + view.getUint32(4, true) * ENTRY_BYTES, view.byteLength - ENTRY_BYTES + 1);
  for (let at = HEAD_BYTES; at < end; at += ENTRY_BYTES) {
    if (view.getUint32(at, true) === oid) return view.getUint32(at + 4, true);
  }
  return undefined;
}
