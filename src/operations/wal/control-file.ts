import { open } from 'node:fs/promises';
import path from 'node:path';
import { messageOf, PgarkError, systemCodeOf } from '../../common/errors.ts';

/** pg_control begins with the system identifier and the version of its own layout (src/include/catalog/pg_control.h). */
const HEAD_BYTES = 12;
/** PostgreSQL 9.4's layout; all since are higher. */
const CONTROL_VERSION_MIN = 942;
const CONTROL_VERSION_MAX = 99_999;

/**
 * The system identifier of the server whose data directory this is, digits. Undefined where there is no pg_control. Error:
 * `postgres-failed` for one that is none.
 */
export async function systemIdentifierIn(dataDirectory: string): Promise<string | undefined> {
  const file = path.join(dataDirectory, 'global', 'pg_control');
  const head = Buffer.alloc(HEAD_BYTES);
  try {
    const handle = await open(file, 'r');
    try {
      await handle.read(head, 0, HEAD_BYTES, 0);
    } finally {
      await handle.close();
    }
  } catch (error) {
    const code = systemCodeOf(error);
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    throw new PgarkError('postgres-failed', `${file} cannot be read: ${messageOf(error)}`, {
      cause: error,
      hint: 'run it as the user that the server’s files belong to',
    });
  }
  const version = head.readUInt32LE(8);
  if (version < CONTROL_VERSION_MIN || version > CONTROL_VERSION_MAX) {
    throw new PgarkError('postgres-failed', `${file} is not the control file of a PostgreSQL server of this machine`);
  }
  return String(head.readBigUInt64LE(0));
}
