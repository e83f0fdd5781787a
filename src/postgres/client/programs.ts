import { constants } from 'node:fs';
import { access, readdir, realpath, stat } from 'node:fs/promises';
import { basename, delimiter, join } from 'node:path';
import { PgarkError } from '../../common/errors.ts';
import { programText } from '../../common/child-process.ts';

export type ClientProgram = 'pg_dump' | 'pg_dumpall' | 'psql' | 'pg_restore';

/** One installed copy of a program. */
export interface InstalledProgram {
  readonly path: string;
  readonly major: number;
  readonly minor: number;
  /** As `--version` says: `15.18 (Debian 15.18-0+deb12u1)`. */
  readonly version: string;
}

/** Names the one folder of client programs to use. */
const CLIENT_DIR_VARIABLE = 'PGARK_CLIENT_DIR';

/** Folders of the packages of Debian, Red Hat and Homebrew; each holds one folder a major version. */
const VERSIONED_FOLDERS: readonly { readonly parent: string; readonly name: RegExp }[] = [
  { parent: '/usr/lib/postgresql', name: /^\d+$/ },
  { parent: '/usr', name: /^pgsql-\d+$/ },
  { parent: '/usr/libexec', name: /^postgresql\d+$/ },
  { parent: '/opt/homebrew/opt', name: /^(libpq|postgresql(@\d+)?)$/ },
  { parent: '/usr/local/opt', name: /^(libpq|postgresql(@\d+)?)$/ },
];

/** Debian's script that starts one of the programs in the package folders, which are looked at themselves. */
const WRAPPER = 'pg_wrapper';

/** By file and its state: a daemon asks each program once, and again after an upgrade. */
const inspected = new Map<string, Promise<Omit<InstalledProgram, 'path'> | undefined>>();

/**
 * Every copy of the program on this machine: the package folders' first, then the PATH's. Where PGARK_CLIENT_DIR names a
 * folder, only that one is looked at. `alsoIn` is a further folder, whatever that says.
 */
export async function findPrograms(
  program: ClientProgram,
  environment: Readonly<Record<string, string | undefined>> = process.env,
  alsoIn?: string,
): Promise<InstalledProgram[]> {
  const folders = environment[CLIENT_DIR_VARIABLE]
    ? [environment[CLIENT_DIR_VARIABLE]]
    : await usualFolders(environment);
  const copies = new Map<string, string>();
  for (const folder of alsoIn === undefined ? folders : [alsoIn, ...folders]) {
    const path = join(folder, program);
    const file = await realpath(path).catch(() => undefined);
    if (file !== undefined && !copies.has(file)) copies.set(file, path);
  }
  const real = [...copies].filter(([file]) => basename(file) !== WRAPPER);
  const found = await Promise.all(
    (real.length > 0 ? real : [...copies]).map(([file, path]) => inspect(program, path, file)),
  );
  return found.filter((each) => each !== undefined);
}

async function usualFolders(environment: Readonly<Record<string, string | undefined>>): Promise<string[]> {
  const folders: string[] = [];
  for (const { parent, name } of VERSIONED_FOLDERS) {
    const entries = await readdir(parent).catch(() => []);
    for (const entry of entries.filter((each) => name.test(each)).sort()) {
      const inBin = join(parent, entry, 'bin');
      folders.push(inBin, join(parent, entry));
    }
  }
  folders.push(...(environment['PATH'] ?? '').split(delimiter).filter((folder) => folder !== ''));
  return folders;
}

async function inspect(program: ClientProgram, path: string, file: string): Promise<InstalledProgram | undefined> {
  try {
    await access(path, constants.X_OK);
    const { size, mtimeMs, ctimeMs } = await stat(file);
    const state = JSON.stringify([program, file, size, mtimeMs, ctimeMs]);
    let asking = inspected.get(state);
    if (asking === undefined) {
      asking = askVersion(program, path);
      inspected.set(state, asking);
    }
    const version = await asking;
    if (version === undefined) inspected.delete(state);
    return version && { path, ...version };
  } catch {
    return undefined;
  }
}

/** Undefined for what is no such program, or does not answer. */
async function askVersion(program: ClientProgram, path: string): Promise<Omit<InstalledProgram, 'path'> | undefined> {
  const env = { PATH: process.env.PATH ?? '', LC_ALL: 'C' };
  const text = await programText({ name: program, path, args: ['--version'], env }).catch(() => '');
  const match = /\(PostgreSQL\) ((\d+)(?:\.(\d+))?.*)/.exec(text);
  return match
    ? { version: (match[1] ?? '').trim(), major: Number(match[2]), minor: Number(match[3] ?? 0) }
    : undefined;
}

