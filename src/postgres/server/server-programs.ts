import { access, constants, readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { programText } from '../../common/child-process.ts';
import { PgarkError } from '../../common/errors.ts';

/** The programs that a private server needs, all of one PostgreSQL version. */
const PROGRAMS = ['initdb', 'postgres'] as const;
/** Where Debian and Ubuntu, and the packages of PostgreSQL's own RPM repository, keep one folder for each major. */
const DEBIAN_FOLDER = '/usr/lib/postgresql';
const RPM_FOLDER = '/usr';

/**
 * The folder of the newest PostgreSQL server installed here: by major version in the folders of Debian and of the RPM
 * packages, then the PATH. Rejects with `client-missing` if there is none.
 */
export async function findServerPrograms(pathVariable = process.env['PATH'] ?? ''): Promise<string> {
  const versioned = [
    ...(await versionedFolders(DEBIAN_FOLDER, /^(\d+)$/)),
    ...(await versionedFolders(RPM_FOLDER, /^pgsql-(\d+)$/)),
  ].sort((a, b) => b.major - a.major);
  const onPath = pathVariable.split(path.delimiter).filter((folder) => path.isAbsolute(folder));
  for (const folder of [...versioned.map((entry) => entry.binDir), ...onPath]) {
    if (await holdsPrograms(folder)) return folder;
  }
  throw new PgarkError('client-missing', 'no PostgreSQL server is installed here (initdb and postgres)', {
    hint: 'on Debian and Ubuntu: apt-get install postgresql',
  });
}

/**
 * The folder of pg_ctl and postgres of a major version: in the folders of Debian and of the RPM packages, then on the PATH.
 * Rejects with `client-missing` if there is none.
 */
export async function findServerOfMajor(major: number, pathVariable = process.env['PATH'] ?? ''): Promise<string> {
  const versioned = [
    ...(await versionedFolders(DEBIAN_FOLDER, /^(\d+)$/)),
    ...(await versionedFolders(RPM_FOLDER, /^pgsql-(\d+)$/)),
  ].filter((entry) => entry.major === major);
  const onPath = pathVariable.split(path.delimiter).filter((folder) => path.isAbsolute(folder));
  for (const folder of [...versioned.map((entry) => entry.binDir), ...onPath]) {
    if ((await holdsPrograms(folder, ['pg_ctl', 'postgres'])) && (await majorOf(folder)) === major) return folder;
  }
  throw new PgarkError('client-missing', `no server of PostgreSQL ${major} is installed here (pg_ctl and postgres)`, {
    hint: `on Debian and Ubuntu: apt-get install postgresql-${major}; or restore without --start, and start it elsewhere`,
  });
}

/**
 * That a folder which somebody has named holds the programs of a server of this major version. Rejects with `client-missing`: to start
 * another one would look like a failure of what it is started on.
 */
export async function checkServerOfMajor(
  folder: string,
  major: number,
  { orNewer = false }: { readonly orNewer?: boolean } = {},
): Promise<void> {
  const hint = 'name the folder that holds pg_ctl, initdb and postgres of that version';
  if (!(await holdsPrograms(folder, ['pg_ctl', ...PROGRAMS]))) {
    throw new PgarkError('client-missing', `there is no PostgreSQL server in ${folder} (pg_ctl, initdb and postgres)`, {
      hint,
    });
  }
  const found = await majorOf(folder);
  if (found === major || (orNewer && found > major)) return;
  const what = found === 0 ? 'of no version that it tells' : `of PostgreSQL ${found}`;
  throw new PgarkError('client-missing', `the server in ${folder} is ${what}, and the backup of ${major}`, { hint });
}

async function majorOf(folder: string): Promise<number> {
  const program = path.join(folder, 'postgres');
  const env = { PATH: '', LC_ALL: 'C' };
  const text = await programText({ name: 'postgres', path: program, args: ['--version'], env }).catch(() => '');
  return Number(/\(PostgreSQL\) (\d+)/.exec(text)?.[1] ?? 0);
}

async function versionedFolders(parent: string, pattern: RegExp): Promise<{ major: number; binDir: string }[]> {
  const names = await readdir(parent).catch(() => []);
  return names.flatMap((name) => {
    const major = pattern.exec(name)?.[1];
    return major === undefined ? [] : [{ major: Number(major), binDir: path.join(parent, name, 'bin') }];
  });
}

async function holdsPrograms(folder: string, programs: readonly string[] = PROGRAMS): Promise<boolean> {
  const found = await Promise.allSettled(programs.map((name) => access(path.join(folder, name), constants.X_OK)));
  return found.every((result) => result.status === 'fulfilled');
}

/** An account of the operating system, by number. */
export interface Account {
  readonly uid: number;
  readonly gid: number;
}

/**
 * The account that a server runs under: our own, except that PostgreSQL refuses to run as root. Then it is `postgres`, or
 * `nobody` where that does not exist.
 */
export async function findServerAccount(ownUid = process.getuid?.()): Promise<Account | undefined> {
  if (ownUid !== 0) return undefined;
  // passwd(5): name:password:UID:GID:…
  const lines = (await readFile('/etc/passwd', 'utf8')).split('\n').map((line) => line.split(':'));
  for (const name of ['postgres', 'nobody']) {
    const fields = lines.find((line) => line[0] === name);
    if (fields !== undefined) return { uid: Number(fields[2]), gid: Number(fields[3]) };
  }
  throw new PgarkError(
    'postgres-failed',
    'PostgreSQL does not run as root, and there is no user postgres or nobody here',
    {
      hint: 'run pgark as another user, or create the user postgres',
    },
  );
}
