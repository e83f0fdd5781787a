import { PgarkError } from '../../common/errors.ts';
import type { ObjectKey } from '../object-store.ts';

/** A place on a remote, as rclone's arguments name it. */
export interface Remote {
  /** The remote's name in rclone's configuration. */
  readonly name: string;
  /** What was configured, without slashes at its end: `name:` or `name:path`. */
  readonly root: string;
}

const CONTROL_CHARACTER = /\p{Cc}/u;

/**
 * Reads `name:path`. Refuses connection strings (`:s3,secret_access_key=…:path`, `name,option=value:path`): everybody on
 * the machine can read a program's arguments. Rejects with `storage-config-invalid`; the message quotes no part that may
 * hold a secret.
 */
export function parseRemote(text: string): Remote {
  const colon = text.indexOf(':');
  const name = text.slice(0, Math.max(colon, 0));
  if (text.startsWith(':') || name.includes(',')) {
    throw new PgarkError(
      'storage-config-invalid',
      'the rclone remote is a connection string: its settings would be seen in the list of processes',
      {
        hint: 'define the remote in rclone.conf (rclone config) or by RCLONE_CONFIG_NAME_… variables, and write name:path',
      },
    );
  }
  if (name === '' || name.startsWith('-') || /[/\\]/.test(name) || CONTROL_CHARACTER.test(text)) {
    throw new PgarkError('storage-config-invalid', 'the rclone remote is not written as name:path', {
      hint: 'write the name that "rclone listremotes" shows, and a path on it: gdrive:backups/pg',
    });
  }
  const path = text.slice(colon + 1).replace(/(?<=[^/])\/+$/, '');
  return { name, root: `${name}:${path}` };
}

/** The argument that names what lies at `path` below the root; the root itself where it is empty. */
export function argumentOf({ root }: Remote, path: ObjectKey): string {
  if (path === '') return root;
  return /[:/]$/.test(root) ? root + path : `${root}/${path}`;
}