/**
 * The copy to use with a server: of the server's own major version where there is one, else of the next newer one. An
 * older pg_dump refuses a newer server, and an older psql does not know a newer dump's commands.
 */
export function chooseProgram(
  program: ClientProgram,
  installed: readonly InstalledProgram[],
  serverMajor: number,
): InstalledProgram {
  const usable = installed
    .filter((each) => each.major >= serverMajor)
    .sort((a, b) => a.major - b.major || b.minor - a.minor);
  const [best] = usable;
  if (best) return best;
  const newest = [...installed].sort((a, b) => b.major - a.major)[0];
  throw new PgarkError(
    'client-missing',
    newest
      ? `the server is PostgreSQL ${serverMajor}, and the newest ${program} here is of version ${newest.major}`
      : `${program} is not installed on this machine`,
    {
      hint: `install postgresql-client-${serverMajor} or newer (Debian: apt-get install postgresql-client-${serverMajor}), or name the folder of its programs in PGARK_CLIENT_DIR`,
    },
  );
}

/**
 * First minor release of each major whose psql knows `\restrict` (CVE-2025-8714), which keeps a dump from running
 * commands on the machine that restores it.
 */
const RESTRICT_SINCE: ReadonlyMap<number, number> = new Map([
  [13, 22],
  [14, 19],
  [15, 14],
  [16, 10],
  [17, 6],
]);

export function knowsRestrict(psql: InstalledProgram): boolean {
  return psql.major >= 18 || psql.minor >= (RESTRICT_SINCE.get(psql.major) ?? Number.POSITIVE_INFINITY);
}

/** Error: `client-missing` for a psql that would run a dump's own commands. */
export function requireRestrict(psql: InstalledProgram): void {
  if (knowsRestrict(psql)) return;
  throw new PgarkError(
    'client-missing',
    `psql ${psql.version} does not know \\restrict, so a dump could run programs on this machine (CVE-2025-8714)`,
    { hint: 'update the postgresql-client package to a minor release of August 2025 or later' },
  );
}

/** Every copy of what loads dumps; see `findPrograms`. */
export async function findLoaders(
  alsoIn: string | undefined,
): Promise<Readonly<Record<'psql' | 'pg_restore', readonly InstalledProgram[]>>> {
  const [psql, pgRestore] = await Promise.all([
    findPrograms('psql', process.env, alsoIn),
    findPrograms('pg_restore', process.env, alsoIn),
  ]);
  return { psql, pg_restore: pgRestore };
}

/** What loads a dump. */
export interface Loader {
  /** psql or pg_restore: what talks to the server. */
  readonly program: InstalledProgram;
  /** The pg_restore that first makes SQL text of an archive; then `program` is psql. */
  readonly unpacker?: InstalledProgram;
}

/** From this version on pg_restore gives the server a setting that servers before it reject. */
const PG_RESTORE_NEEDS_SERVER_SINCE = 17;

/**
 * What loads a dump: psql for SQL text, pg_restore for an archive; at least of the server's major version, and of the
 * dump's where there is one, since it may hold what an older one does not know. A pg_restore that the server is too old
 * for makes SQL text instead, which can be made fit for it; so does any with `asText`. `dump` is the version of the
 * pg_dump that wrote it, or of the server it came from. Error: `client-missing`.
 */
export function chooseLoader(
  format: 'sql' | 'archive',
  installed: Readonly<Record<'psql' | 'pg_restore', readonly InstalledProgram[]>>,
  majors: Majors,
  how: { readonly asText: boolean } = { asText: false },
): Loader {
  if (format === 'sql') return { program: choosePsql(installed.psql, majors) };
  const pgRestore = chooseProgram('pg_restore', installed.pg_restore, wantedMajor(installed.pg_restore, majors));
  const knowsServer = pgRestore.major < PG_RESTORE_NEEDS_SERVER_SINCE || majors.server >= PG_RESTORE_NEEDS_SERVER_SINCE;
  if (knowsServer && !how.asText) return { program: pgRestore };
  return { program: choosePsql(installed.psql, majors), unpacker: pgRestore };
}

interface Majors {
  readonly server: number;
  readonly dump: number | undefined;
}

function wantedMajor(installed: readonly InstalledProgram[], majors: Majors): number {
  const newest = Math.max(0, ...installed.map((each) => each.major));
  return Math.max(majors.server, Math.min(majors.dump ?? 0, newest));
}

/** One that knows `\\restrict`, if there is one of a fit version. */
function choosePsql(installed: readonly InstalledProgram[], majors: Majors): InstalledProgram {
  const safe = installed.filter(knowsRestrict);
  const candidates = safe.some((each) => each.major >= majors.server) ? safe : installed;
  const psql = chooseProgram('psql', candidates, wantedMajor(candidates, majors));
  requireRestrict(psql);
  return psql;
}
