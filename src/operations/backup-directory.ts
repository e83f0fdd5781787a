import { dumpArchive, type DumpedFile } from '../formats/directory/archive-dump.ts';
import { keys } from '../repository/keys.ts';
import { checkForDump } from './backup-checks.ts';
import type { BackupFile, BackupFormat } from './backup-format.ts';
import type { BackupRequest } from './backup-request.ts';

/** Roles of the files that a manifest names; the rest is in the one of role `contents`. */
const LISTED: ReadonlySet<DumpedFile['role']> = new Set(['toc', 'custom-toc', 'contents', 'sums', 'key'] as const);

/** An archive as pg_dump's directory format has it, in a folder of its own; dumped by several sessions at once. */
export function directoryFormat(
  request: Pick<
    BackupRequest,
    'source' | 'connection' | 'seal' | 'excludeTableData' | 'leaseTermMs' | 'jobs' | 'pieceBytes'
  >,
): BackupFormat {
  const { source, seal, excludeTableData, leaseTermMs, jobs, pieceBytes } = request;
  return {
    name: 'directory',
    letter: 'd',
    sender: 'the server',
    check() {},
    place({ id }) {
      const folder = keys.archivePrefix(source, id);
      return { key: folder, keys: [], prefixes: [folder] };
    },
    async prepare(run, context) {
      const preparation = await checkForDump(request.connection, run, context);
      const { pgDump, server, connection } = preparation;
      const dump = { connection, pgDump, serverMajor: server.major, excludeTableData, jobs, pieceBytes, seal };
      return {
        preparation,
        async dump({ name, ...work }, sink) {
          const inFolder = (file: DumpedFile): BackupFile => ({
            ...file,
            key: `${name.key}${file.name}`,
            isListed: LISTED.has(file.role),
          });
          const last = await dumpArchive(
            { ...dump, patienceMs: leaseTermMs, ...work },
            { put: (file) => sink.put(inFolder(file)) },
          );
          return { last: inFolder(last), recorded: {} };
        },
      };
    },
  };
}
