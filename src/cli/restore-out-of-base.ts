import { resolve } from 'node:path';
import { Option } from 'commander';
import { PgarkError } from '../common/errors.ts';
import type { Config } from '../config/model.ts';
import type { OutOfBaseOutcome, OutOfBaseRequest } from '../operations/recovery/restore-out-of-base.ts';
import type { CommandRun } from './command.ts';
import { fetchProgramOf } from './fetch-program.ts';
import { recoveryOf } from './recovery-options.ts';
import { temporaryFolder } from './temporary-folder.ts';

type Options = Readonly<Record<string, unknown>>;

export function outOfBaseOptions(): readonly Option[] {
  return [
    new Option(
      '--database <name>',
      'out of a physical backup: this database, at the moment that --at, --lsn, --xid or --restore-point says',
    ),
    new Option(
      '--work-dir <directory>',
      'with --database: a folder with room for the whole server, and the database once more (default: the system’s for temporary files)',
    ),
  ];
}

/** Error: `usage` for options that do not go together. */
export function checkOutOfBase({
  database,
  workDir,
  toDir,
  foreign,
  start,
  port,
  tablespaceMapping,
  replaceUnfinished,
  allowTablespacePaths,
}: Options): void {
  if (database === undefined) {
    if (workDir === undefined) return;
    throw new PgarkError('usage', '--work-dir goes with --database');
  }
  if (database === '') throw new PgarkError('usage', '--database needs the name of a database');
  const misfit = Object.entries({ '--to-dir': toDir, '--foreign': foreign, '--start': start, '--port': port }).find(
    ([, value]) => value !== undefined,
  );
  if (misfit !== undefined) throw new PgarkError('usage', `${misfit[0]} does not go with --database`);
  if (tablespaceMapping !== undefined) throw new PgarkError('usage', '--tablespace-mapping goes with --to-dir');
  if (allowTablespacePaths !== undefined) throw new PgarkError('usage', '--allow-tablespace-paths goes with --to-dir');
  if (replaceUnfinished !== undefined) throw new PgarkError('usage', '--replace-unfinished goes with --to-dir');
}

/** `pgark restore … --database NAME --to-db NAME`: the server that the backup is of is brought back beside it, for a while. */
export async function outOfBase(
  run: CommandRun,
  config: Config,
  from: OutOfBaseRequest['base'],
  load: OutOfBaseRequest['load'],
  options: Options,
): Promise<OutOfBaseOutcome> {
  const { restoreOutOfBase } = await import('../operations/recovery/restore-out-of-base.ts');
  const { cwd, environment } = run.world;
  // What lies there goes over no network.
  const { bandwidthBytesPerSecond: _, ...ofThisMachine } = config;
  const given = typeof options['workDir'] === 'string' ? resolve(cwd, options['workDir']) : undefined;
  return restoreOutOfBase(
    {
      base: { ...from, recovery: recoveryOf(options, fetchProgramOf(run, options)) },
      database: String(options['database']),
      users: ['postgres', load.target.connection.user, environment['PGUSER'] ?? 'postgres'],
      workFolder: given ?? temporaryFolder(environment),
      openWork: (path) => run.open({ type: 'file', name: 'work', path, retry: config.retry }, ofThisMachine),
      load,
    },
    run.context(config),
  );
}
