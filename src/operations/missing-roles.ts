import { isPgarkError, PgarkError } from '../common/errors.ts';
import type { DecryptionKeys } from '../pipeline/encryption/sealer.ts';
import type { ConnectionParameters } from '../postgres/client/connection-parameters.ts';
import { isOfMissingRole, serverErrorOf } from '../postgres/client/server-error.ts';
import { connectForMaintenance } from '../postgres/client/target-database.ts';
import type { Manifest } from '../repository/manifest.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { rolesIn } from './global-roles.ts';
import { globalsOf } from './show.ts';

const NAMES_SHOWN_MAX = 10;
/** What a server says in English of a role that it does not have. */
const MISSING_ROLE = /role "[^"]+" does not exist/;

export interface MissingRolesRequest {
  readonly store: ObjectStore;
  readonly manifest: Manifest;
  readonly connection: ConnectionParameters;
  readonly keys: DecryptionKeys;
  readonly signal: AbortSignal;
}

/** Whether a load failed for want of a role: in any language, but for what pg_restore passes on. */
export function isForMissingRole(error: PgarkError): boolean {
  const said = serverErrorOf(error);
  return MISSING_ROLE.test(error.message) || (said !== undefined && isOfMissingRole(said));
}

/**
 * What to say of a load that failed for want of a role: psql names the first one, the globals of the server that the
 * backup came from know them all. Any other error, and one about which nothing can be found out, is returned as it is.
 */
export async function explainMissingRoles(error: unknown, request: MissingRolesRequest): Promise<unknown> {
  if (!isPgarkError(error, 'restore-failed') || !isForMissingRole(error)) return error;
  try {
    const { store, manifest, connection, signal } = request;
    const globals = await globalsOf(store, manifest, { signal });
    if (globals === undefined) return error;
    const there = await rolesOf(connection, signal);
    const roles = await rolesIn(globals, request);
    const missing = roles.map(({ name }) => name).filter((name) => !there.has(name));
    if (missing.length === 0) return error;
    const more = missing.length > NAMES_SHOWN_MAX ? ` and ${missing.length - NAMES_SHOWN_MAX} more` : '';
    const names = missing.slice(0, NAMES_SHOWN_MAX).map((role) => `"${role}"`);
    return new PgarkError(
      'restore-failed',
      `${error.message}; roles of the old server that are missing on ${connection.host}:${connection.port}: ${names.join(', ')}${more}`,
      {
        cause: error,
        hint: `create them first: pgark restore ${globals.id} --globals --to-url URL makes all that are missing; or leave owners and grants out with --no-owner --no-privileges`,
      },
    );
  } catch {
    request.signal.throwIfAborted();
    return error;
  }
}

async function rolesOf(connection: ConnectionParameters, signal: AbortSignal): Promise<ReadonlySet<string>> {
  const session = await connectForMaintenance(connection, { applicationName: 'pgark restore', signal });
  try {
    const rows = await session.query<{ name: string }>('select rolname as name from pg_roles');
    return new Set(rows.map(({ name }) => name));
  } finally {
    await session.close();
  }
}
