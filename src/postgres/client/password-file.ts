import { readFile, stat } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { Secret } from '../../common/secret.ts';
import type { ConnectionParameters } from './connection-parameters.ts';

/**
 * The password that libpq would take from its password file
 * (https://www.postgresql.org/docs/current/libpq-pgpass.html), or undefined. As libpq does, it ignores a file that
 * group or others may read, and takes the first line that matches.
 */
export async function passwordFromFile(parameters: ConnectionParameters): Promise<Secret | undefined> {
  const path = parameters.passFile ?? join(homedir(), '.pgpass');
  let text: string;
  try {
    const status = await stat(path);
    if (!status.isFile() || (status.mode & 0o077) !== 0) return undefined;
    text = await readFile(path, 'utf8');
  } catch {
    return undefined;
  }
  return findPassword(text, parameters);
}

/** The password of the first line of a password file's text that matches, or undefined. */
function findPassword(text: string, parameters: ConnectionParameters): Secret | undefined {
  const host = parameters.host.startsWith('/') ? 'localhost' : parameters.host;
  const wanted = [host, String(parameters.port), parameters.database, parameters.user];
  for (const line of text.split(/\r?\n/)) {
    if (line === '' || line.startsWith('#')) continue;
    const fields = splitFields(line);
    const password = fields[4];
    if (password === undefined) continue;
    if (wanted.every((value, index) => fields[index] === '*' || unescape(fields[index] ?? '') === value)) {
      return new Secret(unescape(password));
    }
  }
  return undefined;
}

/** `host:port:database:user:password` with `\:` and `\\` as escapes, still escaped. */
function splitFields(line: string): string[] {
  return (
    line
      .match(/(?:\\.|[^:\\])*(?::|$)/g)
      ?.slice(0, 5)
      .map((field) => field.replace(/:$/, '')) ?? []
  );
}

function unescape(field: string): string {
  return field.replaceAll(/\\(.)/g, '$1');
}
