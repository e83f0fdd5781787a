import { chmod, cp, mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { runProgram } from '../support/cli.ts';
import type { MatrixClient, MatrixServer } from './matrix-servers.ts';

/** Folders `src/test/regress` of PostgreSQL's own sources, as a PATH does; see docs/compatibility.md. */
const VARIABLE = 'PG_MATRIX_REGRESS';

/** Fewer tables than any version leaves behind whose tests have run. */
const TABLES_MIN = 300;

/** By the major version of the sources, ascending. */
export async function readRegressionFolders(): Promise<ReadonlyMap<number, string>> {
  const folders = (process.env[VARIABLE] ?? '').split(path.delimiter).filter((folder) => folder !== '');
  const found = new Map<number, string>();
  for (const folder of folders) {
    const configure = await readFile(path.join(folder, '../../../configure'), 'utf8');
    found.set(Number(/^PACKAGE_VERSION='(\d+)/m.exec(configure)?.[1]), folder);
  }
  return new Map([...found].sort(([a], [b]) => a - b));
}

/** The newest sources that are not newer than the server. */
export function regressionFolderFor(folders: ReadonlyMap<number, string>, major: number): string | undefined {
  return [...folders].filter(([since]) => since <= major).at(-1)?.[1];
}

/**
 * What PostgreSQL's regression tests leave behind: their SQL in the order of their schedule, as pg_regress runs it. What
 * they came to is no matter: some fail for want of a locale or of a library for this very version.
 */
export async function makeRegressionDatabase(
  server: MatrixServer,
  database: string,
  { folder, client, scratch }: { readonly folder: string; readonly client: MatrixClient; readonly scratch: string },
): Promise<void> {
  const place = path.join(scratch, `regress-${server.major}`);
  await cp(folder, place, { recursive: true });
  // The server reads and writes here as another user.
  await chmod(scratch, 0o755);
  const libraries = await server.query<{ folder: string }>(
    `SELECT setting AS folder FROM pg_config WHERE name = 'PKGLIBDIR'`,
  );
  for (const name of ['refint.so', 'autoinc.so']) {
    await cp(path.join(libraries[0]?.folder ?? '', name), path.join(place, name)).catch(() => {});
  }
  await mkdir(path.join(place, 'results'), { recursive: true });
  await chmod(path.join(place, 'results'), 0o777);
  await mkdir(path.join(place, 'testtablespace'), { recursive: true });
  // Before 15 some are templates.
  const templates = await readdir(path.join(place, 'input')).catch(() => []);
  for (const name of templates.filter((each) => each.endsWith('.source'))) {
    const text = await readFile(path.join(place, 'input', name), 'utf8');
    const filled = text
      .replaceAll(/@abs_(srcdir|builddir)@/g, place)
      .replaceAll('@testtablespace@', path.join(place, 'testtablespace'))
      .replaceAll('@libdir@', place)
      .replaceAll('@DLSUFFIX@', '.so');
    await writeFile(path.join(place, 'sql', name.replace('.source', '.sql')), filled);
  }
  const schedule = await readFile(path.join(place, 'parallel_schedule'), 'utf8');
  const tests = [...schedule.matchAll(/^test: (.*)$/gm)].flatMap(([, names = '']) => names.split(' '));
  const env = {
    ...server.environment(database),
    PG_ABS_SRCDIR: place,
    PG_ABS_BUILDDIR: place,
    PG_LIBDIR: place,
    PG_DLSUFFIX: '.so',
    PGTZ: 'PST8PDT',
    PGDATESTYLE: 'Postgres, MDY',
    PGOPTIONS: '-c intervalstyle=postgres_verbose',
  };
  for (const test of tests) {
    const psql = ['-X', '-q', '-v', 'HIDE_TABLEAM=on', '-v', 'HIDE_TOAST_COMPRESSION=on', '-f', `sql/${test}.sql`];
    await runProgram(path.join(client.binDir, 'psql'), psql, { env, cwd: place });
  }
  const [made] = await server.query<{ tables: number }>(
    `SELECT count(*)::int AS tables FROM pg_class WHERE relkind IN ('r', 'p') AND oid >= 16384`,
    database,
  );
  if (made === undefined || made.tables < TABLES_MIN) {
    throw new Error(`the regression tests of ${folder} have left only ${made?.tables} tables`);
  }
}
