import { PgarkError } from '../common/errors.ts';
import { dumpArchive, type DumpedFile } from '../formats/directory/archive-dump.ts';
import { PASSPHRASE_FINGERPRINT } from '../pipeline/encryption/sealer.ts';
import { keys } from '../repository/keys.ts';
import type { BackupFile, BackupFormat } from './backup-format.ts';
import type { BackupRequest } from './backup-request.ts';

/** Roles of the files that a manifest names; the rest is in the one of role `contents`. */
const LISTED: ReadonlySet<DumpedFile['role']> = new Set(['toc', 'custom-toc', 'contents', 'sums'] as const);

/** An archive as pg_dump's directory format has it, in a folder of its own; dumped by several sessions at once. */
export function directoryFormat(
  request: Pick<
    BackupRequest,
    'source' | 'connection' | 'seal' | 'excludeTableData' | 'leaseTermMs' | 'jobs' | 'pieceBytes'
  >,
): BackupFormat {
  const { source, connection, seal, excludeTableData, leaseTermMs, jobs, pieceBytes } = request;
  return {
    name: 'directory',
    letter: 'd',
    sender: 'the server',
    check() {
      if (seal.sealer?.record.keyFingerprints.includes(PASSPHRASE_FINGERPRINT) !== true) return;
      throw new PgarkError(
        'config-conflict',
        'format directory has many files, and age asks for the passphrase, and a second of work, for each of them',
        { hint: 'use keys of age (pgark key generate), encryption openssl, or format plain' },
      );
    },
    place({ id }) {
      const folder = keys.archivePrefix(source, id);
      return { key: folder, keys: [], prefixes: [folder] };
    },
    async dump({ name, preparation, ...work }, sink) {
      const inFolder = (file: DumpedFile): BackupFile => ({
        ...file,
        key: `${name.key}${file.name}`,
        isListed: LISTED.has(file.role),
      });
      const last = await dumpArchive(
        {
          connection,
          pgDump: preparation.pgDump,
          serverMajor: preparation.server.major,
          excludeTableData,
          jobs,
          pieceBytes,
          patienceMs: leaseTermMs,
          seal,
          ...work,
        },
        { put: (file) => sink.put(inFolder(file)) },
      );
      return inFolder(last);
    },
  };
}
