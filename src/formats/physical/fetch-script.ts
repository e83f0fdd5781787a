import { toByteString } from '../../postgres/toc/byte-string.ts';
import type { WalFolder } from '../../repository/wal-keys.ts';
import type { TargetFolder } from './target-files.ts';

/** In `pg_wal`, which base backups leave out: nothing of it gets from the restored server into its own backups. */
const FOLDER = 'pg_wal/pgark';

/** How a server that recovers gets WAL: a program, and what it needs. */
export interface FetchProgram {
  /** `pgark … wal fetch …` for a server’s WAL: run with the name of a file and a path behind it. It holds no secret. */
  commandFor(folder: WalFolder): readonly string[];
  /** The directory that relative paths in the command and `environment` start from. */
  readonly directory: string;
  /** Variables that it is run with, secrets among them. */
  readonly environment: Readonly<Record<string, string>>;
}

/** The commands of a server that gets its WAL so, with `%f` and `%p`. They are run in the data directory. */
export const FETCH_COMMANDS = {
  restore: `/bin/sh ${FOLDER}/fetch %f %p`,
  end: `/bin/sh ${FOLDER}/end`,
} as const;

/** Writes what the commands run. Only the owner of the data directory may read it. */
export async function writeFetchScript(data: TargetFolder, program: FetchProgram, folder: WalFolder): Promise<void> {
  await data.makeFolder(toByteString(FOLDER));
  const variables = Object.entries(program.environment).map(([name, value]) => `export ${name}=${forShell(value)}\n`);
  await data.replace(`${FOLDER}/environment`, variables.join(''));
  await data.replace(`${FOLDER}/fetch`, fetchScript(program.commandFor(folder), program.directory));
  await data.replace(`${FOLDER}/end`, endScript());
}

/** Up to 125 a status means the end of what is archived to PostgreSQL; so whatever fails here is 126. */
function fetchScript(command: readonly string[], directory: string): string {
  return `# Written by pgark: the restore_command of this server. 0: found; 1: surely not archived; else it cannot be told.
folder=$PWD/${FOLDER}
target=$PWD/$2
. "$folder/environment" || exit 126
cd ${forShell(directory)} 2>/dev/null || cd /
exec ${command.map(forShell).join(' ')} "$1" "$target"
exit 126
`;
}

function endScript(): string {
  return `# Written by pgark: the recovery_end_command of this server.
rm -rf ${FOLDER}
`;
}

function forShell(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
